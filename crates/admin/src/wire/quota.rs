//! Counters of limits, and what operators order about them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::NodeApplied;

/// Whom a limit counts, in words: what its `per` names. An empty text: those that have none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaSubject {
    /// Default: the key's, or the route's, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// Its id; 0: callers without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Of a language model, as the document names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whose token has the `claims`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Values by claim of a token; one empty value: those without it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Vec<String>>,
}

/// Which counter is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GetQuota {
    pub limit: String,
    #[serde(default)]
    pub subject: QuotaSubject,
    /// What this node has, without asking the quota leader.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// A counter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaCount {
    pub limit: String,
    pub limit_id: String,
    /// Its hash in the ledger.
    pub subject: String,
    /// The subject for people.
    pub words: String,
    /// `sliding`, `bucket`, `concurrency`, …
    pub kind: String,
    /// The window, or the time in which a bucket fills.
    pub span_ms: u64,
    /// In force, orders included.
    pub max: u64,
    /// As the document says.
    pub document_max: u64,
    /// Of a limit with a rate, `max` is the burst: its rate in force, orders included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_rate: Option<String>,
    /// Reported spent in the window.
    pub spent: u64,
    /// Held by nodes, who may spend it.
    pub outstanding: u64,
    /// Could be granted now.
    pub free: u64,
    /// Left of what was granted by order; part of `free`.
    pub extra: u64,
    /// `spent` of `max`.
    pub utilisation: f64,
    /// The most that was reported spent in a window.
    pub worst_window: u64,
    /// Since when that is known: `node 2 started, or the counter was last empty`.
    pub worst_since: String,
    pub nodes: Vec<QuotaHolder>,
    /// By the live nodes, since they know the counter.
    pub refused: u64,
    pub would_refuse: u64,
    /// In force for it.
    pub orders: Vec<QuotaOrder>,
    /// The node whose ledger it is.
    pub node: u64,
}

/// What a node holds of a counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaHolder {
    pub node: u64,
    pub lease: u64,
    /// Its partition reserve.
    pub reserve: u64,
}

/// The busiest counters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct QuotaTop {
    pub counters: Vec<QuotaTopEntry>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaTopEntry {
    pub limit: String,
    pub limit_id: String,
    pub subject: String,
    /// Empty: no live node saw it lately.
    pub words: String,
    pub max: u64,
    pub spent: u64,
    pub outstanding: u64,
    pub utilisation: f64,
    pub refused: u64,
    pub would_refuse: u64,
}

/// An order about a limit or a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderQuota {
    /// For a block: this, or `key`, or `consumer` of `subject` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    #[serde(default)]
    pub subject: QuotaSubject,
    /// For `set`: the maximum. For `grant`: how many permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u64>,
    /// For `set`, of a limit with a rate: `20/s`. What is not said is as the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// For `set`, of a limit with a rate: the same as `permits`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// How long it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_seconds: Option<u64>,
    /// Until when, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// It is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaOrdered {
    pub order: QuotaOrder,
    pub nodes: Vec<NodeApplied>,
    /// It is in force: in the ledger, and on every live node.
    pub complete: bool,
    /// Why it is not in the ledger yet; it will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

/// What was ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaOrder {
    pub id: u64,
    /// `set`, `grant`, `reset` or `block`.
    pub order: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_id: Option<String>,
    /// Whom for people; empty: all subjects of the limit.
    pub words: String,
    /// Of a limit with a rate: the burst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permits: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// Name of the admin token.
    pub by: String,
    pub at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    pub reason: String,
}

/// All that are in force, and what happened to those before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct QuotaOrders {
    pub orders: Vec<QuotaOrder>,
    /// Newest first; those of long ago are forgotten.
    pub events: Vec<QuotaEvent>,
}

/// One line of the history of orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaEvent {
    pub at: String,
    /// `given`, `withdrawn`, `lapsed` or `replaced`.
    pub happened: String,
    /// By whom: who withdrew it, or gave it.
    pub by: String,
    pub order: QuotaOrder,
}
