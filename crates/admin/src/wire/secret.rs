//! Operators' secrets. A value goes in and never comes out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::NodeApplied;

/// A value, to be sealed with the cluster's key before it goes anywhere. Never printed.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// 1 to 8,192 bytes, taken as they are.
    pub value: String,
}

impl std::fmt::Debug for PutSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PutSecret(…)")
    }
}

/// What is known of one: never its value, nor anything that a guess could be compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretState {
    pub name: String,
    /// How many values it has had.
    pub generation: u64,
    /// RFC 3339: when the newest was put here.
    pub changed_at: String,
    /// The admin token that did.
    pub by: String,
    /// Parts of the published document: `secrets.NAME`, and what has its value in it.
    pub used_by: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    pub secrets: Vec<SecretState>,
}

/// It was changed, and which nodes know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretChanged {
    pub name: String,
    /// As it is now; absent: it is gone.
    #[serde(default)]
    pub secret: Option<SecretState>,
    pub nodes: Vec<NodeApplied>,
    /// Every node uses the new value, or its node lease lapsed.
    pub complete: bool,
}
