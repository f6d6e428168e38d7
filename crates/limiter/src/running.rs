//! What a call holds while it runs: places of concurrency limits, and reservations that are settled when it is known what was
//! used. However the call ends, this ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Limit, Mode};
use tidegate_quota::cell::Ticket;
use tidegate_quota::evidence::{Record, RequestMark};
use tidegate_quota::holding::Reservation;
use tidegate_quota::protocol::Key;

use crate::admit::Limiter;
use crate::slot::{Handle, Kept};

/// A place, or a reservation. Not dropped before [`Held::release`] or [`Held::settle`].
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) slot: Kept,
    pub(crate) key: Key,
    pub(crate) what: What,
    /// What was reserved, piece by piece: as the decision log has it.
    pieces: SmallVec<[(Nanos, Permits); 1]>,
    /// The calendar window that it counts to.
    pub(crate) window: Option<u64>,
    /// Which of the asks it was.
    pub(crate) ask: usize,
    pub(crate) binds: bool,
    /// Reserved only until all limits of the call were taken: then it is spent.
    pub(crate) is_plain: bool,
}

#[derive(Debug)]
pub(crate) enum What {
    /// In use until the call ends.
    Place(Ticket),
    Reserved(Reservation),
}

impl Held {
    pub(crate) fn of(slot: Kept, limit: &Limit, key: Key, what: What, window: Option<u64>, ask: usize) -> Self {
        let (pieces, binds, is_plain) = (SmallVec::new(), limit.mode == Mode::Enforce, limit.is_plain());
        let mut held = Self { slot, key, what, pieces, window, ask, binds, is_plain };
        held.pieces.push((held.at(), held.cost()));
        held
    }

    pub(crate) fn cost(&self) -> Permits {
        match &self.what {
            What::Place(ticket) => ticket.cost,
            What::Reserved(reservation) => reservation.cost,
        }
    }

    /// When it was taken.
    pub(crate) fn at(&self) -> Nanos {
        match &self.what {
            What::Place(ticket) => ticket.at,
            What::Reserved(reservation) => reservation.at,
        }
    }

    /// The call is on its way, and what it costs is known.
    pub(crate) fn spend(self, limiter: &Limiter) {
        let cost = self.cost();
        self.end(limiter, None, cost);
    }

    /// As if it had not been taken.
    pub(crate) fn give_back(self, limiter: &Limiter) {
        self.end(limiter, None, Permits::ZERO);
    }

    /// `request`: it was used, and the decision log knows of it.
    fn end(self, limiter: &Limiter, request: Option<RequestMark>, used: Permits) {
        let Self { slot, key, what, pieces, .. } = self;
        match what {
            What::Place(ticket) => {
                // Written down before somebody else may have the place: ends never come after the next begins.
                if let (Some(log), Some(request)) = (limiter.decisions(), request) {
                    // A lease that has ended holds nothing, however late this comes.
                    let lives = if slot.cell.is_of(ticket) { slot.cell.expiry() } else { slot.lapsed_at() };
                    log.write(Record::End { at: clock::boot().min(lives), key, cost: ticket.cost, request });
                }
                slot.cell.put_back(ticket);
            }
            What::Reserved(reservation) => {
                let reserved = reservation.cost;
                let (settled, window) = limiter.settle(&slot, reservation, used);
                limiter.counters.owed.fetch_add(settled.owed.0, Ordering::Relaxed);
                limiter.counters.refunded.fetch_add(settled.refunded.0, Ordering::Relaxed);
                if let (Some(log), Some(request)) = (limiter.decisions(), request) {
                    // What is owed nobody was admitted for: it is told with the last piece.
                    let (mut left, last) = (used, pieces.len() - 1);
                    for (nth, (at, reserved)) in pieces.into_iter().enumerate() {
                        let used = reserved.min(left);
                        left = left.saturating_sub(used);
                        let used = if nth == last { used.saturating_add(settled.owed) } else { used };
                        log.write(Record::Settled { at, key, used, reserved });
                    }
                    let beyond = used.saturating_sub(reserved).saturating_sub(settled.owed);
                    if beyond != Permits::ZERO {
                        log.write(Record::taken(clock::boot(), key, beyond, request, window));
                    }
                }
            }
        }
        limiter.bell.list(&slot, slot.number);
    }
}

/// What a committed call holds. Dropped, it settles each reservation with what was reported used, or in full.
pub struct Running {
    limiter: Arc<Limiter>,
    held: SmallVec<[Held; 2]>,
    used: SmallVec<[(usize, Permits); 2]>,
    request: RequestMark,
    lapse: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("held", &self.held).finish_non_exhaustive()
    }
}

