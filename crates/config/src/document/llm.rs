//! Providers of language models, the models that callers name, and routes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::upstream::one;
use super::{BreakerRule, RetryRules, UpstreamTimes, UpstreamTlsRule};
use crate::units::Span;

/// Somebody who answers calls of models. For connections, breakers, metrics and `tidegate upstream` it is an upstream of
/// this name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderRule {
    /// Used by models. No upstream has the same name.
    pub name: String,
    /// How it is spoken to.
    pub kind: ProviderKind,
    /// Scheme, host, port and the path before all others: `https://api.openai.com/v1`; without a path, that of its kind.
    /// Required for `azure` (`https://NAME.openai.azure.com`), `bedrock` (`https://bedrock-runtime.REGION.amazonaws.com`), `vllm` and
    /// `openai_compatible`. Default: where everybody finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A reference to a secret: `${secrets.NAME}`. Sent as the provider wants it; the caller's own key never is. Bedrock and
    /// Vertex take API keys. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Bounds on waiting. `first_byte` is 10m here unless it says otherwise, `idle` is 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<UpstreamTimes>,
    /// Of streams: from the call to the first event of the answer; after it the next deployment is tried. Default: unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event: Option<Span>,
    /// When a call is tried again here; other deployments are tried after it. Default: once, when no connection could be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetryRules>,
    /// Open connections, per node. Default: 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// For `https`. Default: the system's roots and the provider's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsRule>,
    /// When it is no longer asked; other deployments take its calls, so it has no `fallback`, `respond` or `stored`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ProviderKind {
    OpenAi,
    /// Azure OpenAI, by its `v1` API: models are named by their deployments.
    Azure,
    Anthropic,
    /// The Gemini API.
    Gemini,
    /// Gemini on Vertex AI, by API key.
    Vertex,
    /// Converse of Amazon Bedrock, by API key.
    Bedrock,
    Mistral,
    /// By its OpenAI-compatible API.
    Cohere,
    Groq,
    DeepSeek,
    Xai,
    OpenRouter,
    /// The router of Hugging Face.
    HuggingFace,
    Ollama,
    Vllm,
    Qianfan,
    Qwen,
    /// Anybody else who serves `chat/completions`.
    #[serde(rename = "openai_compatible")]
    OpenAiCompatible,
}

/// A name that callers use, and who answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRule {
    /// What callers write into `model`. With a `*` at its end, every name that begins so: `gpt-*`. An exact name is worth
    /// more than a pattern, a longer pattern more than a shorter one.
    pub name: String,
    /// Who answers: those of the highest priority by weight; when one fails before the first byte, the others, one after
    /// the other.
    #[schemars(length(min = 1))]
    pub deployments: Vec<DeploymentRule>,
    /// The most tokens that an answer may have. A call that says nothing asks for so many, one that asks for more gets so
    /// many: then limits know what it can come to. Default: as the caller and the provider say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
    /// What becomes of a field that the provider's format cannot carry.
    #[serde(default)]
    pub losses: LossRule,
}

/// One place where a model is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRule {
    /// A provider's name.
    pub provider: String,
    /// The provider's name for the model. Default: the name that the caller used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its share of the calls, against the others of its priority; 0 takes none but when all others failed.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// Higher first. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LossRule {
    /// The call is refused with a 400 that names the field.
    #[default]
    Reject,
    /// It is left out, and the header `x-tidegate-dropped` of the answer names it.
    Drop,
}

/// A route of language models. By the ends of their paths it knows the calls of OpenAI (`chat/completions`, `responses`,
/// `embeddings`, `models`), Anthropic (`messages`, `messages/count_tokens`), Gemini (`models/NAME:generateContent`,
/// `:streamGenerateContent`, `:countTokens`) and Bedrock (`model/NAME/converse`, `converse-stream`), so one route may
/// take them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmRule {
    /// Names of models that callers may use here.
    #[schemars(length(min = 1))]
    pub models: Vec<String>,
}
