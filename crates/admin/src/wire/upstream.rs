//! Endpoints of upstreams, as the nodes see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One endpoint on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointState {
    pub node: u64,
    pub upstream: String,
    /// `10.0.0.5:8000`
    pub endpoint: String,
    /// `closed`, `open`, `half_open` or `ramp`.
    pub breaker: String,
    /// Checks say that it is sick.
    pub unhealthy: bool,
    /// Its share now: the document's, or what was set by hand.
    pub weight: u32,
    /// Taken out by hand.
    pub drained: bool,
    pub in_flight: u64,
    /// Open connections.
    pub connections: u64,
    /// Since the node knows it.
    pub requests: u64,
    /// Times its breaker opened on the node.
    pub ejections: u64,
    /// Of the cluster's ruling about it.
    pub epoch: u64,
}

/// What every live node that answers sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Upstreams {
    pub endpoints: Vec<EndpointState>,
}

/// What is set by hand; what is not named stays as it is. It holds on every node, until it is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetEndpoint {
    pub upstream: String,
    /// `10.0.0.5:8000`
    pub endpoint: String,
    /// 0 to 65535, instead of the document's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// The document's weight holds again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset_weight: bool,
    /// No new requests; those under way end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<bool>,
}

/// What was set by hand holds now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndpointSet {
    pub upstream: String,
    pub endpoint: String,
    /// `null`: the document's.
    pub weight: Option<u32>,
    pub drained: bool,
}
