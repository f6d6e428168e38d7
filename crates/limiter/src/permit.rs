//! The right to proceed.

use smallvec::SmallVec;
use tidegate_model::{Incarnation, Nanos, Permits};
use tidegate_quota::cell::Ticket;
use tidegate_quota::evidence::{Record, RequestMark};
use tidegate_quota::owner::Token;
use tidegate_quota::protocol::Key;

use crate::admit::{Ask, Limiter, Standing, Standings};
use crate::owner::Remote;
use crate::running::{Held, Running, What};
use crate::slot::{Found, Slot};

/// Dropped before [`Permit::commit`], it gives itself back where that is safe.
///
/// It is moved several times before anyone looks at it, so it is small: what few requests need is in [`Aside`].
#[derive(Debug)]
#[must_use = "a permit that is dropped gives itself back"]
pub struct Permit<'l> {
    limiter: &'l Limiter,
    taken: Taken<'l>,
}

/// What was taken so far. An observed or unsafely allowed ask leaves nothing here.
#[derive(Debug)]
pub(crate) struct Taken<'l> {
    /// The instant of admission by all leases.
    at: Nanos,
    leases: SmallVec<[Piece<'l>; 4]>,
    aside: Option<Box<Aside>>,
}

/// From a lease: comes back while no report has told of it.
#[derive(Debug, Clone, Copy)]
struct Piece<'l> {
    slot: &'l Slot,
    /// [`Ticket::packed`]
    ticket: u64,
}

#[derive(Debug, Default)]
struct Aside {
    /// With a decision log: what it is told, and the calendar window. The slot may be another key's by then.
    keys: SmallVec<[(Key, Option<u64>); 4]>,
    /// Places and reservations: for as long as the call runs, or until all of its limits were taken.
    running: Vec<Held>,
    /// From partition reserves: does not come back.
    reserved: Vec<Reserved>,
    /// From other nodes, as the owners of keys.
    pub(crate) remote: Vec<Remote>,
    /// If a look at the cells is not enough to tell.
    standings: Option<Standings>,
}

/// A permit of the reserve: its cost and the instant it was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    pub(crate) key: Key,
    pub(crate) cost: Permits,
    pub(crate) at: Nanos,
}

impl<'l> Taken<'l> {
    #[inline]
    pub(crate) fn new(at: Nanos) -> Self {
        Self { at, leases: SmallVec::new(), aside: None }
    }

    /// A ticket stamped with this taking's instant.
    #[inline]
    pub(crate) fn push(&mut self, slot: &'l Slot, ticket: Ticket) {
        self.leases.push(Piece { slot, ticket: ticket.packed() });
    }

    /// For the decision log: the key of the ticket pushed before.
    pub(crate) fn note(&mut self, key: Key, window: Option<u64>) {
        self.aside.get_or_insert_default().keys.push((key, window));
    }

    #[cold]
    pub(crate) fn hold(&mut self, held: Held) {
        self.aside.get_or_insert_default().running.push(held);
    }

    #[cold]
    pub(crate) fn push_reserved(&mut self, reserved: Reserved) {
        self.aside.get_or_insert_default().reserved.push(reserved);
    }

    #[cold]
    pub(crate) fn push_remote(&mut self, remote: Remote) {
        self.aside.get_or_insert_default().remote.push(remote);
    }

    /// The instant of admission.
    pub(crate) fn at(&self) -> Nanos {
        let reserved = self.aside.as_ref().and_then(|aside| aside.reserved.first());
        reserved.map_or(self.at, |reserved| reserved.at)
    }

    /// For another node: what it needs to give the one permit back, that was taken where `found` is. From a reserve it does
    /// not come back.
    pub(crate) fn into_token(mut self, incarnation: Incarnation, found: Found<'_>) -> Option<Token> {
        let Piece { ticket, .. } = self.leases.pop().filter(|piece| std::ptr::eq(piece.slot, found.slot))?;
        Some(Token { incarnation, slot: found.number, life: found.life, packed: ticket, at: self.at })
    }

