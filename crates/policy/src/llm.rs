//! Providers of language models, the models that callers name, and what each leads to.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri, header};
use tidegate_llm::catalogue::{self, Catalogue};
use tidegate_llm::kept::Tag;
use tidegate_llm::price::Tariff;
use tidegate_llm::tokens::Encoding;
use tidegate_llm::{Dialect, Switch, Target};

use crate::{Answers, Attached, Bodies, CallerKeys, Choice, Credential, Reaction, Routing, Upstream};

/// What a route of models serves.
#[derive(Debug)]
pub struct Llm {
    /// In the document's order.
    pub models: Vec<Arc<Model>>,
    /// Those that the models lead to, each once.
    pub providers: Vec<Arc<Provider>>,
    /// Whose own paths are passed as they are: by the provider's name, the one deployment of whatever callers name there.
    pub native: Vec<Arc<Model>>,
    /// Are callers told what their call cost?
    pub tells_cost: bool,
    /// Is a stream heard to its end when its caller hangs up?
    pub drains: bool,
    /// Answers that are given again, where a model does not say otherwise.
    pub answers: Option<Arc<Answers>>,
    /// Bodies that are logged.
    pub bodies: Option<Arc<Bodies>>,
}

/// Somebody who answers calls of models.
#[derive(Debug)]
pub struct Provider {
    pub name: Arc<str>,
    pub kind: ProviderKind,
    /// Of the provider's own name: connections, breakers and counters are an upstream's.
    pub upstream: Arc<Upstream>,
    /// For the `Host` header.
    pub host: HeaderValue,
    /// Before each path: `/v1`. Without a slash at its end.
    pub base: Box<str>,
    /// What proves who we are.
    pub credential: Option<Credential>,
    pub caller_keys: CallerKeys,
    /// Of callers: they go along, also beside our key.
    pub caller_headers: Vec<HeaderName>,
    /// Azure's older paths: `deployments/NAME/…?api-version=`.
    pub api_version: Option<Box<str>>,
    /// From the call of a stream to its first event.
    pub first_event: Option<Duration>,
    /// Where chats go, for who knows it already: not of the document.
    pub chat: OnceLock<Uri>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Vertex,
    /// Claude on Vertex AI.
    VertexAnthropic,
    Bedrock,
    Mistral,
    Cohere,
    Groq,
    DeepSeek,
    Xai,
    OpenRouter,
    HuggingFace,
    Ollama,
    Vllm,
    Qianfan,
    Qwen,
    OpenAiCompatible,
}

/// How a provider wants to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    /// `chat/completions`.
    OpenAi,
    Anthropic,
    Gemini,
    /// Converse.
    Bedrock,
    /// `v2/chat`.
    Cohere,
}

/// Where a provider looks for the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPlace {
    /// `Authorization: Bearer`.
    Bearer,
    ApiKey,
    XApiKey,
    GoogApiKey,
}

impl KeyPlace {
    /// A key where the provider looks for it; `None`: it has characters that no header has.
    #[must_use]
    pub fn header(self, key: &str) -> Option<(HeaderName, HeaderValue)> {
        let (name, value) = match self {
            Self::Bearer => (header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}"))),
            Self::ApiKey => (HeaderName::from_static("api-key"), HeaderValue::from_str(key)),
            Self::XApiKey => (HeaderName::from_static("x-api-key"), HeaderValue::from_str(key)),
            Self::GoogApiKey => (HeaderName::from_static("x-goog-api-key"), HeaderValue::from_str(key)),
        };
        let mut value = value.ok()?;
        value.set_sensitive(true);
        Some((name, value))
    }
}

