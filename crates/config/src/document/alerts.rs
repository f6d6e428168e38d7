//! Who is told of what happens to budgets.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Alerts: a key's spend has passed a threshold of its budget (`limits[].budget.alerts`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRules {
    /// Each is sent every alert, by the node that leads the quota group: at least once, with an id that stays the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<WebhookRule>,
}

/// A receiver: it is sent a JSON object by POST, and has taken it when it answers 2xx. Other answers, and none within 10 s,
/// are tried again for a day, first after a second, then ever more seldom. Redirects are not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookRule {
    /// For logs and metrics.
    pub name: String,
    /// `https://host/path`, or `http://`. Parts of it may be secrets: `${secrets.NAME}`.
    pub url: String,
    /// `${secrets.NAME}`: a key that each alert is signed with. The header `tidegate-signature` is `t=SECONDS,v1=HEX`, HEX
    /// the HMAC-SHA256 of `SECONDS.BODY`. Default: alerts are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}
