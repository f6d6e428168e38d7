//! What operators order about limits, beside the document: maxima for a while, extra permits, counts begun anew, callers
//! blocked. Each order is dated and has an author.
//!
//! Orders are words here: which counter is meant, the admin port found out; what becomes of it, the quota log decides; who
//! is refused, every node. An order with an end is in force until it is lapsed by an entry, so that all replicas agree.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tidegate_model::{KeyId, LimitId, Millis, Nanos, Subject};

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

/// Orders in force at a time.
pub const MOST_ORDERS: usize = 2_000;
/// Events remembered.
const MOST_EVENTS: usize = 1_000;
/// Resets that the quota log may not have heard of yet.
const MOST_RESETS: usize = 1_000;
/// Longest reason, in bytes.
pub const MAX_REASON: usize = 1_024;
/// Longest words of a subject, in bytes.
const MAX_WORDS: usize = 1_024;

/// Whom an order is about. Positional: append only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Whom {
    /// One limit, by the id it had when the order was given: another window or scope is another limit.
    Limit {
        limit: LimitId,
        name: String,
        /// `None`: all its subjects.
        subject: Option<Subject>,
        /// The subject for people.
        words: String,
    },
    Key(KeyId),
    Consumer {
        tenant: String,
        name: String,
    },
}

/// What is ordered. Positional: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum What {
    /// Instead of the document's maximum.
    Max(u64),
    /// So many permits more, once.
    Extra(u64),
    /// The count begins anew.
    Reset,
    /// Refused.
    Block,
    /// So many each so often instead of the rate of the document's bucket, and maybe another burst.
    Rate { permits: u64, per: Nanos, burst: Option<u64> },
}

/// To be taken back. Positional: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Withdrawn {
    Max,
    Extra,
    Block,
}

/// As it is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Draft {
    pub whom: Whom,
    pub what: What,
    /// Name of the admin token.
    pub author: String,
    pub reason: String,
    pub until: Option<Millis>,
}

/// In force.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    pub id: u64,
    pub at: Millis,
    pub draft: Draft,
}

/// What happened to an order. Positional: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Happened {
    Given,
    Withdrawn,
    Lapsed,
    /// Another order of the same kind took its place.
    Replaced,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    pub at: Millis,
    pub happened: Happened,
    pub order: u64,
    /// As it was given; the author of a withdrawal in place of the order's.
    pub draft: Draft,
}

/// A count that begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reset {
    pub id: u64,
    pub limit: LimitId,
    pub subject: Option<Subject>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Orders {
    /// Grows with each change.
    epoch: u64,
    in_force: BTreeMap<u64, Order>,
    /// Oldest first.
    resets: VecDeque<Reset>,
    events: VecDeque<Event>,
}

impl Orders {
    /// Of the newest change; 0: nothing was ever ordered.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Those that were not taken back and have not lapsed, oldest first.
    pub fn in_force(&self) -> impl Iterator<Item = &Order> {
        self.in_force.values()
    }

    /// Oldest first; those of long ago are forgotten.
    pub fn resets(&self) -> impl Iterator<Item = &Reset> {
        self.resets.iter()
    }