impl ProviderKind {
    /// As documents and the catalogue name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Azure => "azure",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vertex => "vertex",
            Self::VertexAnthropic => "vertex_anthropic",
            Self::Bedrock => "bedrock",
            Self::Mistral => "mistral",
            Self::Cohere => "cohere",
            Self::Groq => "groq",
            Self::DeepSeek => "deepseek",
            Self::Xai => "xai",
            Self::OpenRouter => "openrouter",
            Self::HuggingFace => "huggingface",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
            Self::Qianfan => "qianfan",
            Self::Qwen => "qwen",
            Self::OpenAiCompatible => "openai_compatible",
        }
    }

    #[must_use]
    pub const fn tongue(self) -> Tongue {
        match self {
            Self::Anthropic | Self::VertexAnthropic => Tongue::Anthropic,
            Self::Gemini | Self::Vertex => Tongue::Gemini,
            Self::Bedrock => Tongue::Bedrock,
            Self::Cohere => Tongue::Cohere,
            _ => Tongue::OpenAi,
        }
    }

    /// Does it serve OpenAI's `responses` as OpenAI does?
    #[must_use]
    pub const fn has_responses(self) -> bool {
        matches!(self, Self::OpenAi | Self::Azure)
    }

    /// How its models are told to think.
    #[must_use]
    pub const fn switch(self) -> Switch {
        match self {
            Self::OpenRouter => Switch::Reasoning,
            Self::DeepSeek => Switch::Thinking,
            Self::Qwen => Switch::EnableThinking,
            _ => Switch::Effort,
        }
    }

    /// Does it take a schema of an answer that is no object? OpenAI, and who serves models as OpenAI does, do not.
    #[must_use]
    pub const fn takes_any_schema(self) -> bool {
        matches!(self, Self::Vllm | Self::Ollama | Self::HuggingFace | Self::OpenAiCompatible)
    }

    #[must_use]
    pub const fn key_place(self) -> KeyPlace {
        match self {
            Self::Azure => KeyPlace::ApiKey,
            Self::Anthropic => KeyPlace::XApiKey,
            Self::Gemini | Self::Vertex => KeyPlace::GoogApiKey,
            _ => KeyPlace::Bearer,
        }
    }

    /// The path before all others, where an address has none.
    #[must_use]
    pub fn base(self) -> &'static str {
        let after =
            |url: &'static str| url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        match self {
            Self::Azure => "/openai/v1",
            Self::Vllm | Self::OpenAiCompatible => "/v1",
            _ => self.url().and_then(after).unwrap_or_default(),
        }
    }

    /// Where it is, if that is one place for everybody.
    #[must_use]
    pub const fn url(self) -> Option<&'static str> {
        Some(match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta",
            Self::Vertex => "https://aiplatform.googleapis.com/v1/publishers/google",
            Self::Mistral => "https://api.mistral.ai/v1",
            Self::Cohere => "https://api.cohere.com/v2",
            Self::Groq => "https://api.groq.com/openai/v1",
            Self::DeepSeek => "https://api.deepseek.com",
            Self::Xai => "https://api.x.ai/v1",
            Self::OpenRouter => "https://openrouter.ai/api/v1",
            Self::HuggingFace => "https://router.huggingface.co/v1",
            Self::Ollama => "http://127.0.0.1:11434/v1",
            Self::Qianfan => "https://qianfan.baidubce.com/v2",
            Self::Qwen => "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            Self::Azure | Self::Bedrock | Self::VertexAnthropic | Self::Vllm | Self::OpenAiCompatible => return None,
        })
    }
}

/// What callers name, and what becomes of it.
#[derive(Debug)]
pub struct Model {
    /// As the document has it: `fast`, or with a `*` at its end: `gpt-*`.
    pub name: Arc<str>,
    /// Never empty. The best first; those of one priority side by side.
    pub deployments: Vec<Deployment>,
    /// The most tokens that a call gets as its answer.
    pub max_output: Option<u64>,
    /// What cannot be carried to another provider's format is left out and told in a header; otherwise the call is refused.
    pub drops: bool,
    pub routing: Routing,
    /// Answers that are given again; `Some(None)`: none, whatever the route says.
    pub answers: Option<Option<Arc<Answers>>>,
}

#[derive(Debug)]
pub struct Deployment {
    pub provider: Arc<Provider>,
    /// Tells it from another deployment of the same model at the same provider.
    pub name: Option<Box<str>>,
    /// The provider's name for the model; `None`: the caller's.
    pub model: Option<Box<str>>,
    /// Or what comes after so many bytes of it: `gpt-5` of `openai/gpt-5`.
    pub after: usize,
    /// Instead of the provider's.
    pub credential: Option<Credential>,
    pub region: Option<Box<str>>,
    pub tags: Vec<Box<str>>,
    pub weight: u32,
    /// Higher first.
    pub priority: i32,
    /// What it takes of calls, whoever calls.
    pub limits: Vec<Attached>,
    /// Where that differs from what the catalogue says.
    pub abilities: Abilities,
    /// What is known of its model.
    pub facts: Facts,
    /// [`Deployment::id`], where callers do not choose the model.
    pub known_as: OnceLock<Box<str>>,
    /// [`Deployment::target`], where callers do not choose the model.
    pub target: OnceLock<(Dialect, Target)>,
}

