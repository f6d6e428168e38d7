//! Where a rate limit is decided.

use std::time::Duration;

use tidegate_model::{Permits, Subject};
use tidegate_policy::Limit;

/// One limit a call must pass.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub limit: &'a Limit,
    pub subject: Subject,
    pub cost: Permits,
}

/// The leases of this node.
#[derive(Debug)]
pub struct Limiter {}

/// The right to proceed. Dropped before [`Permit::commit`], it gives itself back where that is safe.
#[derive(Debug)]
#[must_use = "a permit that is dropped gives itself back"]
pub struct Permit {
    /// One per ask, in their order.
    pub standings: Vec<Standing>,
}

/// Where a limit stands after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// A lower bound of what is left in the window.
    pub remaining: Permits,
    /// Until permits come free.
    pub reset: Duration,
    /// An observed limit would have refused this call.
    pub would_refuse: bool,
}

/// All or none: nothing was taken.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Position of the ask that refused.
    pub ask: usize,
    pub why: Why,
    pub standings: Vec<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// 429.
    Exhausted { retry_after: Duration },
    /// The cost is above the limit's maximum: waiting will not help, so no hint.
    TooCostly,
    /// 503: no leader answers and the limit says `on_unavailable: deny`.
    Unavailable { retry_after: Duration },
}

impl Limiter {
    /// Hashes what a limit counts. `values` are the scope's values in the order of `limit.per`; a part may be empty.
    #[must_use]
    pub fn subject(&self, _limit: &Limit, _values: &[&[u8]]) -> Subject {
        Subject(0)
    }

    /// Takes from all limits or from none. At most one round trip to the leader, and only if a lease cannot answer.
    ///
    /// # Errors
    /// [`Refused`] names the first limit that said no.
    pub async fn admit(&self, asks: &[Ask<'_>]) -> Result<Permit, Refused> {
        let standing = Standing { remaining: Permits::ZERO, reset: Duration::ZERO, would_refuse: false };
        Ok(Permit { standings: vec![standing; asks.len()] })
    }
}

impl Permit {
    /// The call is on its way: what was taken stays taken.
    pub fn commit(self) {}
}
