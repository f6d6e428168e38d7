//! What language models were used.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageReply {
    /// First day, UTC: `2026-11-01`.
    pub since: String,
    /// Last day, included.
    pub until: String,
    pub by: Vec<String>,
    /// One for each combination of `by` that was used, sorted; of days with very many, the smallest are told as `other`.
    pub rows: Vec<UsageRow>,
    pub total: UsageAmounts,
    /// At the present pace: today until midnight, and this month until its end. Of the same filters, whatever the days.
    pub projections: Vec<UsageProjection>,
    /// Days up to this one are kept by tenant and model only.
    pub coarse_until: Option<String>,
}

/// Fields that `by` does not name are not there. Empty: there is none, as a call without a key has no consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(flatten)]
    pub used: UsageAmounts,
}

/// Sums. Classes of tokens do not overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageAmounts {
    /// For which a provider was asked.
    pub calls: u64,
    /// Of them those that got no answer, or none that is whole.
    pub failed: u64,
    /// Of them those whose tokens are an estimate: their provider did not say.
    pub estimated: u64,
    /// Of them those whose price nobody knows: they are not in `cost`.
    pub unpriced: u64,
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub audio_in_tokens: u64,
    pub image_in_tokens: u64,
    pub audio_out_tokens: u64,
    pub image_out_tokens: u64,
    pub total_tokens: u64,
    /// Billionths of a dollar.
    pub cost_nanos: u64,
    /// Dollars, as `0.000175`.
    pub cost: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageProjection {
    /// `day` or `month`.
    pub period: String,
    /// Its last day.
    pub until: String,
    /// So far.
    pub calls: u64,
    pub total_tokens: u64,
    pub cost_nanos: u64,
    /// When it ends.
    pub projected_calls: u64,
    pub projected_tokens: u64,
    pub projected_cost_nanos: u64,
    /// Dollars.
    pub projected_cost: String,
}
