//! What nodes and the quota group's leader say to each other, and what the quota log holds.
//!
//! Requests are absolute and cumulative: losing, repeating or reordering them is harmless. Replies are not: a holder
//! uses a reply at most once, and only if it answers the newest batch that named the key.

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};

/// A counter: one limit, one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub limit: LimitId,
    pub subject: Subject,
}

/// Everything one node has to say in one tick, for all its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Grows with every batch of this incarnation.
    pub seq: u64,
    pub items: Vec<Item>,
}

/// One key of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub key: Key,
    /// A key that was forgotten and comes back has a higher one.
    pub epoch: u64,
    /// All permits taken or burnt since the epoch began.
    pub spent: Permits,
    /// Permits still in the cell. `granted − spent − have` is thereby handed back.
    pub have: Permits,
    /// Permits the node would like to hold beyond `have`.
    pub want: Permits,
    /// The largest cost that waits for this key; 0: nobody waits.
    pub waiting: Permits,
}

/// The outcome of one batch, as `apply` computed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub seq: u64,
    pub items: Vec<Answer>,
}

/// The outcome of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub key: Key,
    pub epoch: u64,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The lease is renewed; `granted` permits come on top of what the cell holds.
    Lease {
        granted: Permits,
        /// Free permits that were left after this grant: a lower bound of what remains elsewhere.
        free: Permits,
        /// D: how long the lease lives, counted from the moment the batch left.
        ttl: Nanos,
        /// When the next permit comes free, from now, if a waiting cost was not granted.
        retry: Nanos,
        /// Hand back down to this many permits: another node starves.
        keep: Permits,
    },
    /// The ledger does not charge what this cell holds: zero it and begin a new epoch.
    Reset,
    /// No such limit in the log yet, or its policy was withdrawn.
    Unknown,
}

/// A limit as the quota log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub limit: LimitId,
    pub max: Permits,
    pub window: Nanos,
    /// D, the time to live of a lease.
    pub ttl: Nanos,
}

/// One entry of the quota log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Time on the proposing leader's raw clock since its previous entry, divided by (1 + ρ); 0 when it cannot tell.
    pub dt: Nanos,
    pub command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Nothing but time.
    Tick,
    /// All nodes' batches of one commit round, in the order they came.
    Batches(Vec<Batch>),
    /// The limits of a published document. Ignored unless `revision` is at least the newest seen.
    SetPolicies { revision: Revision, policies: Vec<Policy> },
    /// A node left for good: nothing of it is accepted any more; what it holds stays charged until it lapses.
    RemoveNode { node: NodeId },
}

/// What `apply` says to whoever proposed the entry.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// One per batch, in the order of [`Command::Batches`].
    pub replies: Vec<Reply>,
    /// Hints to nodes that hold idle permits another node starves for. Losing one costs time, never correctness.
    pub recalls: Vec<Recall>,
    /// After [`Command::SetPolicies`]: the newest revision the ledger has.
    pub revision: Revision,
}

/// "Send a batch that names this key now": answered by an ordinary [`Item`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recall {
    pub node: NodeId,
    pub key: Key,
}
