//! Providers of language models, the models that callers name, and routes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::routing::{ConditionRule, HedgeRule, OnErrorRule, StickyRule, StrategyKind};
use super::upstream::one;
use super::{AnswerRule, BodyRule, BreakerRule, OverloadRule, PriceRule, RetryRules, UpstreamTimes, UpstreamTlsRule};
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
    /// Required for `azure` (`https://NAME.openai.azure.com`), `vllm`, `openai_compatible`, and `bedrock`
    /// (`https://bedrock-runtime.REGION.amazonaws.com`) without `aws.region`. Default: where everybody finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A reference to a secret: `${secrets.NAME}`. Sent as the provider wants it; what the caller proved himself with never
    /// is. At most one of `key`, `token`, `aws`, and an account or metadata server of `google`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// As `key`, but sent as `Authorization: Bearer` whatever the kind: a token of Entra ID for `azure`, an access token for
    /// `vertex`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// For `bedrock`: each call is signed with these (Signature Version 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsRule>,
    /// For `vertex` and `vertex_anthropic`: the project, and whose tokens are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google: Option<GoogleRule>,
    /// For `azure`: its older paths, `deployments/NAME/chat/completions?api-version=` with this version. Default: the `v1` API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// May callers bring a key of this provider's, for which it bills them? In the header `x-tidegate-provider-key`, as `KEY`
    /// or `PROVIDER=KEY`; or, at routes without `auth`, as their SDK sends it. Such a call goes to nobody whose key the caller
    /// did not bring.
    #[serde(default, skip_serializing_if = "is_never")]
    pub caller_keys: CallerKeyRule,
    /// Headers of callers that go to this provider beside our key, as they came. Those that say how to answer
    /// (`anthropic-version`, `anthropic-beta`, `openai-beta`) always do where caller and provider speak the same dialect;
    /// those that name an account or a bill (`openai-organization`, `openai-project`, `idempotency-key`,
    /// `x-goog-user-project`, `x-amz-*`, `helicone-*`) go along only beside a caller's own key, unless they stand here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caller_headers: Vec<String>,
    /// Bounds on waiting. `first_byte` is 10m here unless it says otherwise, `idle` is 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<UpstreamTimes>,
    /// Of streams: from the call to the first event of the answer; after it the next deployment is tried. Default: unbounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event: Option<Span>,
    /// When a call is tried again here; other deployments are tried after it. Default: once, when no connection could be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetryRules>,
    /// Open connections, per node: each stream holds one. Default: 8192.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// For `https`. Default: the system's roots and the provider's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsRule>,
    /// When it is no longer asked; other deployments take its calls, so it has no `fallback`, `respond` or `stored`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRule>,
    /// How many calls run here at once, and who waits; until the answer's head, unless `concurrency` is a number. Default: as
    /// many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<OverloadRule>,
}