    #[cold]
    pub(crate) fn stand(&mut self, standings: Standings) {
        self.aside.get_or_insert_default().standings = Some(standings);
    }

    /// Is there a piece that is not from a plain lease?
    #[inline]
    pub(crate) fn is_mixed(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.reserved.is_empty() || !aside.running.is_empty())
    }

    pub(crate) fn give_back(&mut self, limiter: &Limiter) {
        if let Some(aside) = &mut self.aside {
            aside.running.drain(..).for_each(|held| held.give_back(limiter));
        }
        for Piece { slot, ticket } in self.leases.drain(..) {
            limiter.put_back(slot, Ticket::unpacked(ticket, self.at));
        }
    }
}

impl<'l> Permit<'l> {
    #[inline]
    pub(crate) fn new(limiter: &'l Limiter, taken: Taken<'l>) -> Self {
        Self { limiter, taken }
    }

    /// Where each limit stands now, as far as this node knows. `asks` are those that were admitted, in their order.
    #[inline]
    #[must_use]
    pub fn standings(&self, asks: &[Ask<'_>]) -> Standings {
        if let Some(standings) = self.taken.aside.as_ref().and_then(|aside| aside.standings.as_ref()) {
            return standings.clone();
        }
        let mut standings = Standings::new();
        for (piece, ask) in self.taken.leases.iter().zip(asks) {
            let (remaining, reset) = (self.limiter.remaining(piece.slot, self.taken.at), self.limiter.span(ask).into());
            standings.push(Standing { remaining, reset, would_refuse: false, unsafely: false });
        }
        standings
    }

    /// The call is on its way: what was taken stays taken. Writes the decision log, when there is one, before it returns;
    /// so a backend never sees a request that the log does not know.
    ///
    /// What the call holds for as long as it runs comes back: dropped, it is given up.
    #[inline]
    pub fn commit(mut self, request_id: &[u8]) -> Option<Box<Running>> {
        let running = if self.taken.aside.is_some() { self.write_down(request_id) } else { None };
        self.taken.leases.clear();
        if let Some(aside) = &mut self.taken.aside {
            aside.remote.clear();
        }
        running
    }

    fn write_down(&mut self, request_id: &[u8]) -> Option<Box<Running>> {
        let aside = self.taken.aside.as_mut()?;
        let (at_once, held): (Vec<_>, Vec<_>) = aside.running.drain(..).partition(|held| held.is_plain);
        if self.limiter.decisions().is_none() && held.is_empty() && at_once.is_empty() {
            return None;
        }
        let request = RequestMark::of(request_id);
        if let Some(log) = self.limiter.decisions() {
            for (Piece { ticket, .. }, (key, window)) in self.taken.leases.iter().zip(&aside.keys) {
                let Ticket { cost, at, .. } = Ticket::unpacked(*ticket, self.taken.at);
                log.write(Record::taken(at, *key, cost, request, *window));
            }
            for Remote { key, cost, at, .. } in aside.remote.iter().copied() {
                log.write(Record::Permit { at, key, cost, request });
            }
            for Reserved { key, cost, at } in aside.reserved.iter().copied() {
                log.write(Record::Permit { at, key, cost, request });
            }
            for held in at_once.iter().chain(&held) {
                log.write(match held.what {
                    What::Place(_) => Record::Begin { at: held.at(), key: held.key, cost: held.cost(), request },
                    What::Reserved(_) => Record::taken(held.at(), held.key, held.cost(), request, held.window()),
                });
            }
        }
        at_once.into_iter().for_each(|held| held.spend(self.limiter));
        let limiter = self.limiter.shared()?;
        (!held.is_empty()).then(|| Box::new(Running::new(limiter, held, request)))
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.taken.leases.is_empty() || self.taken.is_mixed() {
            self.taken.give_back(self.limiter);
        }
        if let Some(aside) = &self.taken.aside {
            aside.remote.iter().for_each(|remote| self.limiter.send_back(remote));
        }
    }
}
