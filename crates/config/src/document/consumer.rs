//! Who calls, what they may, and where secrets come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A value each node fetches for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Used as `${secrets.NAME}`.
    pub name: String,
    /// `env:NAME` (the node's environment) or `file:PATH` (relative to the node's working directory; a line end at its
    /// end is cut).
    #[schemars(regex(pattern = "^(env|file):.+$"))]
    pub from: String,
}

/// An application or a person. Keys refer to it by tenant and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerEntry {
    /// Unique in its tenant.
    pub name: String,
    /// The isolation boundary it belongs to.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// A group inside the tenant, for reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The plan whose limits hold for all its requests. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// A named set of limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Used by consumers.
    pub name: String,
    /// Names of limits; all of them hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
}

pub(super) fn default_tenant() -> String {
    "default".to_owned()
}
