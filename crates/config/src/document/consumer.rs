//! Who calls, what they may, and where secrets come from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ClassKind, LimitRef};

/// A value that is not in the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Used as `${secrets.NAME}`.
    pub name: String,
    /// `sealed`: what the cluster keeps sealed under this name (`tidegate secret put NAME`); `sealed:OTHER`: under another.
    /// Or what each node fetches for itself: `env:NAME` (its environment), `file:PATH` (relative to its working directory; a
    /// line end at its end is cut).
    #[schemars(regex(pattern = "^((env|file|sealed):.+|sealed)$"))]
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
    /// A group inside the tenant, for its limits and for reports. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The plan whose limits hold for all its requests. Default: the tenant's, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Limits of all its calls, beside those of its plan: a name, or `{limit: NAME, max: NUMBER}` for a maximum of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitRef>,
    /// The language models it may use, of those that a route serves: names of `models`. Its plan may allow fewer. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Calls of language models go only to deployments in one of these regions, or with one of these tags. Default: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<Vec<String>>,
    /// The header it names its end users in, for limits `per: [end_user]`. Default: as the route says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_user: Option<String>,
    /// How soon its requests are served, and how late they are shed, while there is too little room. Default: as its plan says,
    /// or else the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ClassKind>,
}

pub(super) fn default_tenant() -> String {
    "default".to_owned()
}
