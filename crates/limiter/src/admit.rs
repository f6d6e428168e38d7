//! Where a rate limit is decided.
//!
//! [`Limiter::admit`] takes from all limits of a call or from none. The quick way is one take from each cell. Only when a
//! cell is short does it look further (`admit/slow.rs`): the leader's last verdict, and at most one wait for news.

mod entered;
mod promised;
mod room;
mod slow;
mod standing;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_model::{Incarnation, NodeId, Permits, Subject};
use tidegate_policy::{Limit, OnUnavailable};
use tidegate_quota::cell::{Burnt, Grab, Take};
use tidegate_quota::evidence::{Record, short_name};
use tidegate_quota::holding::Reservation;
use tidegate_quota::protocol::Key;
use tidegate_quota::{Hashing, SubjectHasher, guard};

pub(crate) use self::promised::Waiter;
pub(crate) use self::slow::Next;
use self::standing::{Marks, is_marked, standings};
pub use self::standing::{Standing, Standings};
use crate::bell::Bell;
use crate::decisions::DecisionLog;
use crate::journal::Journal;
use crate::owner::Owners;
use crate::permit::{Permit, Reserved, Taken};
use crate::room::Room;
use crate::running::What;
use crate::silence::Silence;
use crate::slot::{Found, Pinned};
use crate::table::Table;

/// One limit a call must pass.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub limit: &'a Limit,
    pub subject: Subject,
    pub cost: Permits,
}

impl Ask<'_> {
    #[inline]
    #[must_use]
    pub fn key(&self) -> Key {
        Key { limit: self.limit.id, subject: self.subject }
    }
}

/// What a limiter needs to know of its node.
#[derive(Debug)]
pub struct Settings {
    pub node: NodeId,
    /// Drawn anew at each start of the process.
    pub incarnation: Incarnation,
    /// The cluster's secret: subjects are hashed with it, alike on every node.
    pub secret: [u8; 16],
    /// Keys held at once; who comes beyond them has one that nobody uses handed back first.
    pub most_keys: usize,
    pub decisions: Option<DecisionLog>,
}

/// The leases of this node.
#[derive(Debug)]
pub struct Limiter {
    /// Itself, for what outlives a borrow.
    me: Weak<Self>,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    hasher: SubjectHasher,
    pub(crate) table: Table,
    pub(crate) bell: Bell,
    pub(crate) silence: Silence,
    waiting: AtomicUsize,
    /// Live nodes, this one included.
    sharers: AtomicU64,
    decisions: Option<DecisionLog>,
    pub(crate) journal: Option<Arc<Journal>>,
    pub(crate) owners: Owners,
    pub(crate) room: Room,
    /// Of subjects that may have more than their limit says.
    pub(crate) ceilings: arc_swap::ArcSwap<crate::orders::Ceilings>,
    pub(crate) any_ceilings: AtomicBool,
    pub(crate) counters: Counters,
    /// When a cost that was capped was last told of (boot clock); 0: never.
    pub(crate) capped_told: AtomicU64,
}

/// What happened so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    pub batches: AtomicU64,
    pub exchange_failures: AtomicU64,
    /// Requests that waited for the leader.
    pub waited: AtomicU64,
    /// Permits that were taken too late, or while a report was cut.
    pub burnt: AtomicU64,
    /// Requests admitted without a permit by `on_unavailable: allow`: not exact.
    pub allowed_unsafely: AtomicU64,
    pub reserve_used: AtomicU64,
    /// Permits that another node took for this one, as the owner of their keys.
    pub fetched: AtomicU64,
    /// Waits for room for one more key.
    pub overflows: AtomicU64,
    /// Keys handed back to make room for others.
    pub evicted: AtomicU64,
    /// Permits used beyond what was reserved, and not there: owed to the next grants.
    pub owed: AtomicU64,
    /// Permits reserved and not used.
    pub refunded: AtomicU64,
    /// Calls that were said to cost more than one may come to.
    pub capped: AtomicU64,
}

/// All or none: nothing was taken.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Position of the ask that refused.
    pub ask: usize,
    pub why: Why,
    /// Boxed, to keep the usual answer small.
    pub standings: Box<Standings>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// 429.
    Exhausted { retry_after: Duration },
    /// The cost is above the limit's maximum: waiting will not help, so no hint.
    TooCostly,
    /// 503: no leader answers, and the limit does not allow to go on without.
    Unavailable { retry_after: Duration },
}