impl Running {
    pub(crate) fn new(limiter: Arc<Limiter>, held: Vec<Held>, request: RequestMark) -> Self {
        let places: Vec<_> = held
            .iter()
            .filter_map(|held| match held.what {
                What::Place(ticket) if held.binds => Some((Handle::clone(&held.slot), ticket)),
                _ => None,
            })
            .collect();
        let lapse = (!places.is_empty()).then(|| Box::pin(lapse_of(places)) as _);
        Self { limiter, held: held.into(), used: SmallVec::new(), request, lapse }
    }

    /// The ask at this position has used so much by now. Counts when the call ends.
    pub fn used(&mut self, ask: usize, used: Permits) {
        match self.used.iter_mut().find(|(at, _)| *at == ask) {
            Some((_, known)) => *known = used,
            None => self.used.push((ask, used)),
        }
    }

    /// Reserves `more` for the ask at this position. `false`: it is not there now, and nothing has changed.
    pub fn extend(&mut self, ask: usize, more: Permits) -> bool {
        let Some(held) = self.held.iter_mut().find(|held| held.ask == ask) else { return false };
        let (slot, key, window) = (Handle::clone(&held.slot), held.key, held.window);
        let What::Reserved(reservation) = &mut held.what else { return false };
        let extended = self.limiter.extend(&slot, reservation, more);
        if extended {
            let now = clock::boot();
            held.pieces.push((now, more));
            if let Some(log) = self.limiter.decisions() {
                log.write(Record::taken(now, key, more, self.request, window));
            }
        }
        extended
    }

    /// The calls' end: what was not reported is taken to be the reservation.
    pub fn settle(self) {
        drop(self);
    }

    /// Ready once the lease of a concurrency limit has ended: another node may give the place away, so what runs must end.
    pub fn poll_lapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.lapse {
            Some(lapse) => lapse.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// May [`Running::poll_lapsed`] ever be ready?
    #[must_use]
    pub fn may_lapse(&self) -> bool {
        self.lapse.is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for held in self.held.drain(..) {
            let known = self.used.iter().find(|(at, _)| *at == held.ask).map(|(_, used)| *used);
            let used = known.unwrap_or(held.cost());
            held.end(&self.limiter, Some(self.request), used);
        }
    }
}

/// Until a lease that one of these was taken from has ended: renewals come several times in its life.
async fn lapse_of(places: Vec<(Handle, Ticket)>) {
    loop {
        let now = clock::boot();
        let mut next = Nanos::MAX;
        for (slot, ticket) in &places {
            let Some(until) = slot.cell.lives_until(*ticket, now) else { return };
            next = next.min(until);
        }
        tokio::time::sleep(next.saturating_sub(now).into()).await;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tidegate_model::{Incarnation, NodeId, Subject};
    use tidegate_quota::protocol::{Answer, Verdict};

    use super::*;
    use crate::{Settings, fixtures};

    #[test]
    fn a_call_pays_what_it_used_to_its_own_key_though_the_lease_was_lost_and_others_want_the_slot() {
        let (node, incarnation) = (NodeId(1), Incarnation(1));
        let limiter = Limiter::new(Settings { node, incarnation, secret: [1; 16], most_keys: 1, decisions: None });
        let limit = fixtures::limit();
        let found = limiter.find(&limit, Subject(1)).expect("room");
        fixtures::grant(found.slot, 5, 1);
        let slot = limiter.table.handle(found.number).expect("it is there");
        let reservation = slot.holding().reserve(&slot.cell, Permits(2), || Nanos(2)).expect("they are there");
        let key = Key { limit: limit.id, subject: Subject(1) };
        let kept = Kept::of(&found, slot.clone()).expect("it is the key's");
        let held = Held::of(kept, &limit, key, What::Reserved(reservation), None, 0);

        let item = slot.holding().report(&slot.cell, 2, slot.surroundings(Nanos(3)));
        let answer = Answer { key, epoch: item.epoch, verdict: Verdict::Reset };
        slot.holding().answer(&slot.cell, 2, &answer, Nanos::SECOND, Nanos(3), || item.epoch + 1);
        slot.unlist();
        assert!(slot.holding().is_settled(&slot.cell), "nothing of it is known any more");
        assert!(!limiter.table.forget(&slot) && slot.is_needed(), "a call will come back to it");
        held.end(&limiter, None, Permits(6));
        assert_eq!((slot.holding().debt(), slot.key()), (Permits(4), key));
        slot.unlist();
        assert!(!slot.is_needed());
    }
}
