//! The document: its text, its revisions, what is wrong with it, what a change of it does.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{EndpointSet, QuotaEvent, QuotaOrder};

/// One published revision, with its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentReply {
    #[serde(flatten)]
    pub info: RevisionInfo,
    /// YAML or JSON, as it was published.
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionInfo {
    pub revision: u64,
    /// RFC 3339; of the clock of the leader that took it.
    pub published_at: String,
    /// Name of the admin token that published it.
    pub by: String,
    /// Why, in the publisher's words.
    #[serde(default)]
    pub note: String,
    /// Length of the text.
    pub bytes: u64,
}

/// Published revisions, newest first. Old ones are dropped when there are too many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryReply {
    pub revisions: Vec<RevisionInfo>,
    /// What operators ordered about limits, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<QuotaEvent>,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `error`: the document is refused. `warning`: it is served; somebody should have a look.
    pub severity: Severity,
    /// The file it is in, when the document came as files.
    #[serde(default)]
    pub file: Option<String>,
    /// From 1.
    #[serde(default)]
    pub line: Option<u64>,
    /// From 1.
    #[serde(default)]
    pub column: Option<u64>,
    /// Where in the document: `routes[2].to[0].upstream`.
    pub path: String,
    pub reason: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReply {
    /// It would be published: there are at most warnings.
    pub ok: bool,
    pub problems: Vec<Problem>,
}

/// What publishing a document would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiffReply {
    /// The revision it was compared with; 0: none was published.
    pub from: u64,
    pub changes: Vec<Change>,
    /// Endpoints of which weight or drain is set by hand: that holds, whatever the document says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<EndpointSet>,
    /// Operators' orders about limits that are in force: they hold, whatever the document says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<QuotaOrder>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    /// `added`, `removed` or `changed`.
    pub kind: String,
    /// `routes.users`, `limits.per-key.max`
    pub path: String,
    /// For `changed` and `removed`; credentials are masked.
    #[serde(default)]
    pub before: Option<serde_json::Value>,
    /// For `changed` and `added`; credentials are masked.
    #[serde(default)]
    pub after: Option<serde_json::Value>,
    /// What it does to counters, when it does something.
    #[serde(default)]
    pub effect: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishReply {
    pub revision: u64,
    /// Index of its entry in the control log.
    pub index: u64,
    /// What somebody should have a look at.
    #[serde(default)]
    pub warnings: Vec<Problem>,
    /// Present when asked to wait.
    #[serde(default)]
    pub nodes: Option<Vec<NodeApplied>>,
    /// Present when asked to wait: every node serves it, or its node lease lapsed.
    #[serde(default)]
    pub complete: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeApplied {
    pub node: u64,
    /// `applied`, `lapsed` (its node lease ran out; it serves on under the rules for cut-off nodes), `waiting`, or
    /// `not_serving` (it has the document and cannot compile it: a file or secret is missing there, or its release is
    /// older; it serves the revision before, and `/readyz` on it says why).
    pub state: String,
}

impl NodeApplied {
    pub const APPLIED: &str = "applied";
    pub const LAPSED: &str = "lapsed";
    pub const WAITING: &str = "waiting";
    pub const NOT_SERVING: &str = "not_serving";
}
