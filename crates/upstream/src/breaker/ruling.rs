//! What nodes tell the leader about an endpoint, and what the cluster holds of it.

use serde::{Deserialize, Serialize};

/// An endpoint of an upstream, as all nodes call it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub upstream: String,
    /// `10.0.0.5:8000`
    pub endpoint: String,
}

/// What the cluster holds of an endpoint's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stand {
    #[default]
    Closed,
    /// `round`: how often its probe has failed since it was well.
    Open { round: u32 },
    /// One request of this node alone may try it.
    HalfOpen { round: u32, node: u64 },
}

/// What the cluster agreed on about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ruling {
    /// Grows with each change of this ruling.
    pub epoch: u64,
    pub stand: Stand,
    /// Active checks say that it is sick.
    pub unhealthy: bool,
    /// Instead of the document's.
    pub weight: Option<u32>,
    pub drained: bool,
}

/// What one node knows about an endpoint. Counts are those of its own window.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Evidence {
    pub ok: u32,
    pub failed: u32,
    pub slow: u32,
    /// Failures since the last success.
    pub streak: u32,
    /// The streak with which this node's own breaker opens.
    pub alone: u32,
    /// This node's own breaker is not closed.
    pub opened: bool,
    /// Successes since this node heard of the trouble.
    pub ok_since: u32,
    /// The cluster's breaker is open, and this node goes on asking: it has healthy evidence of its own.
    pub vetoes: bool,
    /// Requests for the upstream since this node was last asked.
    pub busy: u32,
    /// The probe that this node was permitted is under way.
    pub probing: bool,
    /// How the probe ended that the ruling of this epoch permitted.
    pub probed: Option<(u64, bool)>,
    /// What this node's active checks say; `None`: others check it.
    pub healthy: Option<bool>,
}

/// What shall change, if the ruling is still the one this was judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub place: Place,
    /// The ruling's epoch that was judged.
    pub replaces: u64,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Open { round: u32 },
    Probe { round: u32, node: u64 },
    Close,
    Unhealthy,
    Healthy,
}