/// What a deployment can do; `None`: as the catalogue says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Tokens, prompt and answer together.
    pub context: Option<u64>,
    pub tools: Option<bool>,
    pub vision: Option<bool>,
    pub json_schema: Option<bool>,
}

/// What the document and the catalogue know of a deployment's model.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Of its own: worth more than the catalogue's.
    pub price: Option<Arc<Tariff>>,
    pub known: Known,
}

/// The row of a model.
#[derive(Debug, Clone)]
pub enum Known {
    /// Its name stands in the document.
    Row(Option<Arc<catalogue::Model>>),
    /// Callers name it.
    ByName(Arc<Catalogue>),
}

impl Default for Known {
    fn default() -> Self {
        Self::Row(None)
    }
}

impl Llm {
    /// The model of this name; or of several that begin like it the one that says most.
    #[must_use]
    pub fn model(&self, asked: &str) -> Option<&Arc<Model>> {
        let exact = self.models.iter().find(|model| &*model.name == asked);
        exact.or_else(|| {
            let fits = |model: &&Arc<Model>| model.stem().is_some_and(|stem| asked.starts_with(stem));
            self.models.iter().filter(fits).max_by_key(|model| model.name.len())
        })
    }

    /// What is kept of this model's answers here.
    #[must_use]
    pub fn answers<'a>(&'a self, model: &'a Model) -> Option<&'a Arc<Answers>> {
        model.answers.as_ref().unwrap_or(&self.answers).as_ref()
    }

    /// Its place among the providers of the route.
    #[must_use]
    pub fn place(&self, provider: &Arc<Provider>) -> Option<usize> {
        self.providers.iter().position(|known| Arc::ptr_eq(known, provider))
    }
}

impl Model {
    /// Whatever a provider has, by the provider's own names.
    #[must_use]
    pub fn native(provider: &Arc<Provider>, catalogue: &Arc<Catalogue>) -> Self {
        let deployment = Deployment {
            provider: Arc::clone(provider),
            name: None,
            model: None,
            after: 0,
            credential: None,
            region: None,
            tags: Vec::new(),
            weight: 1,
            priority: 0,
            limits: Vec::new(),
            abilities: Abilities::default(),
            facts: Facts { price: None, known: Known::ByName(Arc::clone(catalogue)) },
            known_as: OnceLock::new(),
            target: OnceLock::new(),
        };
        Self {
            name: Arc::clone(&provider.name),
            deployments: vec![deployment],
            max_output: None,
            drops: false,
            routing: Routing::default(),
            answers: None,
        }
    }

    /// Models that calls of this one may be taken to: fallbacks, those of conditions and of errors. Not theirs.
    pub fn leads_to(&self) -> impl Iterator<Item = &Arc<Model>> {
        let Routing { fallbacks, conditions, on_error, .. } = &self.routing;
        let of_conditions = conditions.iter().filter_map(Choice::model);
        fallbacks.iter().chain(of_conditions).chain(on_error.reactions().into_iter().filter_map(Reaction::model))
    }

    /// All deployments that a call of this model may come to.
    pub fn reach(&self) -> Vec<&Deployment> {
        let (mut seen, mut left): (Vec<&Self>, Vec<&Self>) = (Vec::new(), vec![self]);
        while let Some(model) = left.pop() {
            if !seen.iter().any(|known| std::ptr::eq(*known, model)) {
                seen.push(model);
                left.extend(model.leads_to().map(|model| &**model));
            }
        }
        seen.into_iter().flat_map(|model| &model.deployments).collect()
    }

    /// `gpt-` of `gpt-*`.
    #[must_use]
    pub fn stem(&self) -> Option<&str> {
        self.name.strip_suffix('*')
    }
}

