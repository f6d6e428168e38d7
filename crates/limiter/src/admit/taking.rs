//! A call's permits, all or none, in rounds over its asks: look up, take, read the clock once, hold each take against it.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_model::Permits;
use tidegate_policy::{Nature, OnUnavailable};
use tidegate_quota::cell::{Burnt, Grab, Take};
use tidegate_quota::holding::Reservation;
use tidegate_quota::{Holding, guard};

use super::standing::{Marks, is_marked, standings};
use super::{Ask, Limiter, Miss, Waiter};
use crate::permit::{Reserved, Taken};
use crate::running::What;
use crate::slot::Found;
use crate::sync::MutexGuard;

/// Where less than so many calls' worth are left, a permit that a report burns is a good part of what somebody may have.
const LAST: u64 = 4;

/// What one ask got, before the clock is read.
pub(super) enum Got {
    Lease(Grab),
    Reserve(Reserved),
    /// A place of a concurrency limit.
    Place(Grab),
    Promised(Reservation, Option<u64>),
}

/// How several limits are taken from.
#[derive(Clone, Copy)]
pub(super) enum How<'w> {
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

/// What a look at a cell says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Short,
    Last,
    Plenty,
}

/// A slot and what was got from it, for the ask at this position.
pub(super) struct Taking<'l> {
    pub(super) ask: usize,
    pub(super) found: Found<'l>,
    got: Option<Got>,
    seen: Seen,
    /// From the take until it is held against the clock no report is cut.
    undisturbed: Option<MutexGuard<'l, Holding>>,
}

impl<'l> Taking<'l> {
    fn of(ask: usize, found: Found<'l>) -> Self {
        Self { ask, found, got: None, seen: Seen::Plenty, undisturbed: None }
    }

    #[inline]
    fn look(&mut self, cost: Permits) {
        let left = self.found.slot.cell.left();
        self.seen = match () {
            () if left < cost => Seen::Short,
            () if left.0 < LAST.saturating_mul(cost.0) => Seen::Last,
            () => Seen::Plenty,
        };
    }
}

/// The last permits of a key are taken under its lock, for a report that is cut in between would burn them; and a node is
/// asked for a report whenever another one is short of what it has. One lock is waited for after the other, in the order
/// of their slots: so not where some of the call's permits are reserved, which may wait for a lock too.
#[inline]
fn keep_reports_off(asks: &[Ask<'_>], takings: &mut [Taking<'_>]) {
    let mut any = false;
    for taking in &mut *takings {
        let ask = &asks[taking.ask];
        if ask.limit.is_plain() {
            taking.look(ask.cost);
            any |= taking.seen == Seen::Last;
        }
    }
    if any && asks.iter().all(is_one_step) {
        take_turns(takings);
    }
}

#[cold]
fn take_turns(takings: &mut [Taking<'_>]) {
    let mut last: SmallVec<[_; 4]> = takings.iter_mut().filter(|taking| taking.seen == Seen::Last).collect();
    last.sort_unstable_by_key(|taking| taking.found.number);
    last.dedup_by_key(|taking| taking.found.number);
    for taking in last {
        taking.undisturbed = Some(taking.found.slot.holding());
    }
}

/// No lock is waited for. Of places neither: no report burns one, and they are taken without.
fn is_one_step(ask: &Ask<'_>) -> bool {
    let takes_no_lock = ask.limit.is_plain() || ask.limit.kind.nature() == Nature::InUse;
    takes_no_lock && ask.limit.on_unavailable != OnUnavailable::Share
}

impl Limiter {
    /// One take from each cell. `spared` marks (by bit) asks that are not taken: observed or allowed without a permit.
    ///
    /// In rounds over all asks: look up, take, read the clock ONCE, hold each take against it. So the look-ups' cache
    /// misses overlap; and no order between the rounds of different asks matters to any of them.
    #[inline]
    pub(super) fn try_take(&self, asks: &[Ask<'_>], spared: u64, how: How<'_>) -> Result<Taken<'_>, Miss<'_>> {
        if asks.len() > 1 {
            self.table.touch(asks.iter().map(Ask::key));
        }
        loop {
            let mut takings = SmallVec::<[Taking<'_>; 4]>::new();
            for (at, ask) in asks.iter().enumerate().filter(|(at, _)| !is_marked(spared, *at)) {
                match self.find(ask.limit, ask.subject) {
                    Some(found) => takings.push(Taking::of(at, found)),
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
        if !surely {
            keep_reports_off(asks, takings);
        }
        for (nth, taking) in takings.iter_mut().enumerate() {
            let ask = &asks[taking.ask];
            let at_once = ask.limit.is_plain() && !surely;
            taking.got = match taking.found.slot.cell.grab_if(at_once && taking.seen != Seen::Short, ask.cost) {
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
        for (nth, Taking { ask: at, found, got, undisturbed, .. }) in takings.iter_mut().enumerate() {
            let ask = &asks[*at];
            match got.take() {
                Some(Got::Lease(grab)) => {
                    if ask.limit.kind.is_journalled() {
                        self.enter(found.slot, ask.cost);
                    }
                    let window = if self.decisions.is_some() { found.slot.window_number(ask.limit) } else { None };
                    let stamped = found.slot.cell.stamp(grab, now);
                    *undisturbed = None;
                    // Not before: who is woken by it may cut a report at once.
                    self.bell.list(found.slot, found.number);
                    match stamped {
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
        for Taking { found, got, undisturbed, .. } in takings {
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
            match found.slot.cell.stamp(grab, now) {
                Take::Taken(ticket) => {
                    found.slot.cell.put_back(ticket);
                }
                Take::Burnt(_) | Take::Short => {
                    self.counters.burnt.fetch_add(1, Ordering::Relaxed);
                }
            }
            *undisturbed = None;
            self.bell.list(found.slot, found.number);
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
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tidegate_model::{Incarnation, Nanos, NodeId, Subject};

    use super::*;
    use crate::Settings;
    use crate::fixtures::{grant_at, limit};

    /// A report is cut with each permit that is granted, and the permit is taken at once.
    #[test]
    fn no_report_burns_the_last_permit_of_a_key() {
        const PERMITS: u64 = 50_000;
        const LEASE: Nanos = Nanos::from_secs(3_600);
        let settings =
            Settings { node: NodeId(1), incarnation: Incarnation(1), secret: [0; 16], most_keys: 10, decisions: None };
        let limiter = Limiter::new(settings);
        let limit = limit();
        let ask = Ask { limit: &limit, subject: Subject(1), cost: Permits(1) };
        let slot = limiter.find(&limit, ask.subject).expect("room").slot;
        let taken = std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let burnt = || limiter.counters.burnt.load(Ordering::Relaxed);
                let mut taken = 0;
                while taken + burnt() < PERMITS {
                    match limiter.try_take(std::slice::from_ref(&ask), 0, How::Quickly) {
                        Ok(_) => taken += 1,
                        Err(_) => std::thread::yield_now(),
                    }
                }
                taken
            });
            for seq in 1.. {
                grant_at(slot, u64::from(slot.cell.left() == Permits(0)), seq, clock::boot(), LEASE);
                if taker.is_finished() {
                    break;
                }
            }
            taker.join().expect("no panic")
        });
        assert_eq!(taken, PERMITS);
    }
}