/// A cell was short, and this is what is known about it. `None`: there is no room for its key.
struct Miss<'l> {
    ask: usize,
    slot: Option<Pinned<'l>>,
}

/// What one ask got, before the clock is read.
enum Got {
    Lease(Grab),
    Reserve(Reserved),
    /// A place of a concurrency limit.
    Place(Grab),
    Promised(Reservation, Option<u64>),
}

/// How several limits are taken from.
#[derive(Clone, Copy)]
enum How<'w> {
    /// One atomic step each. Should one of them be short, the others' permits are put back, unless a report was cut in just
    /// that moment.
    Quickly,
    /// Under each key's lock, as reservations that are settled when all are there. No report tells of them before, so what is
    /// given back comes back whole.
    Surely(Option<&'w Waiter<'w>>),
}

impl<'w> How<'w> {
    #[inline]
    fn is_all_or_none(self) -> bool {
        matches!(self, Self::Surely(_))
    }

    fn waiter(self) -> Option<&'w Waiter<'w>> {
        match self {
            Self::Quickly => None,
            Self::Surely(waiter) => waiter,
        }
    }
}

/// Of several, the first that has too few permits, before any is touched: a call that is refused takes nothing of its other
/// limits, not for a moment. As in [`Limiter::take_all`], a slot that has become another key's is no position.
#[inline]
fn short_at_first_sight(asks: &[Ask<'_>], takings: &[Taking<'_>], how: How<'_>) -> Option<Option<usize>> {
    if takings.len() < 2 {
        return None;
    }
    let is_short = |taking: &Taking<'_>| {
        let ask = &asks[taking.ask];
        let kept_for_it = how.waiter().is_some() && !ask.limit.is_plain();
        let has_another_source = kept_for_it || ask.limit.on_unavailable == OnUnavailable::Share;
        taking.found.slot.cell.left() < ask.cost && !has_another_source
    };
    let nth = takings.iter().position(is_short)?;
    let Taking { ask, found, .. } = &takings[nth];
    found.is_still().then(|| found.slot.learn(asks[*ask].limit)).map(|()| nth).into()
}

/// A slot and what was got from it, for the ask at this position.
struct Taking<'l> {
    ask: usize,
    found: Found<'l>,
    got: Option<Got>,
}