impl Deployment {
    /// Who it is, in every document and on every node: `provider/model`, with `#name` if it has one.
    #[must_use]
    pub fn id(&self, asked: &str) -> Cow<'_, str> {
        let (provider, model) = (&self.provider.name, self.model(asked));
        let id = || match &self.name {
            Some(name) => format!("{provider}/{model}#{name}"),
            None => format!("{provider}/{model}"),
        };
        if self.model.is_none() {
            return Cow::Owned(id());
        }
        Cow::Borrowed(self.known_as.get_or_init(|| id().into()))
    }

    /// What must be known of its model to write a call for it in this dialect.
    #[must_use]
    pub fn target(&self, dialect: Dialect, asked: &str) -> Target {
        let kind = self.provider.kind;
        let guess = || {
            let named = Target::guess(dialect, self.model(asked));
            // Whatever they call their models.
            let open_thoughts = named.open_thoughts || matches!(kind, ProviderKind::DeepSeek | ProviderKind::Qwen);
            Target { switch: kind.switch(), any_schema: kind.takes_any_schema(), open_thoughts, ..named }
        };
        if self.model.is_none() {
            return guess();
        }
        let (known, target) = self.target.get_or_init(|| (dialect, guess()));
        if *known == dialect { target.clone() } else { guess() }
    }

    /// What ids of answers that its provider keeps are tagged with. All deployments with the provider's own key share what
    /// it keeps.
    #[must_use]
    pub fn tag(&self) -> Tag {
        let own = self.credential.is_some() || self.region.is_some();
        Tag::of(&self.provider.name, self.name.as_deref().filter(|_| own).unwrap_or_default())
    }

    /// What proves to its provider who we are.
    #[must_use]
    pub fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref().or(self.provider.credential.as_ref())
    }

    /// Is it in this place: in its region or one within it (`eu` has `eu-west-1`), or so tagged?
    #[must_use]
    pub fn is_in(&self, place: &str) -> bool {
        let within =
            |region: &str| region.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        self.region.as_deref().is_some_and(within) || self.has_tag(place)
    }

    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|known| **known == *tag)
    }

    /// The provider's name for what the caller named.
    #[must_use]
    pub fn model<'a>(&'a self, asked: &'a str) -> &'a str {
        self.model.as_deref().or_else(|| asked.get(self.after..)).unwrap_or(asked)
    }

    /// Its row of the catalogue, for a caller who named `asked`.
    #[must_use]
    pub fn row(&self, asked: &str) -> Option<&Arc<catalogue::Model>> {
        match &self.facts.known {
            Known::Row(row) => row.as_ref(),
            Known::ByName(catalogue) => catalogue.find(self.provider.kind.name(), self.model(asked)),
        }
    }

    /// How its model counts tokens, if that is known: by its name, or by the one that the catalogue knows it by.
    #[must_use]
    pub fn encoding(&self, asked: &str) -> Option<Encoding> {
        let of_tongue = matches!(self.provider.kind.tongue(), Tongue::OpenAi | Tongue::Bedrock);
        let name = of_tongue.then(|| self.model(asked))?;
        Encoding::of(name).or_else(|| Encoding::of(&self.row(asked)?.model))
    }

    /// `None`: nobody knows what it costs.
    #[must_use]
    pub fn tariff(&self, asked: &str) -> Option<&Arc<Tariff>> {
        self.facts.price.as_ref().or_else(|| self.row(asked)?.tariff.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llm(names: &[&str]) -> Llm {
        let model = |name: &&str| {
            Arc::new(Model {
                name: Arc::from(*name),
                deployments: vec![],
                max_output: None,
                drops: false,
                routing: Routing::default(),
                answers: None,
            })
        };
        Llm {
            models: names.iter().map(model).collect(),
            providers: vec![],
            native: vec![],
            tells_cost: false,
            drains: false,
            answers: None,
            bodies: None,
        }
    }

    #[test]
    fn a_name_is_worth_more_than_a_pattern_and_a_longer_pattern_than_a_shorter_one() {
        let llm = llm(&["*", "gpt-*", "gpt-4*", "gpt-4o"]);
        for (asked, found) in [("gpt-4o", "gpt-4o"), ("gpt-4o-mini", "gpt-4*"), ("gpt-5", "gpt-*"), ("claude", "*")] {
            assert_eq!(llm.model(asked).map(|model| &*model.name), Some(found), "{asked}");
        }
        assert!(self::llm(&["gpt-4"]).model("gpt-4o").is_none());
    }
}
