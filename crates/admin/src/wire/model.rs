//! Deployments of language models, as the nodes see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One deployment on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentState {
    pub node: u64,
    /// The models of the document that lead to it.
    pub models: Vec<String>,
    /// `provider/model`, with `#name` if it has one.
    pub deployment: String,
    /// `ready`, `cooling` (it is asked last), `open` or `half_open` (its provider's breaker).
    pub state: String,
    /// `throttled` or `failing`, while it cools.
    pub why: Option<String>,
    /// Milliseconds until it is asked in its turn again.
    pub cooling_ms: Option<u64>,
    pub in_flight: u64,
    /// Since the node runs, as the next ones.
    pub calls: u64,
    pub errors: u64,
    pub throttles: u64,
    /// Milliseconds from the call to the first event of a stream, lately.
    pub first_event_ms: Option<u64>,
    /// Microseconds from one token of a stream to the next, lately.
    pub per_token_us: Option<u64>,
    /// Milliseconds of calls without a stream, lately.
    pub answer_ms: Option<u64>,
}

/// What every live node that answers sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Deployments {
    pub deployments: Vec<DeploymentState>,
}
