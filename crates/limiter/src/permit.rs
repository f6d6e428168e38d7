//! The right to proceed.

use std::sync::Arc;

use smallvec::SmallVec;
use tidegate_quota::cell::Ticket;
use tidegate_quota::evidence::{Record, RequestMark};

use crate::admit::{Ask, Limiter, Standing, Standings};
use crate::slot::Slot;

/// Dropped before [`Permit::commit`], it gives itself back where that is safe.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives itself back"]
pub struct Permit {
    limiter: Arc<Limiter>,
    taken: Taken,
    /// One per ask, in their order.
    pub standings: Standings,
}

/// What was taken so far. An observed or unsafely allowed ask leaves nothing here.
#[derive(Debug, Default)]
pub(crate) struct Taken(pub(crate) SmallVec<[(Arc<Slot>, Source); 4]>);

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
    pub(crate) cost: tidegate_model::Permits,
    pub(crate) at: tidegate_model::Nanos,
}

impl Taken {
    /// When every ask was taken: where each limit stands now, as far as this node knows.
    #[inline]
    pub(crate) fn standings(&self, asks: &[Ask<'_>]) -> Standings {
        let stand = |((slot, _), ask): (&(Arc<Slot>, Source), &Ask<'_>)| Standing {
            remaining: slot.cell.left(),
            reset: ask.limit.window.into(),
            would_refuse: false,
            unsafely: false,
        };
        self.0.iter().zip(asks).map(stand).collect()
    }

    pub(crate) fn give_back(&mut self) {
        for (slot, source) in self.0.drain(..) {
            if let Source::Lease(ticket) = source {
                slot.cell.put_back(ticket);
            }
        }
    }
}

impl Permit {
    pub(crate) fn new(limiter: Arc<Limiter>, taken: Taken, standings: Standings) -> Self {
        Self { limiter, taken, standings }
    }

    /// The call is on its way: what was taken stays taken. Writes the decision log, when there is one, before it returns;
    /// so a backend never sees a request that the log does not know.
    pub fn commit(mut self, request_id: &[u8]) {
        let taken = std::mem::take(&mut self.taken);
        let Some(log) = self.limiter.decisions() else { return };
        let request = RequestMark::of(request_id);
        for (slot, source) in &taken.0 {
            let (at, cost) = match source {
                Source::Lease(ticket) => (ticket.at, ticket.cost),
                Source::Reserve(ticket) => (ticket.at, ticket.cost),
            };
            log.write(Record::Permit { at, key: slot.key, cost, request });
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.give_back();
    }
}
