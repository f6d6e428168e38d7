//! A limit as a request sees it. The arithmetic lives in `quota`, the leases in `limiter`.

use http::HeaderName;
use tidegate_model::{LimitId, Nanos, Permits, Revision};
use tidegate_quota::protocol::{Kind, LEASE_TTL, Policy, Unit};

use crate::defaults::{MOST_MAX, MOST_MONEY};
use crate::issuer::ClaimPath;

/// So many times what was reserved for it a call of a language model may be billed.
const PLAUSIBLE: u64 = 100;

/// `max` permits by the rules of `kind`, for each distinct subject of `per`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub id: LimitId,
    /// The revision of the document that last touched this limit's policy. A holder that holds a lease of an older
    /// one asks its leader before it refuses.
    pub revision: Revision,
    pub name: String,
    pub max: Permits,
    pub kind: Kind,
    pub cost: Cost,
    /// The scope, in document order; empty means the whole cluster shares one counter.
    pub per: Vec<Dimension>,
    pub mode: Mode,
    pub on_unavailable: OnUnavailable,
    /// Does an answer from the cache count? (Default: requests yes.)
    pub count_hits: bool,
    /// What becomes of a call that has no value for a part of `per`.
    pub on_missing: OnMissing,
    pub terms: Terms,
}

/// How far one call may go, where what it costs is known when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// It counts for no more. `None`: see [`Limit::at_most`].
    pub at_most: Option<Permits>,
    pub beyond: Beyond,
}

/// What becomes of a call that comes to more than is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beyond {
    /// It goes on; what it used beyond is owed.
    #[default]
    Finish,
    /// It is ended before it uses what is not there.
    Cut,
}

impl Limit {
    /// What "a while" means to this limit: its window, the time its bucket takes to fill.
    #[must_use]
    pub fn span(&self) -> Nanos {
        self.kind.span(self.max)
    }

    /// Taken, is it spent, and is it known how much? So with most: then one atomic step decides.
    #[inline]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self.cost, Cost::Fixed(_)) && !matches!(self.kind, Kind::Concurrency)
    }

    /// What one call counts for at most, whatever it is said to have come to. `most`: what its subject may have at all. One wrong
    /// number of somebody else's is paid for in one window or period, or in a few; bytes are counted here, and are what they are.
    #[must_use]
    pub fn at_most(&self, most: Permits, reserved: Permits) -> Permits {
        match (self.terms.at_most, &self.cost) {
            (Some(own), _) => own,
            (None, Cost::Header { .. }) => most,
            // Some bill for more than a call can come to by their own rules, but not for so much more.
            (None, Cost::Tokens { .. } | Cost::Money { .. }) => most.max(Permits(reserved.0.saturating_mul(PLAUSIBLE))),
            (None, Cost::Fixed(_) | Cost::RequestBytes { .. } | Cost::ResponseBytes { .. }) => Permits::MAX,
        }
    }

    /// The largest maximum that it may have. Of money, in billionths, that is a billion.
    #[must_use]
    pub fn most_max(&self) -> Permits {
        let of_money = matches!(&self.kind, Kind::Budget(budget) if budget.unit == Unit::NanoMoney);
        if of_money || matches!(self.cost, Cost::Money { .. }) { MOST_MONEY } else { MOST_MAX }
    }

    /// What the quota log holds of it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { limit: self.id, max: self.max, ttl: LEASE_TTL, kind: self.kind.clone() }
    }
}

/// What a call costs. All but the first is known when the call has ended: until then an estimate is reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cost {
    Fixed(Permits),
    /// Bytes of the request's body; its announced length is the estimate, if there is one.
    RequestBytes {
        estimate: Permits,
    },
    /// Bytes of the answer's body.
    ResponseBytes {
        estimate: Permits,
    },
    /// A number that the upstream writes into a header of its answer.
    Header {
        name: HeaderName,
        estimate: Permits,
    },
    /// Tokens of a language model, in and out. Reserved is what the call can come to at most, unless an estimate is named.
    /// Calls of other routes cost nothing.
    Tokens {
        estimate: Option<Permits>,
    },
    /// Nano-dollars of a call of a language model. Reserved is the most that it can come to at any deployment that may be
    /// asked. Calls of other routes cost nothing.
    Money {
        unpriced: Unpriced,
    },
}

/// What becomes of a call whose model has no known price, where a limit counts money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unpriced {
    /// It is refused: nothing is ever free silently.
    #[default]
    Refuse,
    /// It costs what its provider says, or else nothing, and is told as unpriced.
    Free,
}

impl Cost {
    pub const ONE: Self = Self::Fixed(Permits(1));
}

/// One part of a limit's scope. The tenant is part of each, so that no two tenants ever share a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    Tenant,
    Team,
    Consumer,
    Key,
    /// Whom a consumer calls for, as it says in a header; two consumers' end users are never the same.
    EndUser,
    Route,
    Product,
    /// GET and HEAD are one; methods that nobody registered are one.
    Method,
    /// Without its port, in lower case.
    Host,
    /// The client's address as judged by [`crate::Snapshot::trusted_proxies`], cut to a prefix.
    Ip(Prefix),
    /// The language model, as the document names it.
    Model,
    /// All its lines, as one list.
    Header(HeaderName),
    /// Of the caller's token; two issuers' claims are never the same.
    Claim(ClaimPath),
}

/// So many leading bits of an address tell callers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// 1 to 32.
    pub v4: u8,
    /// 1 to 128.
    pub v6: u8,
}

/// What one subscriber gets.
impl Default for Prefix {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

/// What becomes of a call without a value for a part of the scope: without the header, without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissing {
    /// All such calls (of one tenant) share one count.
    #[default]
    Share,
    /// The limit does not hold for it.
    Skip,
    /// It is refused.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// Counts and reports what would have been refused; refuses nothing.
    Observe,
}

/// What a node does when its lease is spent and no leader answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnUnavailable {
    /// Refuse: exact.
    Deny,
    /// Serve from the partition reserve, a part of `max` that this node already holds: exact.
    Share,
    /// Serve: not exact; metered and labelled unsafe.
    Allow,
}
