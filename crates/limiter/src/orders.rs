//! What operators ordered about limits, as far as a node need know: how much a subject may have at most, what it is told, and
//! what goes into the decision log. What is granted, the ledger decides.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use tidegate_clock as clock;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_policy::Kind;
use tidegate_quota::cell;
use tidegate_quota::evidence::Record;
use tidegate_quota::protocol::{Key, Rate};

use crate::admit::{Ask, Limiter};

/// What single subjects have that is not what their limit says.
pub type Ceilings = HashMap<Key, Ceiling>;

/// Of one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ceiling {
    /// Its own maximum.
    pub max: Option<Permits>,
    /// Its bucket's own rate.
    pub rate: Option<Rate>,
    /// More was granted, once: whether a cost above the maximum is met by it, the ledger knows.
    pub granted: bool,
}

/// What a subject is told of its own limit, where that is not what the document says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub max: Permits,
    pub span: Nanos,
}

impl Limiter {
    /// Takes the place of what was said before.
    pub fn set_ceilings(&self, ceilings: Ceilings) {
        let any = !ceilings.is_empty();
        self.ceilings.store(ceilings.into());
        self.any_ceilings.store(any, Ordering::Relaxed);
    }

    /// Forgets what the leader said about when to ask again: operators may have ordered something else since.
    pub fn ask_anew(&self) {
        for slot in self.table.all() {
            slot.cover(clock::boot(), Nanos::ZERO);
        }
    }

    /// The count of a limit, or of one subject of it, begins anew: what calls used beyond their reservations is forgotten with
    /// the rest.
    pub fn forgive(&self, limit: LimitId, subject: Option<Subject>) {
        for slot in self.table.all() {
            let mut holding = slot.holding();
            let key = holding.key();
            if key.limit == limit && subject.is_none_or(|subject| subject == key.subject) {
                holding.forgive();
            }
        }
    }

    /// Has any subject something of its own? Hardly ever.
    #[inline]
    #[must_use]
    pub fn has_ceilings(&self) -> bool {
        self.any_ceilings.load(Ordering::Relaxed)
    }

    /// What this ask's subject has of its own: maximum, rate, or both.
    #[must_use]
    pub fn own(&self, ask: &Ask<'_>) -> Option<Quota> {
        if !self.has_ceilings() {
            return None;
        }
        let ceiling = self.ceilings.load().get(&ask.key()).copied()?;
        if ceiling.max.is_none() && ceiling.rate.is_none() {
            return None;
        }
        let max = ceiling.max.unwrap_or(ask.limit.max);
        let span = match ceiling.rate {
            Some(rate) => ask.limit.kind.at_rate(rate).span(max),
            None => ask.limit.kind.span(max),
        };
        Some(Quota { max, span })
    }

    /// What "a while" means to this ask's subject.
    #[inline]
    pub(crate) fn span(&self, ask: &Ask<'_>) -> Nanos {
        self.own(ask).map_or_else(|| ask.limit.span(), |own| own.span)
    }

    /// Waiting would not help: more than the subject may have at a time, with what a period may leave to the next one; or more than a
    /// node can have in its hand, which of what is reserved it need not.
    pub(crate) fn is_too_costly(&self, ask: &Ask<'_>) -> bool {
        let carried = match &ask.limit.kind {
            Kind::Budget(budget) => budget.carry,
            _ => Permits::ZERO,
        };
        ask.cost > self.ceiling(ask).saturating_add(carried) || ask.limit.is_plain() && ask.cost > cell::MOST
    }

    /// The maximum of the ask's subject: its own, or its limit's.
    pub(crate) fn maximum(&self, ask: &Ask<'_>) -> Permits {
        self.own(ask).map_or(ask.limit.max, |own| own.max)
    }

    /// What the subject may have at a time, as far as a node knows.
    pub(crate) fn ceiling(&self, ask: &Ask<'_>) -> Permits {
        match self.ceilings.load().get(&ask.key()) {
            Some(Ceiling { granted: true, .. }) => Permits::MAX,
            Some(Ceiling { max: Some(max), .. }) => *max,
            _ => ask.limit.max,
        }
    }

    /// Writes something down for the judge of decision logs, if one is kept.
    pub fn note(&self, record: impl FnOnce(Nanos) -> Record) {
        if let Some(log) = self.decisions() {
            log.write(record(clock::boot()));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tidegate_model::{Incarnation, NodeId};
    use tidegate_policy::Kind;

    use super::*;
    use crate::{Settings, fixtures};

    #[test]
    fn who_has_a_maximum_or_a_rate_of_his_own_is_told_of_it_and_nobody_else_is() {
        let limiter = Limiter::new(Settings {
            node: NodeId(1),
            incarnation: Incarnation(1),
            secret: [1; 16],
            most_keys: 64,
            decisions: None,
        });
        let rate = Rate { permits: 10, per: Nanos::SECOND };
        let limit = tidegate_policy::Limit { max: Permits(20), kind: Kind::Bucket { rate }, ..fixtures::limit() };
        let ask = |subject| Ask { limit: &limit, subject: Subject(subject), cost: Permits(1) };
        assert_eq!((limiter.own(&ask(1)), limiter.span(&ask(1))), (None, Nanos::from_secs(2)));
        let faster = Rate { permits: 40, ..rate };
        limiter.set_ceilings(Ceilings::from([
            (ask(1).key(), Ceiling { max: Some(Permits(30)), ..Ceiling::default() }),
            (ask(2).key(), Ceiling { rate: Some(faster), ..Ceiling::default() }),
            (ask(3).key(), Ceiling { granted: true, ..Ceiling::default() }),
        ]));
        assert_eq!(limiter.own(&ask(1)), Some(Quota { max: Permits(30), span: Nanos::from_secs(3) }));
        assert_eq!(limiter.own(&ask(2)), Some(Quota { max: Permits(20), span: Nanos::from_millis(500) }));
        assert_eq!((limiter.own(&ask(3)), limiter.own(&ask(4))), (None, None));
        let most = [1, 2, 3, 4].map(|subject| limiter.ceiling(&ask(subject)));
        assert_eq!(most, [Permits(30), Permits(20), Permits::MAX, Permits(20)]);
        limiter.set_ceilings(Ceilings::new());
        assert_eq!((limiter.own(&ask(1)), limiter.ceiling(&ask(1))), (None, Permits(20)));
    }
}
