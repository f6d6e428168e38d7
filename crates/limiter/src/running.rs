//! What a call holds while it runs: places of concurrency limits, and reservations that grow with what it uses and are settled when it is
//! known what that was. However the call ends, this ends with it.

mod asking;
mod held;
mod pieces;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_quota::cell::Ticket;
use tidegate_quota::evidence::RequestMark;

pub(crate) use self::held::{Held, What};
use crate::admit::Limiter;
use crate::slot::Handle;

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

    /// As [`Running::used`], and reserves more before that is used up: from what is at hand, or else it is asked for, which
    /// [`Running::goes_on`] looks after. Until it has used as much as is returned, nothing is to be done.
    pub fn extend(&mut self, ask: usize, used: Permits, cx: Option<&mut Context<'_>>) -> Permits {
        self.used(ask, used);
        let Some(held) = self.held.iter_mut().find(|held| held.ask == ask) else { return Permits::MAX };
        held.uses(&self.limiter, self.request, used, cx)
    }

    /// Before the ask at this position uses so much, if its limit says that who comes beyond it is cut. Ready: how much of it
    /// may be used, all of it if the limit says nothing of the kind.
    pub fn poll_room(&mut self, ask: usize, up_to: Permits, cx: &mut Context<'_>) -> Poll<Permits> {
        match self.held.iter_mut().find(|held| held.ask == ask) {
            Some(held) => held.poll_room(&self.limiter, self.request, up_to, cx),
            None => Poll::Ready(up_to),
        }
    }

    /// More was asked for, and there may be an answer.
    pub fn goes_on(&mut self, cx: &mut Context<'_>) {
        for held in self.held.iter_mut().filter(|held| held.is_asking()) {
            let known = self.used.iter().find(|(at, _)| *at == held.ask).map(|(_, used)| *used);
            held.uses(&self.limiter, self.request, known.unwrap_or_default(), Some(cx));
        }
    }

    /// Is an answer waited for?
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.held.iter().any(Held::is_asking)
    }

    /// The ask at this position will come to so much, and no more need be reserved.
    pub fn comes_to(&mut self, ask: usize, total: Permits) {
        if let Some(Held { what: What::Reserved(pieces), .. }) = self.held.iter_mut().find(|held| held.ask == ask) {
            pieces.comes_to(total);
        }
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
    use tidegate_quota::protocol::{Answer, Key, Verdict};

    use super::*;
    use crate::slot::Kept;
    use crate::{Ask, Settings, fixtures};

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
        let ask = Ask { limit: &limit, subject: Subject(1), cost: Permits(2) };
        let held = Held::of(kept, &ask, limit.max, What::reserved(reservation, None), 0);

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
