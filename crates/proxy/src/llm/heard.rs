//! A call that was read: what policy needs of it, and what it becomes for a provider.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use smallvec::SmallVec;
use tidegate_llm::count;
use tidegate_llm::embed::{Embed, Embedder};
use tidegate_llm::kept::{Named, named};
use tidegate_llm::meaning::Call;
use tidegate_llm::names::Names;
use tidegate_llm::openai_responses::Echo;
use tidegate_llm::peek::{Peek, peek};
use tidegate_llm::splice::{Edit, splice, splice_peeked, with_common_bound, without};
use tidegate_llm::tokens::{Counted, Encoding};
use tidegate_llm::{Dialect, Losses, Malformed, Site, Target};
use tidegate_policy::{Deployment, Model, ProviderKind, Tongue};

use super::counting::Prompt;
use super::door::{Door, Task};
use super::told::No;
use crate::in_place::boxed;
use crate::refusal::Refusal;

/// Tokens of an answer that nobody bounded, as far as limits are concerned.
const USUAL_OUTPUT: u64 = 4_096;
/// Tokens of the words with which a provider tells its model of tools: Anthropic's are 313 to about 800.
const TOLD_OF_TOOLS: u64 = 1_024;
/// Bytes of a token, at the most, in prompts that somebody would count: more have only blanks.
const FEWEST: u64 = 16;
/// Tokens of an image, a sound, a film or a file, as far as limits are concerned.
const USUAL_MEDIUM: u64 = 16_384;

pub(super) struct Heard<'a> {
    pub(super) door: Door<'a>,
    pub(super) body: Bytes,
    pub(super) peek: Peek,
    /// Of a call that goes on from what a provider keeps, or from thoughts that it sealed.
    pub(super) named: Option<Named>,
    /// The longest answer, whoever gives it: as the asked model has it. What limits reserved is for no more.
    pub(super) cap: Option<u64>,
    parsed: OnceLock<Call>,
    echo: OnceLock<Arc<Echo>>,
    /// By the places of [`Encoding::ALL`], where somebody counted.
    counts: [OnceLock<Counted>; Encoding::ALL.len()],
}

/// What limits reserve for a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) tokens: u64,
    /// Nano-dollars. `None`: nobody knows what it costs at one of its deployments.
    pub(crate) money: Option<u64>,
}

/// What goes to a provider.
pub(super) struct Outgoing {
    pub(super) dialect: Dialect,
    pub(super) body: Bytes,
    /// Of a call for several texts to who takes one.
    pub(super) further: Vec<Bytes>,
    /// Names of fields that were left out.
    pub(super) dropped: Option<String>,
    /// Of tools, as the caller calls them.
    pub(super) names: Option<Arc<Names>>,
    /// Where it is no chat, and the provider speaks another dialect.
    pub(super) beside: Option<Beside>,
    /// OpenAI's chat: we asked for usage, the caller did not.
    pub(super) strips_usage: bool,
}

/// What another dialect's answer to a call that is no chat becomes.
pub(super) enum Beside {
    Embed(Embedder, Embed),
    /// The provider counts; what we would say if it cannot.
    Count(u64),
    /// It has no call for that.
    Estimate(u64),
}

impl<'a> Heard<'a> {
    /// Boxed: it is large, and would be moved with each that holds it.
    pub(super) fn new(door: Door<'a>, body: Bytes) -> Result<Box<Self>, No> {
        let site = Site { model: door.model.as_deref(), stream: door.stream };
        let peek = peek(door.dialect, &body, site).map_err(|why| No::malformed(&why))?;
        let named = match door.dialect {
            Dialect::OpenAiResponses => named(&body).map_err(|why| No::malformed(&why))?,
            _ => None,
        };
        let (parsed, echo, counts) = (OnceLock::new(), OnceLock::new(), Default::default());
        Ok(boxed(|| Self { door, body, peek, named, cap: None, parsed, echo, counts }))
    }

    /// The most that it can come to at any deployment that may be asked: of its prompt the bytes, or what was counted.
    pub(super) fn most(&self, model: &Model) -> Most {
        let bytes = self.peek.prompt_bytes as u64;
        self.most_of(model, &|deployment| {
            let counted = deployment.encoding(&self.peek.model).and_then(|encoding| self.count(encoding));
            counted.map_or(bytes, |counted| counted.most.min(bytes))
        })
    }

    /// What it can come to at least, about: with fewer tokens than any usual prompt of its length has.
    pub(super) fn least(&self, model: &Model) -> Most {
        self.most_of(model, &|_| self.peek.prompt_bytes as u64 / FEWEST)
    }

