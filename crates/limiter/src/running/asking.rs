//! A running call asks for more than is at hand, as a call that comes would: it waits its turn, for the leader's word, and no
//! longer. Nobody waits for it: its answer is there when the call is next looked at.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_quota::holding::Reservation;
use tidegate_quota::protocol::Key;

use crate::admit::{Ask, Limiter, Next, Waiter, Why};
use crate::slot::Kept;

/// With the calendar window that it counts to.
pub(super) type More = (Reservation, Option<u64>);

/// Given up when dropped.
pub(super) struct Asking {
    pub(super) need: Permits,
    work: Pin<Box<dyn Future<Output = Result<More, No>> + Send + Sync>>,
}

/// Why there is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum No {
    /// Permits come free after about so long.
    Refused(Nanos),
    /// Nobody could say, and the limit allows to go on without.
    Unsafely,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").field("need", &self.need).finish_non_exhaustive()
    }
}

impl Asking {
    /// `want`: what would be good to have, beside what is needed.
    pub(super) fn new(limiter: &Arc<Limiter>, slot: &Kept, key: Key, need: Permits, want: Permits) -> Self {
        let (limiter, slot) = (Arc::clone(limiter), slot.clone());
        Self { need, work: Box::pin(async move { limiter.ask_more(&slot, key, need, want).await }) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<More, No>> {
        self.work.as_mut().poll(cx)
    }
}

impl Limiter {
    async fn ask_more(&self, slot: &Kept, key: Key, need: Permits, want: Permits) -> Result<More, No> {
        // A limit that the document has no more drains: nothing more is had of it.
        let Some(limit) = self.owners.limit(key.limit) else { return Err(No::Refused(Nanos::SECOND)) };
        let ask = Ask { limit: &limit, subject: key.subject, cost: need };
        if self.is_too_costly(&ask) {
            return Err(No::Refused(limit.span()));
        }
        let (found, started) = (slot.found(), clock::boot());
        let waiter = Waiter::new(&found, 0, &ask);
        slot.miss(want); // So the lease grows with it.
        loop {
            match self.look_further(&ask, &found, started).await {
                Ok(Next::TryAgain) => {}
                Ok(Next::AllowUnsafely) => return Err(No::Unsafely),
                Err(Why::Exhausted { retry_after } | Why::Unavailable { retry_after }) => {
                    return Err(No::Refused(retry_after.into()));
                }
                Err(Why::TooCostly) => return Err(No::Refused(limit.span())),
            }
            if let Some(more) = self.reserve_more(slot, want, need, waiter.as_ref().map(Waiter::ticket)) {
                return Ok(more);
            }
        }
    }
}
