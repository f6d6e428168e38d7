//! A limit as a request sees it. The arithmetic lives in `quota`, the leases in `limiter`.

use http::HeaderName;
use tidegate_model::{LimitId, Nanos, Permits, Revision};
use tidegate_quota::protocol::{Kind, LEASE_TTL, Policy};

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
    /// The scope, in document order; empty means the whole cluster shares one counter.
    pub per: Vec<Dimension>,
    pub mode: Mode,
    pub on_unavailable: OnUnavailable,
    /// Does an answer from the cache count? (Default: requests yes.)
    pub count_hits: bool,
}

impl Limit {
    /// What "a while" means to this limit: its window, the time its bucket takes to fill.
    #[must_use]
    pub fn span(&self) -> Nanos {
        self.kind.span(self.max)
    }

    /// What the quota log holds of it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { limit: self.id, max: self.max, ttl: LEASE_TTL, kind: self.kind.clone() }
    }
}

/// One part of a limit's scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    Tenant,
    Consumer,
    Key,
    Route,
    /// The client's address as judged by [`crate::Snapshot::trusted_proxies`]; IPv6 is cut to its /64.
    Ip,
    Header(HeaderName),
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
