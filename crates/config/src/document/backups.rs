//! Backups that the cluster makes by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Span;

/// Backups by the node that leads the control group; see docs/operations.md for what is in them, and how one is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRules {
    /// A folder, the same path on each node: best one that all of them share. Or `s3://BUCKET/PREFIX`, with `s3`.
    pub to: String,
    /// The public half of the key that opens them, `tgbp1-…`: `tidegate cluster backup-key` makes one. It is no secret.
    pub key: String,
    /// Between two backups, 1m to 31d. Default: 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// So many of this cluster's are kept, 1 to 10000; older ones are deleted. Default: 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// How a store is reached that speaks S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Rule>,
}

/// A store that speaks S3. Buckets are named in the path, requests signed (AWS Signature Version 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Rule {
    /// `https://host[:port]`; `http://` for a store on the same machine.
    pub endpoint: String,
    /// What requests are signed for. Default: us-east-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The key's id, or `${secrets.NAME}`.
    pub access_key_id: String,
    /// `${secrets.NAME}`.
    pub secret_access_key: String,
    /// PEM certificates that sign the store's. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}
