//! Who changed what.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Role;

/// Records, the oldest of them first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditReply {
    pub records: Vec<AuditRecord>,
    /// Older records are kept no more: so many. Numbers go on behind it.
    pub forgotten: u64,
    /// The hash of the last of those: what the oldest that is kept follows. Zeros when there is none.
    pub before: String,
    /// Number of the newest record of all, whatever was asked for. 0: there is none.
    pub head: u64,
    /// And its hash: who keeps both knows later that nothing up to there was changed.
    pub head_hash: String,
    /// There are more: ask again with `after` so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Counts from 1 without gaps.
    pub seq: u64,
    /// Its entry in the control log; 0: it was made while no cluster ran.
    pub index: u64,
    /// By the wall clock of the node that proposed it, to the millisecond.
    pub at: String,
    pub actor: AuditActor,
    /// Where the request came from; empty: from the node itself.
    pub address: String,
    /// The id of the request, as its answer and the node's log have it; empty: there was none.
    pub request: String,
    /// As `key.revoke`.
    pub action: String,
    /// What it was done to, as `key 3`.
    pub target: String,
    pub detail: String,
    /// `done`, or `refused: ` and why.
    pub result: String,
    /// The hash of the record before.
    pub previous: String,
    /// BLAKE3 over that and this record (docs/audit.md).
    pub hash: String,
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditActor {
    /// `token`, `certificate` (of an operator) or `node` (the cluster itself).
    pub kind: String,
    /// Of the token or the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}