    fn most_of(&self, model: &Model, text: &dyn Fn(&Deployment) -> u64) -> Most {
        let asked = &*self.peek.model;
        let media = self.peek.media() as u64;
        let unseen = media.saturating_mul(USUAL_MEDIUM).saturating_add(u64::from(self.peek.has_tools) * TOLD_OF_TOOLS);
        let mut most = Most { tokens: 0, money: Some(0) };
        for deployment in model.reach() {
            let row = deployment.row(asked);
            let bytes = text(deployment).saturating_add(unseen);
            // No token is shorter than a byte, and none fits into a model beyond its longest prompt.
            let prompt = match row.and_then(|row| row.longest_prompt()) {
                Some(longest) if self.peek.reads_more => longest,
                longest => longest.unwrap_or(u64::MAX).min(bytes),
            };
            let bounds = [self.peek.max_tokens, model.max_output, row.and_then(|row| row.output)];
            let output = match self.door.task {
                Task::Chat => bounds.into_iter().flatten().min().unwrap_or(USUAL_OUTPUT).saturating_mul(self.peek.n),
                _ => 0,
            };
            most.tokens = most.tokens.max(prompt.saturating_add(output));
            let tariff = deployment.tariff(asked);
            most.money =
                most.money.zip(tariff).map(|(most, tariff)| most.max(tariff.most(prompt, output, self.peek.tier).0));
        }
        // How many tokens there are is asked for nothing.
        if self.door.task == Task::Count {
            most.money = Some(0);
        }
        most
    }

    /// Tokens of the longest answer that this deployment may give. `None`: nobody bounds it.
    pub(super) fn longest(&self, model: Option<&Model>, deployment: &Deployment) -> Option<u64> {
        let asked = self.peek.max_tokens.filter(|_| self.peek.endless.is_none());
        let row = deployment.row(&self.peek.model).and_then(|row| row.output);
        let bounds = [asked, self.cap, model.and_then(|model| model.max_output), row];
        // Not flattened: that is a hundred times as much work.
        let most = bounds.map(|bound| bound.unwrap_or(u64::MAX)).into_iter().fold(u64::MAX, u64::min);
        (most < u64::MAX).then(|| most.saturating_mul(self.peek.n))
    }

    /// If somebody counted.
    pub(super) fn count(&self, encoding: Encoding) -> Option<Counted> {
        self.counts[encoding as usize].get().copied()
    }

    /// For whom it is worth waiting. `None`: it cannot be counted, or not soon.
    pub(super) async fn counted(&self, encoding: Encoding) -> Option<Counted> {
        if let Some(counted) = self.count(encoding) {
            return Some(counted);
        }
        let counted = self.prompt()?.counted(encoding).await?;
        Some(*self.counts[encoding as usize].get_or_init(|| counted))
    }

    /// Counts for all deployments that a call of this model may come to. False: for one of them nobody knows how.
    pub(super) async fn counted_for(&self, model: &Model) -> bool {
        let mut known: SmallVec<[Encoding; 2]> = SmallVec::new();
        for deployment in model.reach() {
            match deployment.encoding(&self.peek.model) {
                Some(encoding) if known.contains(&encoding) => {}
                Some(encoding) => known.push(encoding),
                None => return false,
            }
        }
        for encoding in known {
            if self.counted(encoding).await.is_none() {
                return false;
            }
        }
        true
    }

    /// For who may have to count it.
    pub(super) fn prompt(&self) -> Option<Arc<Prompt>> {
        let embeds = self.door.task == Task::Embed;
        Prompt::hold(self.door.dialect, embeds, self.call_body(), self.door.model.as_deref())
    }

    /// What the answer says again of the call, where its dialect does that.
    pub(super) fn echo(&self) -> Option<Arc<Echo>> {
        let says = self.door.dialect == Dialect::OpenAiResponses && self.door.task == Task::Chat;
        says.then(|| Arc::clone(self.echo.get_or_init(|| Arc::new(Echo::of(&self.body)))))
    }

    /// What is asked as the longest answer, where that is not what the caller asks.
    fn bound(&self, model: &Model) -> Option<u64> {
        let most = model.max_output.into_iter().chain(self.cap).min().filter(|_| self.door.task == Task::Chat)?;
        // Where one of two names bounds nothing, the other is not to be relied upon.
        let asked = self.peek.max_tokens.filter(|_| self.peek.endless.is_none());
        asked.is_none_or(|asked| asked > most).then_some(most)
    }

