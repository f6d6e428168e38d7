//! The cluster as one node sees it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a backup is sealed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The public half of a backup key: `tgbp1-…`.
    #[schema(example = "tgbp1-0000000000000000000000000000000000000000000000000000000000000001-00000000")]
    pub key: String,
}

/// What one node knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    pub cluster_id: String,
    /// The node that answers.
    pub node_id: u64,
    pub readiness: Readiness,
    /// Why it is not simply ready.
    pub reasons: Vec<String>,
    /// Revision of the last published document; 0: none.
    pub revision: u64,
    pub control: Group,
    pub quota: Group,
    /// Who votes is not being changed: while it is, a failure may cost a quorum that the roles do not show.
    pub settled: bool,
    pub nodes: Vec<Node>,
    /// What is wrong in the cluster as far as this node knows, this node's own reasons apart.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// What the node that answers shows to the others.
    #[serde(default)]
    pub certificate: Option<NodeCertificate>,
    /// The key that seals everything secret.
    #[serde(default)]
    pub cluster_key: Option<ClusterKeyState>,
}

/// The key that seals everything secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterKeyState {
    /// Of the key that seals; the first is 1.
    pub generation: u64,
    /// Another one is being handed out, or the one before is not deleted yet on the node that answers.
    pub replacing: bool,
    /// Live nodes that do not have the next one on their disk yet.
    #[serde(default)]
    pub waits_for: Vec<u64>,
    /// Keys of before that the node that answers has not deleted yet.
    #[serde(default)]
    pub older: u64,
    /// The node that answers does not have the one that seals.
    #[serde(default)]
    pub lacks: bool,
}

/// A node's certificate among nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCertificate {
    /// RFC 3339: when it ends.
    pub expires_at: String,
    /// RFC 3339: from when on it is renewed, by itself.
    pub renews_at: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    Starting,
    Ready,
    /// Serves, with the limits that `reasons` name.
    Degraded,
    Draining,
}

impl Readiness {
    /// May a load balancer send requests here?
    #[must_use]
    pub fn takes_traffic(self) -> bool {
        matches!(self, Self::Ready | Self::Degraded)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        }
    }
}

/// Answer of `/readyz`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReadyReply {
    pub status: Readiness,
    pub reasons: Vec<String>,
}

/// One Raft group as the answering node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// `null` while there is none.
    pub leader: Option<u64>,
    pub term: u64,
    /// Index of the last entry this node applied.
    pub applied: u64,
    /// Index of the last entry this node knows to be committed.
    pub committed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    pub id: u64,
    pub name: String,
    /// Where other nodes reach it, host:port (UDP).
    pub peer: String,
    /// Where operators reach it, host:port; empty when unknown.
    pub admin: String,
    pub role: NodeRole,
    /// It holds its node lease, as far as the answering node knows.
    pub live: bool,
    /// Revision of the document it serves; `null` while unknown.
    pub revision: Option<u64>,
    /// Index of the last control entry it applied; `null` while unknown.
    pub applied: Option<u64>,
    /// Version of its program; empty when unknown.
    pub version: String,
    /// What it understands: a feature is refused while a live node's level is below it. `null` while unknown.
    pub feature_level: Option<u32>,
    /// Where it says it is (`serve --zone`); absent: it does not say.
    #[serde(default)]
    pub zone: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Of both groups.
    Voter,
    Learner,
}

impl NodeRole {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }
}

/// Asks for a token with which new nodes join.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// 60 to 604,800; default 3,600.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// How many nodes may join with it: 1 to 100; default 1.
    #[serde(default)]
    pub uses: Option<u32>,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct JoinToken {
    /// Shown once; never stored in the clear.
    pub token: String,
    /// RFC 3339.
    pub expires_at: String,
    pub uses: u32,
    /// Peer addresses a new node can be pointed at.
    pub peers: Vec<String>,
}

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// The voter that shall lead; absent: the cluster picks one.
    #[serde(default)]
    pub to: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transferred {
    /// Who leads the control group now.
    pub leader: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// The node that is no longer a member. Its id is never given out again.
    pub node: u64,
}

/// A new key of TLS session tickets is there.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TicketKeysRotated {
    /// How many there were so far.
    pub generation: u64,
}

/// Another key of the cluster is being handed out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ClusterKeyRotated {
    /// The one that it will be.
    pub generation: u64,
}