impl Limiter {
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::with_journal(settings, None)
    }

    /// With a journal the death of this process costs budgets nothing.
    #[must_use]
    pub fn with_journal(settings: Settings, journal: Option<Arc<Journal>>) -> Arc<Self> {
        let Settings { node, incarnation, secret, most_keys, decisions } = settings;
        let table = Table::new(most_keys).with_journal(journal.is_some());
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            node,
            incarnation,
            hasher: SubjectHasher::new(&secret),
            bell: Bell::new(table.room()),
            table,
            silence: Silence::none(),
            waiting: AtomicUsize::new(0),
            sharers: AtomicU64::new(1),
            decisions,
            journal,
            owners: Owners::default(),
            room: Room::default(),
            ceilings: arc_swap::ArcSwap::default(),
            any_ceilings: AtomicBool::new(false),
            counters: Counters::default(),
            capped_told: AtomicU64::new(0),
        })
    }

    /// Hashes what a limit counts. `values` are the scope's values in the order of `limit.per`; a part may be empty.
    #[inline]
    #[must_use]
    pub fn subject(&self, limit: &Limit, values: &[&[u8]]) -> Subject {
        self.hasher.subject(limit.id, values.iter().copied())
    }

    /// As [`Limiter::subject`], value by value.
    #[inline]
    #[must_use]
    pub fn hashing(&self, limit: &Limit) -> Hashing {
        self.hasher.begin(limit.id)
    }

    /// The slot of a key. A new one is listed, so that the tick knows of it: it may never be used. `None`: there is no room.
    #[inline]
    pub(crate) fn find(&self, limit: &Limit, subject: Subject) -> Option<Found<'_>> {
        self.table.find(limit, subject, |found| {
            self.bell.list(found.slot, found.number);
            if self.table.is_nearly_full() {
                self.room.ring();
            }
        })
    }

    /// What this node holds of the key is less than the cost: a refusal or a wait is likely.
    #[must_use]
    pub fn is_short(&self, ask: &Ask<'_>) -> bool {
        self.table.peek(ask.key()).is_none_or(|found| found.slot.cell.left() < ask.cost)
    }

    /// Takes from all limits or from none. At most one round trip to the leader, and only if a lease cannot answer.
    ///
    /// # Errors
    /// [`Refused`] names the first limit that said no.
    #[inline]
    pub async fn admit(&self, asks: &[Ask<'_>]) -> Result<Permit<'_>, Refused> {
        match self.try_take(asks, 0, How::Quickly) {
            Ok(taken) => Ok(Permit::new(self, taken)),
            // Boxed: a rare case must not make every request's future larger.
            Err(miss) => Box::pin(self.admit_slowly(asks, miss)).await,
        }
    }

    /// One take from each cell. `spared` marks (by bit) asks that are not taken: observed or allowed without a permit.
    ///
    /// In rounds over all asks: look up, take, read the clock ONCE, hold each take against it. So the look-ups' cache
    /// misses overlap; and no order between the rounds of different asks matters to any of them.
    #[inline]
    fn try_take(&self, asks: &[Ask<'_>], spared: u64, how: How<'_>) -> Result<Taken<'_>, Miss<'_>> {
        if asks.len() > 1 {
            self.table.touch(asks.iter().map(Ask::key));
        }
        loop {
            let mut takings = SmallVec::<[Taking<'_>; 4]>::new();
            for (at, ask) in asks.iter().enumerate().filter(|(at, _)| !is_marked(spared, *at)) {
                match self.find(ask.limit, ask.subject) {
                    Some(found) => takings.push(Taking { ask: at, found, got: None }),
                    None => return Err(Miss { ask: at, slot: None }),
                }
            }
            let missed = match self.take_all(asks, &mut takings, how) {
                Ok(()) => match self.stamp_all(asks, &mut takings) {
                    Ok(all) => return Ok(all),
                    Err(missed) => missed,
                },
                Err(missed) => {
                    self.undo(&mut takings);
                    missed
                }
            };
            if let Some(Taking { ask, found, .. }) = missed.and_then(|nth| takings.get(nth))
                && let Some(slot) = found.pin()
            {
                return Err(Miss { ask: *ask, slot: Some(slot) });
            }
        }
    }

    /// `Err`: the position of the one that is short, or `None` if a slot was found to be another key's: to be tried again.
    #[inline]
    fn take_all(&self, asks: &[Ask<'_>], takings: &mut [Taking<'_>], how: How<'_>) -> Result<(), Option<usize>> {
        if let Some(short) = short_at_first_sight(asks, takings, how) {
            return Err(short);
        }
        let surely = how.is_all_or_none() && takings.len() > 1;
        for (nth, taking) in takings.iter_mut().enumerate() {
            let ask = &asks[taking.ask];
            let at_once = ask.limit.is_plain() && !surely;
            taking.got = match taking.found.slot.cell.grab_if(at_once, ask.cost) {
                Some(grab) => Some(Got::Lease(grab)),
                None if !at_once => match self.take_otherwise(taking, ask, how.waiter()) {
                    None if ask.limit.on_unavailable == OnUnavailable::Share => {
                        self.take_reserved(taking.found, ask).map(Got::Reserve)
                    }
                    got => got,
                },
                None if ask.limit.on_unavailable == OnUnavailable::Share => {
                    self.take_reserved(taking.found, ask).map(Got::Reserve)
                }
                None => None,
            };
            // After the take: see `slot.rs`.
            if !taking.found.is_still() {
                return Err(None);
            }
            taking.found.slot.learn(ask.limit);
            if taking.got.is_none() {
                return Err(Some(nth));
            }
        }
        Ok(())
    }

    /// Holds all that was grabbed against the clock. `Err`: something was burnt and the rest put back; as above.
    #[inline]
    fn stamp_all<'l>(&self, asks: &[Ask<'_>], takings: &mut [Taking<'l>]) -> Result<Taken<'l>, Option<usize>> {
        let now = clock::boot();
        let (mut taken, mut missed) = (Taken::new(now), None);
        for (nth, Taking { ask: at, found, got }) in takings.iter_mut().enumerate() {
            let ask = &asks[*at];
            match got.take() {
                Some(Got::Lease(grab)) => {
                    self.bell.list(found.slot, found.number);
                    if ask.limit.kind.is_journalled() {
                        self.enter(found.slot, ask.cost);
                    }
                    let window = if self.decisions.is_some() { found.slot.window_number(ask.limit) } else { None };
                    match found.slot.cell.stamp(grab, now) {
                        Take::Taken(ticket) => {
                            taken.push(found.slot, ticket);
                            if self.decisions.is_some() {
                                taken.note(ask.key(), window);
                            }
                        }
                        burnt => match self.after_burning(*found, ask, &burnt) {
                            Some(reserved) => taken.push_reserved(reserved),
                            None => missed = Some((burnt == Take::Burnt(Burnt::Lapsed)).then_some(nth)),
                        },
                    }
                }
                Some(Got::Reserve(reserved)) => taken.push_reserved(reserved),
                Some(Got::Place(grab)) => match self.stamp_place(found, ask, *at, grab, now) {
                    Some(held) => taken.hold(held),
                    None => missed = Some(Some(nth)),
                },
                Some(Got::Promised(reservation, window)) => {
                    match self.held(found, ask, *at, What::reserved(reservation, window)) {
                        Some(held) => taken.hold(held),
                        None => missed = Some(None),
                    }
                }
                None => {}
            }
        }
        if let Some(missed) = missed {
            taken.give_back(self);
            return Err(missed);
        }
        if taken.is_mixed() {
            taken.stand(standings(self, asks, Marks::default()));
        }
        Ok(taken)
    }

    /// A lapsed lease is as good as none, whatever is left in its cell.
    #[cold]
    fn after_burning(&self, found: Found<'_>, ask: &Ask<'_>, burnt: &Take) -> Option<Reserved> {
        self.counters.burnt.fetch_add(1, Ordering::Relaxed);
        let lapsed = *burnt == Take::Burnt(Burnt::Lapsed);
        let share = ask.limit.on_unavailable == OnUnavailable::Share;
        if lapsed && share { self.take_reserved(found, ask) } else { None }
    }

    /// Gives back what was grabbed, by the same rules as if it had been stamped and dropped.
    #[cold]
    fn undo(&self, takings: &mut [Taking<'_>]) {
        if !guard!("all-or-none") {
            return;
        }
        let now = clock::boot();
        for Taking { found, got, .. } in takings {
            let grab = match got.take() {
                Some(Got::Lease(grab)) => grab,
                Some(Got::Place(grab)) => {
                    found.slot.cell.ungrab(grab);
                    continue;
                }
                Some(Got::Promised(reservation, _)) => {
                    let _whole = self.settle(found.slot, reservation, Permits::ZERO);
                    continue;
                }
                Some(Got::Reserve(_)) | None => continue,
            };
            self.bell.list(found.slot, found.number);
            match found.slot.cell.stamp(grab, now) {
                Take::Taken(ticket) => {
                    found.slot.cell.put_back(ticket);
                }
                Take::Burnt(_) | Take::Short => {
                    self.counters.burnt.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    #[cold]
    fn take_reserved(&self, found: Found<'_>, ask: &Ask<'_>) -> Option<Reserved> {
        let mut holding = found.slot.holding();
        if !found.is_still() {
            return None; // Under the lock: it will not change before the take.
        }
        let at = clock::boot();
        let got = holding.reserve.take(ask.cost, ask.limit.span(), at);
        drop(holding);
        got.then(|| {
            self.counters.reserve_used.fetch_add(1, Ordering::Relaxed);
            Reserved { key: ask.key(), cost: ask.cost, at }
        })
    }

    pub(crate) fn shared(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// So many nodes take from the same limits.
    pub fn share_with(&self, nodes: usize) {
        self.sharers.store(nodes as u64, Ordering::Relaxed);
    }

    /// The decision log, if it is kept.
    #[inline]
    pub(crate) fn decisions(&self) -> Option<&DecisionLog> {
        self.decisions.as_ref()
    }

    /// These nodes are alive, this one among them, and take from the same limits.
    pub fn know_nodes(&self, nodes: Vec<NodeId>) {
        self.share_with(nodes.len());
        self.owners.know_nodes(nodes);
    }

    /// These limits are in force from now on: what this node takes for others, and what the decision log is told.
    pub fn note_limits<'a>(&self, limits: impl IntoIterator<Item = &'a Limit> + Clone) {
        let known = limits.clone().into_iter().map(|limit| (limit.id, Arc::new(limit.clone())));
        self.owners.know_limits(known.collect());
        let Some(log) = &self.decisions else { return };
        for limit in limits {
            let (at, id) = (clock::boot(), limit.id);
            log.write(Record::Name { at, limit: id, name: short_name(&limit.name) });
            log.write(Record::policy(at, id, limit.max, &limit.kind));
        }
    }

    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Keys this node holds now.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.table.len()
    }

    /// Keys it may hold.
    #[must_use]
    pub fn most_keys(&self) -> usize {
        self.table.most()
    }

    /// How long no leader has answered; `None`: the last exchange went well.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        self.silence.lasts()
    }
}
