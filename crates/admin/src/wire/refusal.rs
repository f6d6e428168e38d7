//! How the admin API says no.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReply {
    pub error: ErrorBody,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// For programs; never changes its meaning.
    pub code: String,
    /// For people.
    pub message: String,
    /// Names this request in the node's log.
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// With `invalid_document`: everything that is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// With `revision_conflict`: the revision that is current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}
