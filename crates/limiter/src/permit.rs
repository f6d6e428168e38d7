//! The right to proceed.

use smallvec::SmallVec;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_quota::cell::Ticket;
use tidegate_quota::evidence::{Record, RequestMark};
use tidegate_quota::protocol::Key;

use crate::admit::{Limiter, Standings};
use crate::slot::{Slot, halves};

/// Dropped before [`Permit::commit`], it gives itself back where that is safe.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives itself back"]
pub struct Permit<'l> {
    limiter: &'l Limiter,
    taken: Taken<'l>,
    /// One per ask, in their order.
    pub standings: Standings,
}

/// What was taken so far. An observed or unsafely allowed ask leaves nothing here.
#[derive(Debug, Default)]
pub(crate) struct Taken<'l>(SmallVec<[Piece<'l>; 4]>);

/// Names its key itself: the slot may be another key's by the time this is written down.
#[derive(Debug)]
struct Piece<'l> {
    slot: &'l Slot,
    limit: LimitId,
    /// In halves: a `u128` would be aligned, and moved with its gaps.
    subject: [u64; 2],
    source: Source,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// From the lease: comes back while no report has told of it.
    Lease(Ticket),
    /// From the partition reserve: does not come back.
    Reserve(Reserved),
}

/// A permit of the reserve: its cost and the instant it was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserved {
    pub(crate) cost: Permits,
    pub(crate) at: Nanos,
}

impl<'l> Taken<'l> {
    #[inline]
    pub(crate) fn push(&mut self, slot: &'l Slot, key: Key, source: Source) {
        self.0.push(Piece { slot, limit: key.limit, subject: halves(key.subject), source });
    }

    pub(crate) fn give_back(&mut self) {
        for Piece { slot, source, .. } in self.0.drain(..) {
            if let Source::Lease(ticket) = source {
                slot.cell.put_back(ticket);
            }
        }
    }
}

impl<'l> Permit<'l> {
    #[inline]
    pub(crate) fn new(limiter: &'l Limiter, taken: Taken<'l>, standings: Standings) -> Self {
        Self { limiter, taken, standings }
    }

    /// The call is on its way: what was taken stays taken. Writes the decision log, when there is one, before it returns;
    /// so a backend never sees a request that the log does not know.
    #[inline]
    pub fn commit(mut self, request_id: &[u8]) {
        if let Some(log) = self.limiter.decisions() {
            let request = RequestMark::of(request_id);
            for piece in &self.taken.0 {
                let (at, cost) = match piece.source {
                    Source::Lease(ticket) => (ticket.at, ticket.cost),
                    Source::Reserve(ticket) => (ticket.at, ticket.cost),
                };
                log.write(Record::Permit { at, key: piece.key(), cost, request });
            }
        }
        self.taken.0.clear();
    }
}

impl Piece<'_> {
    fn key(&self) -> Key {
        let [low, high] = self.subject.map(u128::from);
        Key { limit: self.limit, subject: Subject(low | high << 64) }
    }
}

impl Drop for Permit<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.taken.0.is_empty() {
            self.taken.give_back();
        }
    }
}
