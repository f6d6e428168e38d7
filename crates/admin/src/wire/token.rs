//! Admin tokens: who may do what at the admin port.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks.
    Reader,
    /// Publishes documents, issues and revokes keys.
    Operator,
    /// Members, join tokens and admin tokens.
    Admin,
}

impl From<tidegate_state::Role> for Role {
    fn from(role: tidegate_state::Role) -> Self {
        match role {
            tidegate_state::Role::Reader => Self::Reader,
            tidegate_state::Role::Operator => Self::Operator,
            tidegate_state::Role::Admin => Self::Admin,
        }
    }
}

impl From<Role> for tidegate_state::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Reader => Self::Reader,
            Role::Operator => Self::Operator,
            Role::Admin => Self::Admin,
        }
    }
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        tidegate_state::Role::from(self).as_str()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Who it is for: 1 to 256 bytes, shown in the history.
    pub name: String,
    pub role: Role,
    /// Absent: it lives until it is revoked.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminToken {
    pub id: u64,
    pub name: String,
    pub role: Role,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    #[serde(default)]
    pub expires_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminTokens {
    pub tokens: Vec<AdminToken>,
}

/// What became of a revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevokedToken {
    pub id: u64,
    /// Every node refuses it, or its node lease lapsed.
    pub complete: bool,
}

/// A new admin token. It is shown here and never again.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct IssuedToken {
    #[serde(flatten)]
    pub info: AdminToken,
    pub token: String,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedToken").field("info", &self.info).finish_non_exhaustive()
    }
}