    /// Oldest first; those of long ago are forgotten.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// Is there one that ended before this?
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        self.in_force.values().any(|order| order.has_ended(now))
    }

    pub(crate) fn give(&mut self, draft: &Draft, at: Millis) -> (Outcome, Vec<Change>) {
        if let Some(limit) = draft.too_long() {
            return (Outcome::TooLarge { limit: limit as u64 }, Vec::new());
        }
        let same = |order: &&Order| order.draft.stands_for(&draft.whom, draft.what.withdrawn());
        // Two grants are two grants; of maxima and blocks the newest counts.
        let replaced = match draft.what {
            What::Max(_) | What::Rate { .. } | What::Block => self.in_force.values().find(same).map(|order| order.id),
            What::Extra(_) | What::Reset => None,
        };
        if MOST_ORDERS <= self.in_force.len() && replaced.is_none() && draft.what != What::Reset {
            return (Outcome::Full, Vec::new());
        }
        self.epoch += 1;
        let id = self.epoch;
        if let Some(order) = replaced.and_then(|id| self.in_force.remove(&id)) {
            self.tell(at, Happened::Replaced, order.id, order.draft);
        }
        match (draft.what, &draft.whom) {
            (What::Reset, Whom::Limit { limit, subject, .. }) => {
                if self.resets.len() == MOST_RESETS {
                    self.resets.pop_front();
                }
                self.resets.push_back(Reset { id, limit: *limit, subject: *subject });
            }
            (What::Reset, _) => {}
            _ => drop(self.in_force.insert(id, Order { id, at, draft: draft.clone() })),
        }
        self.tell(at, Happened::Given, id, draft.clone());
        (Outcome::Ordered { id }, vec![Change::Orders])
    }

    pub(crate) fn withdraw(
        &mut self,
        whom: &Whom,
        what: Withdrawn,
        author: &str,
        at: Millis,
    ) -> (Outcome, Vec<Change>) {
        if author.len() > MAX_NAME {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        let gone: Vec<u64> =
            self.in_force.values().filter(|order| order.draft.stands_for(whom, Some(what))).map(|o| o.id).collect();
        if gone.is_empty() {
            return (Outcome::NotFound, Vec::new());
        }
        self.epoch += 1;
        for order in gone.into_iter().filter_map(|id| self.in_force.remove(&id)).collect::<Vec<_>>() {
            let draft = Draft { author: author.to_owned(), ..order.draft };
            self.tell(at, Happened::Withdrawn, order.id, draft);
        }
        (Outcome::Ordered { id: self.epoch }, vec![Change::Orders])
    }

    /// Whatever has ended by `now` is no longer in force.
    pub(crate) fn lapse(&mut self, now: Millis) -> (Outcome, Vec<Change>) {
        let ended: Vec<u64> = self.in_force.values().filter(|order| order.has_ended(now)).map(|o| o.id).collect();
        if ended.is_empty() {
            return (Outcome::Done, Vec::new());
        }
        self.epoch += 1;
        for order in ended.into_iter().filter_map(|id| self.in_force.remove(&id)).collect::<Vec<_>>() {
            self.tell(now, Happened::Lapsed, order.id, order.draft);
        }
        (Outcome::Done, vec![Change::Orders])
    }

    fn tell(&mut self, at: Millis, happened: Happened, order: u64, draft: Draft) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, happened, order, draft });
    }
}

impl Order {
    #[must_use]
    pub fn has_ended(&self, now: Millis) -> bool {
        self.draft.until.is_some_and(|until| until <= now)
    }
}

impl What {
    /// The maximum, or burst, that is ordered.
    #[must_use]
    pub fn maximum(self) -> Option<u64> {
        match self {
            Self::Max(max) => Some(max),
            Self::Rate { burst, .. } => burst,
            Self::Extra(_) | Self::Reset | Self::Block => None,
        }
    }

    /// The rate that is ordered: so many, each so often.
    #[must_use]
    pub fn rate(self) -> Option<(u64, Nanos)> {
        match self {
            Self::Rate { permits, per, .. } => Some((permits, per)),
            Self::Max(_) | Self::Extra(_) | Self::Reset | Self::Block => None,
        }
    }

    /// How it is taken back; `None`: what has happened cannot be.
    #[must_use]
    pub fn withdrawn(self) -> Option<Withdrawn> {
        match self {
            Self::Max(_) | Self::Rate { .. } => Some(Withdrawn::Max),
            Self::Extra(_) => Some(Withdrawn::Extra),
            Self::Block => Some(Withdrawn::Block),
            Self::Reset => None,
        }
    }
}

impl Draft {
    fn stands_for(&self, whom: &Whom, what: Option<Withdrawn>) -> bool {
        self.what.withdrawn() == what && self.whom.is(whom)
    }

    fn too_long(&self) -> Option<usize> {
        let names: [&str; 2] = match &self.whom {
            Whom::Limit { name, words, .. } if words.len() <= MAX_WORDS => [name, ""],
            Whom::Limit { .. } => return Some(MAX_WORDS),
            Whom::Key(_) => ["", ""],
            Whom::Consumer { tenant, name } => [tenant, name],
        };
        if self.reason.len() > MAX_REASON {
            return Some(MAX_REASON);
        }
        let long = names.iter().chain(&[self.author.as_str()]).any(|name| name.len() > MAX_NAME);
        long.then_some(MAX_NAME)
    }
}