    /// Mistral tells the usage of each stream unasked, and refuses to be asked for it (422, `extra_forbidden`).
    pub(super) fn outgoing(&self, model: &Model, deployment: &Deployment) -> Result<Outgoing, No> {
        let kind = deployment.provider.kind;
        let (from, to) = (self.door.dialect, speaks(kind, self.door.dialect));
        if let Some(name) = self.peek.endless.filter(|_| from != to || !takes_endless(kind)) {
            return Err(No::malformed(&Malformed::new(name, "must be a whole number of at least 1")));
        }
        if kind == ProviderKind::OpenRouter && self.names_other_models(deployment.model(&self.peek.model)) {
            let message = "`models` and `preset` name models beside the one that is asked for; here a call is for one";
            return Err(No::told(Refusal::ModelNotAllowed, message.to_owned(), Some("models".to_owned())));
        }
        let outgoing =
            if from == to { self.passed(model, deployment)? } else { self.translated(model, deployment, to)? };
        let dressed = |body: Bytes| -> Result<Bytes, Malformed> {
            let told = match kind {
                ProviderKind::VertexAnthropic => Some(at_vertex(&body, self.door.task == Task::Chat)?),
                ProviderKind::Mistral if self.peek.stream => without(&body, "stream_options")?,
                _ => None,
            };
            let body = told.map_or(body, Bytes::from);
            let newer = || from != to || self.peek.given("max_completion_tokens", &self.body).is_some();
            let told = if knows_common_bound_only(kind) && newer() { with_common_bound(&body)? } else { None };
            Ok(told.map_or(body, Bytes::from))
        };
        let body = dressed(outgoing.body).map_err(|why| No::malformed(&why))?;
        Ok(Outgoing { body, ..outgoing })
    }

    /// OpenRouter takes a call to the next of a list, past all that is said of models here: who may use them, what they cost.
    fn names_other_models(&self, model: &str) -> bool {
        if self.door.dialect != Dialect::OpenAiChat {
            return false;
        }
        let given = |name: &str| {
            let value = self.peek.given(name, &self.body).filter(|value| *value != b"null")?;
            serde_json::from_slice::<serde_json::Value>(value).ok()
        };
        let is_other = |name: &serde_json::Value| name != model;
        let others = match given("models") {
            Some(serde_json::Value::Array(list)) => list.iter().any(is_other),
            other => other.is_some(),
        };
        others || given("preset").is_some()
    }

    /// As it came, but for what has to change.
    fn passed(&self, model: &Model, deployment: &Deployment) -> Result<Outgoing, No> {
        let from = self.door.dialect;
        let strips_usage =
            from == Dialect::OpenAiChat && self.door.task == Task::Chat && self.peek.stream && !self.peek.include_usage;
        let name = deployment.model(&self.peek.model);
        let mut edits: SmallVec<[Edit; 3]> = SmallVec::new();
        if *name != *self.peek.model {
            edits.extend(Edit::model(from, name));
        }
        edits.extend(strips_usage.then(Edit::include_usage));
        edits.extend(self.bound(model).map(|most| {
            let reasoning_only = Target::guess(from, name).reasoning_only;
            Edit::max_tokens(from, reasoning_only, most)
        }));
        // With the ids that the deployment itself gave out; what the peek saw lies elsewhere in it.
        let body = match &self.named {
            Some(named) => {
                let spliced = splice(&named.body, &edits).map_err(|why| No::malformed(&why))?;
                spliced.map_or_else(|| Bytes::copy_from_slice(&named.body), Bytes::from)
            }
            None => {
                let spliced = splice_peeked(&self.body, &self.peek, &edits).map_err(|why| No::malformed(&why))?;
                spliced.map_or_else(|| self.body.clone(), Bytes::from)
            }
        };
        Ok(Outgoing { dialect: from, body, further: vec![], dropped: None, names: None, beside: None, strips_usage })
    }

    fn translated(&self, model: &Model, deployment: &Deployment, to: Dialect) -> Result<Outgoing, No> {
        match self.door.task {
            Task::Chat => {}
            Task::Embed => return self.embedded(deployment, to),
            Task::Count => return self.asks_to_count(deployment, to),
            Task::List | Task::Show(_) => return Err(unserved(deployment)),
        }
        let mut call = self.parsed()?.clone();
        call.stream = self.peek.stream;
        call.max_tokens = self.bound(model).or(call.max_tokens);
        let names = Names::shorten(&mut call);
        let mut target = deployment.target(to, &self.peek.model);
        let most = deployment.row(&self.peek.model).and_then(|row| row.output);
        target.most_output = most.unwrap_or(target.most_output);
        target.max_output = model.max_output.unwrap_or(target.max_output).min(target.most_output);
        let mut losses = Losses::new(self.door.dialect);
        let body = to.render_call(&call, &target, &mut losses);
        if !model.drops {
            losses
                .reject()
                .map_err(|why| No::told(Refusal::CallUntranslatable, why.to_string(), Some(why.path.clone())))?;
        }
        let dropped = (!losses.is_empty()).then(|| losses.header());
        let names = (!names.is_empty()).then(|| Arc::new(names));
        let body = body.into();
        Ok(Outgoing { dialect: to, body, further: vec![], dropped, names, beside: None, strips_usage: false })
    }