impl ProviderRule {
    /// Texts that may name secrets.
    pub(crate) fn proofs(&self) -> impl Iterator<Item = &str> {
        let (aws, google) = (self.aws.as_ref(), self.google.as_ref());
        let of_aws =
            aws.map(|aws| [Some(&aws.access_key_id), Some(&aws.secret_access_key), aws.session_token.as_ref()]);
        let others =
            [self.key.as_ref(), self.token.as_ref(), google.and_then(|google| google.service_account.as_ref())];
        others.into_iter().chain(of_aws.into_iter().flatten()).flatten().map(String::as_str)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ProviderKind {
    OpenAi,
    /// Azure OpenAI: models are named by their deployments.
    Azure,
    Anthropic,
    /// The Gemini API.
    Gemini,
    /// Gemini on Vertex AI: by API key, or with `google`.
    Vertex,
    /// Claude on Vertex AI, with `google`.
    #[serde(rename = "vertex_anthropic")]
    VertexAnthropic,
    /// Converse of Amazon Bedrock: by API key, or with `aws`.
    Bedrock,
    Mistral,
    /// By its own `v2` API.
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

/// Credentials of an AWS account or role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsRule {
    /// Itself, or `${secrets.NAME}`.
    pub access_key_id: String,
    /// `${secrets.NAME}`.
    pub secret_access_key: String,
    /// `${secrets.NAME}`: of credentials that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// `eu-central-1`. Default: as the address says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// A place on Vertex AI, and who is let in there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GoogleRule {
    /// The project's id. Required unless `url` has a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// `europe-west4`. Default: `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// `${secrets.NAME}`: the JSON file of a service account. Each node fetches tokens with it, and new ones before they end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// The address of a metadata server that gives tokens: `http://metadata.google.internal` on Google's machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

/// Whether callers may bring keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CallerKeyRule {
    /// They are not looked at.
    #[default]
    Never,
    /// Theirs if they bring one, ours otherwise.
    May,
    /// Without one they are not served here.
    Must,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_never(rule: &CallerKeyRule) -> bool {
    *rule == CallerKeyRule::Never
}

/// A name that callers use, and who answers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRule {
    /// What callers write into `model`. With a `*` at its end, every name that begins so: `gpt-*`. An exact name is worth
    /// more than a pattern, a longer pattern more than a shorter one.
    pub name: String,
    /// Who answers: of those that can, the ones of the highest priority, as `strategy` says; when one fails before the first
    /// byte, the others, one after the other.
    #[schemars(length(min = 1))]
    pub deployments: Vec<DeploymentRule>,
    /// Which deployment of one priority is asked first.
    #[serde(default, skip_serializing_if = "is_weighted")]
    pub strategy: StrategyKind,
    /// How `strategy: sticky` keeps what belongs together at one deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickyRule>,
    /// The first that holds says whom a call may go to; where none does, to all deployments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionRule>,
    /// Names of models that are asked, in this order, when no deployment of this one answers; and theirs after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    /// What is done about a failure before the first byte, by its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnErrorRule>,
    /// Tries of one call at most, the first included, those at fallbacks too. Default: 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub attempts: Option<u32>,
    /// No further try of a call begins later than this after the call came. Default: 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// A second deployment is asked as well when the first one is late; who answers first is heard. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<HedgeRule>,
    /// The most tokens that an answer may have. A call that says nothing asks for so many, one that asks for more gets so
    /// many: then limits know what it can come to. Default: as the caller and the provider say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
    /// What becomes of a field that the provider's format cannot carry.
    #[serde(default)]
    pub losses: LossRule,
    /// Answers that are given again to whoever asks exactly the same, instead of what the route's `llm.cache` says; with
    /// `ttl: 0s` none. Default: as the route says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<AnswerRule>,
}

/// One place where a model is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeploymentRule {
    /// Tells it from another deployment of the same model at the same provider: one in another region, one with another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A provider's name.
    pub provider: String,
    /// The provider's name for the model. `*`: what the caller's name has in place of the pattern's `*`, `gpt-5` of
    /// `openai/gpt-5` for `openai/*`. Default: the name that the caller used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Instead of the provider's `key`: `${secrets.NAME}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where it computes: `eu-west-1`. Callers and their `residency` may ask for it, or for what it is in: `eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Words that `conditions`, `residency` and callers choose it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Limits that each call to it passes, whoever calls: what its provider allows, say. One whose limit is spent is passed
    /// over; when nobody else is left, the caller is told when to come again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Tokens that prompt and answer may have together. Default: as the catalogue says; a model that is not in it takes all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub context: Option<u64>,
    /// All that it can beyond text. Default: as the catalogue says; a model that is not in it can everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Vec<Ability>>,
    /// Its share of the calls, against the others of its priority; 0 takes none but when all others failed.
    #[serde(default = "one")]
    #[schemars(range(max = 1_000_000))]
    pub weight: u32,
    /// Higher first. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// What it costs here. Default: as the catalogue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceRule>,
    /// The model of the catalogue that this is, where its name does not tell (Azure's deployments): `openai/gpt-4o`, a kind of
    /// provider and a name; or a name at a provider of this kind. Default: `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
}

/// What not every model can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Ability {
    /// Call tools.
    Tools,
    /// See images in prompts.
    Vision,
    /// Answer by a JSON schema.
    JsonSchema,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_weighted(kind: &StrategyKind) -> bool {
    *kind == StrategyKind::Weighted
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

/// A caller who is gone before his stream has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum HangUp {
    /// The provider's work is cancelled at once; what was said until then is paid.
    #[default]
    Cancel,
    /// The provider is heard to its end, for ten minutes at the most: its own count is paid, and an answer that is kept is whole.
    Drain,
}

/// A route of language models. By the ends of their paths it knows the calls of OpenAI (`chat/completions`, `responses`,
/// `embeddings`, `models`), Anthropic (`messages`, `messages/count_tokens`), Gemini (`models/NAME:generateContent`,
/// `:streamGenerateContent`, `:countTokens`), Bedrock (`model/NAME/converse`, `converse-stream`) and Cohere (`v2/chat`), so
/// one route may take them all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmRule {
    /// Names of models that callers may use here. Required without `native`.
    #[serde(default)]
    pub models: Vec<String>,
    /// Names of providers whose own paths are passed as they are: `/openai/v1/files` goes to the provider `openai` as
    /// `/v1/files`, with its credentials instead of the caller's, and nothing of it is gathered but calls that are known, which
    /// are priced as the catalogue says. Callers with a list of models may not. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub native: Vec<String>,
    /// Answers that are no streams say in `x-tidegate-cost` how many dollars they cost.
    #[serde(default)]
    pub tell_cost: bool,
    /// What becomes of an answer whose caller hangs up.
    #[serde(default)]
    pub hang_up: HangUp,
    /// Keep answers and give them again to whoever asks exactly the same. Default: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<AnswerRule>,
    /// Log what is asked and answered, with keys and media left out. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bodies: Option<BodyRule>,
}
