//! Keys: credentials of consumers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::NodeApplied;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// Name of a consumer in the document.
    pub consumer: String,
    /// Default: `default`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// For people: up to 256 bytes.
    #[serde(default)]
    pub name: Option<String>,
    /// Absent: it lives until it is revoked.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// Name of a plan in the document, instead of its consumer's.
    #[serde(default)]
    pub plan: Option<String>,
}

/// What is known of a key. The secret is not: only its hash is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    pub id: u64,
    pub tenant: String,
    pub consumer: String,
    pub name: String,
    /// Its own plan; absent: its consumer's.
    #[serde(default)]
    pub plan: Option<String>,
    /// The beginning of the secret, to recognise it by.
    pub prefix: String,
    pub state: KeyState,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub revoked_at: Option<String>,
    /// RFC 3339: until when the secret before the last rotation still works.
    #[serde(default)]
    pub grace_until: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    Active,
    Expired,
    Revoked,
}

impl KeyState {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Keys {
    pub keys: Vec<Key>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// How long the old secret still works: 0 to 2,592,000; default 86,400.
    #[serde(default)]
    pub grace_seconds: Option<u64>,
}

/// Another plan for a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPlan {
    /// Name of a plan in the document; null: its consumer's.
    #[serde(default)]
    pub plan: Option<String>,
}

/// A new secret. It is shown here and never again.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedKey {
    #[serde(flatten)]
    pub key: Key,
    pub secret: String,
    /// Every node knows it, or its node lease lapsed.
    pub complete: bool,
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedKey {
    pub id: u64,
    pub nodes: Vec<NodeApplied>,
    /// Every node refuses it, or its node lease lapsed.
    pub complete: bool,
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey").field("key", &self.key).finish_non_exhaustive()
    }
}