    fn embedded(&self, deployment: &Deployment, to: Dialect) -> Result<Outgoing, No> {
        let model = deployment.model(&self.peek.model);
        let embedder = match deployment.provider.kind {
            ProviderKind::Cohere => Embedder::Cohere,
            ProviderKind::Gemini => Embedder::Gemini,
            ProviderKind::Vertex => Embedder::Vertex,
            ProviderKind::Bedrock => Embedder::on_bedrock(model),
            _ => return Err(unserved(deployment)),
        };
        let embed = Embed::parse(&self.body).map_err(|why| No::malformed(&why))?;
        let mut bodies = embed.render(embedder, model).into_iter().map(Bytes::from);
        let body = bodies.next().unwrap_or_default();
        let beside = Some(Beside::Embed(embedder, embed));
        let further = bodies.collect();
        Ok(Outgoing { dialect: to, body, further, dropped: None, names: None, beside, strips_usage: false })
    }

    fn asks_to_count(&self, deployment: &Deployment, to: Dialect) -> Result<Outgoing, No> {
        let call = self.parsed()?;
        let kind = deployment.provider.kind;
        // OpenAI counts for its newer API alone.
        let to = if kind == ProviderKind::OpenAi { Dialect::OpenAiResponses } else { to };
        let target = deployment.target(to, &self.peek.model);
        let estimate = count::estimate(call);
        let (body, beside) = match count::render(call, to, &target, kind == ProviderKind::Gemini) {
            Some(body) => (body, Beside::Count(estimate)),
            None => (Vec::new(), Beside::Estimate(estimate)),
        };
        let (body, beside) = (body.into(), Some(beside));
        Ok(Outgoing { dialect: to, body, further: vec![], dropped: None, names: None, beside, strips_usage: false })
    }

    fn parsed(&self) -> Result<&Call, No> {
        if let Some(call) = self.parsed.get() {
            return Ok(call);
        }
        let site = Site { model: self.door.model.as_deref(), stream: self.peek.stream };
        let call = self.door.dialect.parse_call(&self.call_body(), site).map_err(|why| No::malformed(&why))?;
        Ok(self.parsed.get_or_init(|| call))
    }

    /// What is counted may stand inside of the body.
    fn call_body(&self) -> Bytes {
        let inner = (self.door.dialect == Dialect::Gemini && self.door.task == Task::Count)
            .then(|| counted_request(&self.body));
        let named = || self.named.as_ref().map(|named| Bytes::copy_from_slice(&named.body));
        inner.flatten().or_else(named).unwrap_or_else(|| self.body.clone())
    }
}

/// What is counted may stand inside.
fn counted_request(body: &Bytes) -> Option<Bytes> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Inner<'a> {
        #[serde(borrow, alias = "generate_content_request")]
        generate_content_request: &'a serde_json::value::RawValue,
    }
    let inner: Inner<'_> = serde_json::from_slice(body).ok()?;
    Some(Bytes::copy_from_slice(inner.generate_content_request.get().as_bytes()))
}

/// -1 is "as long as it likes" for what people run themselves; whoever bills takes it for a mistake.
fn takes_endless(kind: ProviderKind) -> bool {
    matches!(kind, ProviderKind::Ollama | ProviderKind::Vllm | ProviderKind::OpenAiCompatible)
}

/// Mistral refuses OpenAI's newer name of the longest answer (422, `extra_forbidden`); the others pass over it.
fn knows_common_bound_only(kind: ProviderKind) -> bool {
    use ProviderKind::{DeepSeek, HuggingFace, Mistral, Ollama, Qwen};
    matches!(kind, Mistral | DeepSeek | HuggingFace | Ollama | Qwen)
}

fn unserved(deployment: &Deployment) -> No {
    let message = format!("the provider `{}` does not serve this call", deployment.provider.name);
    No::told(Refusal::CallUntranslatable, message, None)
}

/// Claude on Vertex AI: the version stands in the body, the model in the path.
fn at_vertex(body: &[u8], names_model: bool) -> Result<Vec<u8>, Malformed> {
    let nameless = if names_model { without(body, "model")? } else { None };
    let body = nameless.as_deref().unwrap_or(body);
    let versioned = splice(body, &[Edit::anthropic_version()])?;
    Ok(versioned.unwrap_or_else(|| body.to_vec()))
}

/// What is spoken to a provider of this kind, for a caller who speaks `caller`.
fn speaks(kind: ProviderKind, caller: Dialect) -> Dialect {
    match kind.tongue() {
        Tongue::OpenAi if caller == Dialect::OpenAiResponses && kind.has_responses() => caller,
        Tongue::OpenAi => Dialect::OpenAiChat,
        Tongue::Anthropic => Dialect::Anthropic,
        Tongue::Gemini => Dialect::Gemini,
        Tongue::Bedrock => Dialect::Bedrock,
        Tongue::Cohere => Dialect::Cohere,
    }
}