impl Whom {
    /// The same, however it is worded.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Limit { limit, subject, .. }, Self::Limit { limit: other, subject: of_other, .. }) => {
                limit == other && subject == of_other
            }
            _ => self == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(subject: Option<u128>, what: What, until: Option<u64>) -> Draft {
        Draft {
            whom: Whom::Limit {
                limit: LimitId(1),
                name: "per-key".into(),
                subject: subject.map(Subject),
                words: String::new(),
            },
            what,
            author: "ann".into(),
            reason: String::new(),
            until: until.map(Millis),
        }
    }

    fn told(orders: &Orders) -> Vec<(u64, Happened)> {
        orders.events().map(|event| (event.order, event.happened)).collect()
    }

    #[test]
    fn the_newest_maximum_of_a_counter_counts_and_grants_add_up() {
        let mut orders = Orders::default();
        for what in [What::Max(5), What::Max(7), What::Extra(1), What::Extra(1)] {
            orders.give(&draft(Some(1), what, None), Millis(1));
        }
        orders.give(&draft(None, What::Max(9), None), Millis(1));
        assert_eq!(orders.in_force().map(|order| order.id).collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(told(&orders)[1], (1, Happened::Replaced));
        let (outcome, changes) =
            orders.withdraw(&draft(Some(1), What::Reset, None).whom, Withdrawn::Extra, "bo", Millis(2));
        assert_eq!((outcome, changes), (Outcome::Ordered { id: 6 }, vec![Change::Orders]));
        assert_eq!(orders.in_force().count(), 2);
        assert_eq!(orders.events().next_back().map(|event| event.draft.author.as_str()), Some("bo"));
        let nobody = orders.withdraw(&Whom::Key(KeyId(1)), Withdrawn::Block, "bo", Millis(2));
        assert_eq!(nobody, (Outcome::NotFound, Vec::new()));
    }

    #[test]
    fn a_rate_takes_the_place_of_a_maximum_and_is_taken_back_as_one() {
        let mut orders = Orders::default();
        let rate = What::Rate { permits: 20, per: Nanos::SECOND, burst: None };
        for what in [What::Max(5), rate] {
            orders.give(&draft(Some(1), what, None), Millis(1));
        }
        assert_eq!(orders.in_force().map(|order| order.draft.what).collect::<Vec<_>>(), [rate]);
        assert_eq!((rate.maximum(), rate.rate()), (None, Some((20, Nanos::SECOND))));
        orders.withdraw(&draft(Some(1), What::Reset, None).whom, Withdrawn::Max, "bo", Millis(2));
        assert_eq!(orders.in_force().count(), 0);
    }

    #[test]
    fn an_order_ends_by_itself_and_that_is_told() {
        let mut orders = Orders::default();
        orders.give(&draft(None, What::Max(5), Some(100)), Millis(1));
        assert!(!orders.is_due(Millis(99)) && orders.is_due(Millis(100)));
        assert_eq!(orders.lapse(Millis(99)), (Outcome::Done, Vec::new()));
        assert_eq!(orders.lapse(Millis(100)).1, [Change::Orders]);
        assert_eq!(told(&orders), [(1, Happened::Given), (1, Happened::Lapsed)]);
        assert_eq!((orders.in_force().count(), orders.epoch()), (0, 2));
    }

    #[test]
    fn everything_is_bounded_and_what_is_too_much_changes_nothing() {
        let mut orders = Orders::default();
        for subject in 0..2 * MOST_ORDERS as u128 {
            orders.give(&draft(Some(subject), What::Block, None), Millis(1));
        }
        assert_eq!((orders.in_force().count(), orders.events().count()), (MOST_ORDERS, MOST_EVENTS));
        assert_eq!(orders.give(&draft(None, What::Max(1), None), Millis(1)).0, Outcome::Full);
        for _ in 0..2 * MOST_RESETS {
            orders.give(&draft(None, What::Reset, None), Millis(1));
        }
        assert_eq!(orders.resets().count(), MOST_RESETS);
        let before = orders.clone();
        let long = Draft { reason: "x".repeat(MAX_REASON + 1), ..draft(None, What::Reset, None) };
        assert_eq!(orders.give(&long, Millis(1)).0, Outcome::TooLarge { limit: MAX_REASON as u64 });
        assert_eq!(orders, before);
    }
}
