//! Whom of a model's deployments a call goes to, and to whom when that fails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Share, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StrategyKind {
    /// Drawn by `weight`.
    #[default]
    Weighted,
    /// In the order of the list.
    Priority,
    /// The better of two drawn by `weight`: by the time to the first event and per token, as this node saw them lately.
    /// Whom it does not know is tried.
    Fastest,
    /// By the catalogue's prices, for this call.
    Cheapest,
    /// What belongs together goes to one deployment, on every node to the same: provider caches of prompts hit.
    Sticky,
}

/// What belongs together, and how much of it goes to one place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickyRule {
    /// The first of these that a call has: `header:NAME`, `claim:NAME` (of a token), `user` (`user` of the body,
    /// `metadata.user_id`), `prompt_cache_key`, `consumer`, `key`, `prompt` (how it begins: system prompt, tools, first
    /// message). Calls without any go by weight. Default: [prompt_cache_key, prompt].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// The most that a deployment carries, in percent of its fair share of the calls under way on this node; more goes to the
    /// next. Default: 150.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 10_000))]
    pub load: Option<u32>,
}

/// Exactly one of `tags`, `model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionRule {
    /// An expression in CEL over `model` (as asked), `caller` (`consumer`, `tenant`, `team`, `plan`, `claims`), `headers`,
    /// `prompt` (`bytes`, `tokens` as estimated, `messages`, `tools`, `images`, `json_schema`), `tags` (as the caller asks by
    /// `x-tidegate-tags`), `stream`, `max_tokens`, `user`. One that fails does not hold.
    pub when: String,
    /// To deployments that have all of these tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// To this model instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// Kinds of failures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnErrorRule {
    /// 429, 529, and 503 with a `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttled: Option<ReactionRule>,
    /// Other 5xx, answers that cannot be read, streams that end before they begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ReactionRule>,
    /// No answer, or no first event, in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<ReactionRule>,
    /// No connection, or an open breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<ReactionRule>,
    /// The prompt is too long for it. `next`: of the others only those that take more, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_exceeded: Option<ReactionRule>,
    /// Its filter refused the prompt, or left nothing of the answer. Default: the caller is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_filtered: Option<ReactionRule>,
    /// It does not accept our key, or the account has no money (401, 402, 403).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ReactionRule>,
    /// It does not know the model (404).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_found: Option<ReactionRule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReactionRule {
    /// What is done then. Default: `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<ThenKind>,
    /// To this model: instead of `then`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Further tries at the same deployment before that, each after a pause that doubles from 100ms, or after what the
    /// provider asks for. Default: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 5))]
    pub retries: Option<u32>,
    /// A provider that asks for a longer pause is not tried again for this call. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ThenKind {
    /// The next deployment, then the fallbacks.
    Next,
    /// The fallbacks at once.
    Fallbacks,
    /// The caller is told.
    Fail,
}

/// A second call beside a late one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HedgeRule {
    /// When there is no first event by then; of calls without a stream, no answer.
    pub after: Span,
    /// Further calls beside the first, each `after` the last. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3))]
    pub at_most: Option<u32>,
    /// Share of the model's recent calls on a node that may be hedged. Default: 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Share>,
}
