//! What `apply` says: to whoever proposed, and to whoever watches.

use serde::{Deserialize, Serialize};
use tidegate_model::{KeyId, NodeId, Revision};

/// The outcome of one proposal. Expected refusals are values. Positional: append only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    Published {
        revision: Revision,
    },
    KeyCreated {
        id: KeyId,
    },
    Joined {
        node: NodeId,
    },
    AdminTokenCreated {
        id: u64,
    },
    /// Compare-and-set failed: somebody else was faster.
    Conflict {
        current: Revision,
    },
    NotFound,
    /// The same credential exists already.
    Duplicate,
    /// Longer than allowed, in bytes.
    TooLarge {
        limit: u64,
    },
    /// The cluster holds as many of these as it may.
    Full,
    TokenUnknown,
    TokenExpired,
    TokenUsed,
    /// What was fetched before is void, by the count of all purges.
    Purged {
        epoch: u64,
    },
    /// An order about a limit or a caller.
    Ordered {
        id: u64,
    },
    /// An order of a certificate, or an account: what goes on from here names this version.
    Stepped {
        version: u64,
    },
}

/// What a proposal changed, for whoever keeps something derived from the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A snapshot replaced the state: anything may be different.
    Everything,
    Document(Revision),
    KeyCreated(KeyId),
    KeyRevoked(KeyId),
    KeyRotated(KeyId),
    KeyPlan(KeyId),
    Members,
    JoinTokens,
    AdminTokens,
    Sealed(String),
    Endpoints,
    Purges,
    Orders,
    Certificates,
    TicketKeys,
    /// An operator's, by name.
    Secret(String),
    /// Another key seals, or shall; or what it sealed is sealed anew.
    ClusterKeys,
}
