//! What nodes say to each other: one request and one reply per QUIC stream. Positional: append variants only.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::{Deserialize, Serialize};
use tidegate_model::{NodeId, Revision};
use tidegate_quota::protocol::{Batch, Key, Policy, Reply};
use tidegate_state::{Addresses, ClusterId, Outcome};

use crate::raft::{SnapshotMeta, Types, Vote};

/// What this build speaks. A peer that speaks another is refused with both numbers in the reason.
pub(crate) const PROTOCOL: u16 = 1;

/// Which Raft group a frame belongs to. More quota groups are how we outgrow one leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum GroupId {
    Control,
    Quota(u16),
}

/// Streams of one connection share a congestion window, so what must not wait has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Lane {
    Calls,
    /// Heartbeats and votes.
    Pulse,
    /// Snapshots.
    Bulk,
    /// What waits for others, and bodies of responses.
    Fills,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Hello(Hello),
    Append {
        group: GroupId,
        rpc: AppendEntriesRequest<Types>,
    },
    Vote {
        group: GroupId,
        rpc: VoteRequest<Types>,
    },
    PreVote {
        group: GroupId,
        rpc: VoteRequest<Types>,
    },
    Transfer {
        group: GroupId,
        rpc: TransferLeaderRequest<Types>,
    },
    Snapshot {
        group: GroupId,
        vote: Vote,
        meta: SnapshotMeta,
        data: Bytes,
    },
    /// An encoded `state::Proposal`, for the control leader.
    Propose(Bytes),
    /// For the control leader.
    Renew(Renewal),
    /// For the control leader: who has which entry in effect?
    Leases,
    /// Who leads this group, as far as you know?
    Leader(GroupId),
    /// For the quota leader.
    Exchange(Batch),
    /// For the quota leader.
    SetPolicies {
        revision: Revision,
        policies: Vec<Policy>,
    },
    /// From the quota leader: report on these keys at once.
    Recall(Vec<Key>),
    /// From the control leader to the quota leader: these shall vote.
    QuotaVoters(BTreeSet<u64>),
    /// Give the leadership of a group away, to this node or the best one.
    Transferring {
        group: GroupId,
        to: Option<NodeId>,
    },
    /// How is your part of the cluster?
    Report,
    /// For the quota leader: limits of a document that may be published in a moment.
    PreparePolicies(Vec<Policy>),
    /// For the control leader: up to which entry is everything applied that was acknowledged before now?
    ReadIndex,
    /// For whoever listens to the topic.
    Message {
        topic: u8,
        body: Bytes,
    },
    /// What does your wall clock say?
    WallClock,
    /// For the quota leader: what lasts of the ledger, for a backup.
    Lasting,
    /// For whoever has the key of the cluster with this mark: the key, and what limits tell subjects apart by.
    ClusterKey([u8; 32]),
}

/// The first frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u16,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) lane: Lane,
    pub(crate) feature_level: u32,
    pub(crate) addresses: Addresses,
}

/// The answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Greeting {
    Welcome {
        node: NodeId,
        feature_level: u32,
    },
    /// The reason is for people.
    Refused {
        removed: bool,
        reason: String,
    },
}

/// A node keeps its node lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Renewal {
    pub(crate) node: NodeId,
    /// Control entries applied here.
    pub(crate) applied: u64,
    /// Control entries whose effect is in use here: the snapshot compiled, the key refused.
    pub(crate) in_effect: u64,
    pub(crate) feature_level: u32,
    pub(crate) addresses: Addresses,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    /// The document revision it serves.
    pub(crate) revision: Revision,
    /// The release it runs, for people.
    pub(crate) version: String,
}

/// The answer to [`Request::Renew`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Renewed {
    /// `committed`: the control leader's commit index.
    Kept {
        committed: u64,
        voters: BTreeSet<u64>,
    },
    NotLeader(Option<NodeId>),
}

/// A node lease as the leader judges it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseView {
    pub(crate) live: bool,
    /// The leader is too young to know: nothing was heard of this node since its election.
    pub(crate) unknown: bool,
    pub(crate) age_ms: u64,
    pub(crate) renewal: Option<Renewal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeasesReply {
    Are(BTreeMap<NodeId, LeaseView>),
    NotLeader(Option<NodeId>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Proposed {
    Applied {
        index: u64,
        outcome: Outcome,
    },
    NotLeader(Option<NodeId>),
    /// Committed or not: nobody knows. Asking again with the same request id tells.
    Unknown(String),
    /// Some live node is of a release that does not understand it.
    TooNew {
        reason: String,
        hint: String,
    },
}

/// The answer to [`Request::ReadIndex`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadAt {
    Index(u64),
    NotLeader(Option<NodeId>),
    /// A leader without a quorum cannot know whether it still is one.
    Unknown(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exchanged {
    Reply(Reply),
    /// Nothing was done with the batch.
    NotLeader(Option<NodeId>),
    /// Nothing is known about it.
    Lost(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PoliciesSet {
    Done(Revision),
    NotLeader(Option<NodeId>),
    Unknown(String),
}

/// The answer to [`Request::Lasting`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Lasted {
    Is(Lasting),
    NotLeader(Option<NodeId>),
    Unknown(String),
}

/// What lasts of the ledger, as it was after one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lasting {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) limits: usize,
    pub(crate) budgets: usize,
    pub(crate) ledger: Bytes,
}

/// Done, or why not.
pub(crate) type Done = Result<(), String>;
