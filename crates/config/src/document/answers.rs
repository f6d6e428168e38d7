//! What is kept of calls of language models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// Whole answers are kept and given again to whoever asks exactly the same: the same words, tools and parameters in the same
/// dialect, however the JSON is spelled, streamed or not. A hit asks no provider and costs no tokens and no money. The tenant
/// always is a wall; calls with a key of the caller's own are neither looked up nor kept. `cache: {ttl: 1h}` is a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerRule {
    /// How long an answer is given again; at most 366d.
    pub ttl: Span,
    /// Who shares an answer. Default: tenant.
    #[serde(default, skip_serializing_if = "is_tenant")]
    pub per: AnswerSharing,
    /// A longer answer is not kept. Default: 1MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_answer: Option<Size>,
    /// How an answer ended that is kept. Default: `[stop, tool_calls, length]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<Vec<AnswerEnd>>,
    /// Only calls that ask for the same answer each time: with `temperature: 0` or a `seed`. Default: any.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deterministic: bool,
    /// Tags of all its answers beside `model:NAME` and `route:NAME`: `tidegate cache purge --tag`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Does `Cache-Control` of a call count (`no-cache`, `no-store`, `only-if-cached`, …)? Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heed_clients: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AnswerSharing {
    /// All callers of the tenant.
    #[default]
    Tenant,
    /// Each consumer has its own; so have the callers of tokens.
    Consumer,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_tenant(sharing: &AnswerSharing) -> bool {
    *sharing == AnswerSharing::Tenant
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AnswerEnd {
    /// As the model saw fit.
    Stop,
    /// With calls of tools.
    ToolCalls,
    /// Cut at its longest.
    Length,
    /// By a filter.
    ContentFilter,
}

/// What callers and models say goes into the access log, as `llm.call` and `llm.answer`. Keys and tokens are left out
/// wherever they stand; images and other media are logged as their type, size and digest. `log_bodies: {}` is a start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyRule {
    /// Of each, after what is left out; the rest is cut. At most 128KiB. Default: 16KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Size>,
    /// Log what is asked? Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<bool>,
    /// Log what is answered? Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<bool>,
    /// Members that are left out, as paths from the top: `messages.*.content`, `input`, `metadata.user_id`. `*` is any
    /// member or item.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// Regular expressions; what they match in any text is left out: `[0-9]{3}-[0-9]{2}-[0-9]{4}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<String>,
}
