//! A call that was read: what policy needs of it, and what it becomes for a provider.

use std::sync::OnceLock;

use bytes::Bytes;
use smallvec::SmallVec;
use tidegate_llm::meaning::Call;
use tidegate_llm::peek::{Peek, peek};
use tidegate_llm::splice::{Edit, splice, without};
use tidegate_llm::{Dialect, Losses, Malformed, Site, Target};
use tidegate_policy::{Deployment, Model, ProviderKind, Tongue};

use super::door::{Door, Task};
use super::told::No;
use crate::refusal::Refusal;

/// Tokens of an answer that nobody bounded, as far as limits are concerned.
const USUAL_OUTPUT: u64 = 4_096;

pub(super) struct Heard<'a> {
    pub(super) door: Door<'a>,
    pub(super) body: Bytes,
    pub(super) peek: Peek,
    parsed: OnceLock<Call>,
}

/// What goes to a provider.
pub(super) struct Outgoing {
    pub(super) dialect: Dialect,
    pub(super) body: Bytes,
    /// Names of fields that were left out.
    pub(super) dropped: Option<String>,
    /// OpenAI's chat: we asked for usage, the caller did not.
    pub(super) strips_usage: bool,
}

impl<'a> Heard<'a> {
    pub(super) fn new(door: Door<'a>, body: Bytes) -> Result<Self, No> {
        let site = Site { model: door.model.as_deref(), stream: door.stream };
        let peek = peek(door.dialect, &body, site).map_err(|why| No::malformed(&why))?;
        Ok(Self { door, body, peek, parsed: OnceLock::new() })
    }

    /// The most tokens it can come to: no token has less than a byte.
    pub(super) fn most(&self, model: &Model) -> u64 {
        let output = match (self.peek.max_tokens, model.max_output) {
            _ if self.door.task != Task::Chat => 0,
            (Some(asked), Some(most)) => asked.min(most),
            (asked, most) => asked.or(most).unwrap_or(USUAL_OUTPUT),
        };
        (self.peek.prompt_bytes as u64).saturating_add(output.saturating_mul(self.peek.n))
    }

    /// What is asked as the longest answer, where that is not what the caller asks.
    fn bound(&self, model: &Model) -> Option<u64> {
        let most = model.max_output.filter(|_| self.door.task == Task::Chat)?;
        self.peek.max_tokens.is_none_or(|asked| asked > most).then_some(most)
    }

    pub(super) fn outgoing(&self, model: &Model, deployment: &Deployment) -> Result<Outgoing, No> {
        let kind = deployment.provider.kind;
        let (from, to) = (self.door.dialect, speaks(kind, self.door.dialect));
        let outgoing =
            if from == to { self.passed(model, deployment)? } else { self.translated(model, deployment, to)? };
        if kind != ProviderKind::VertexAnthropic {
            return Ok(outgoing);
        }
        let body = at_vertex(&outgoing.body, self.door.task == Task::Chat).map_err(|why| No::malformed(&why))?;
        Ok(Outgoing { body: body.into(), ..outgoing })
    }

    /// As it came, but for what has to change.
    fn passed(&self, model: &Model, deployment: &Deployment) -> Result<Outgoing, No> {
        let from = self.door.dialect;
        let strips_usage =
            from == Dialect::OpenAiChat && self.door.task == Task::Chat && self.peek.stream && !self.peek.include_usage;
        let (name, thinks) =
            (deployment.model(&self.peek.model), Target::guess(from, deployment.model(&self.peek.model)));
        let mut edits: SmallVec<[Edit; 3]> = SmallVec::new();
        edits.extend(Edit::model(from, name));
        edits.extend(strips_usage.then(Edit::include_usage));
        edits.extend(self.bound(model).map(|most| Edit::max_tokens(from, thinks.reasoning_only, most)));
        let spliced = splice(&self.body, &edits).map_err(|why| No::malformed(&why))?;
        let body = spliced.map_or_else(|| self.body.clone(), Bytes::from);
        Ok(Outgoing { dialect: from, body, dropped: None, strips_usage })
    }

    fn translated(&self, model: &Model, deployment: &Deployment, to: Dialect) -> Result<Outgoing, No> {
        if self.door.task != Task::Chat {
            let message = format!("the provider `{}` does not serve this call", deployment.provider.name);
            return Err(No::told(Refusal::CallUntranslatable, message, None));
        }
        let mut call = self.parsed()?.clone();
        call.stream = self.peek.stream;
        call.max_tokens = self.bound(model).or(call.max_tokens);
        let mut target = Target::guess(to, deployment.model(&self.peek.model));
        target.max_output = model.max_output.unwrap_or(target.max_output);
        let mut losses = Losses::new(self.door.dialect);
        let body = to.render_call(&call, &target, &mut losses);
        if !model.drops {
            losses
                .reject()
                .map_err(|why| No::told(Refusal::CallUntranslatable, why.to_string(), Some(why.path.clone())))?;
        }
        let dropped = (!losses.is_empty()).then(|| losses.header());
        Ok(Outgoing { dialect: to, body: body.into(), dropped, strips_usage: false })
    }

    fn parsed(&self) -> Result<&Call, No> {
        if let Some(call) = self.parsed.get() {
            return Ok(call);
        }
        let site = Site { model: self.door.model.as_deref(), stream: self.peek.stream };
        let call = self.door.dialect.parse_call(&self.body, site).map_err(|why| No::malformed(&why))?;
        Ok(self.parsed.get_or_init(|| call))
    }
}

/// Claude on Vertex AI: the version stands in the body, the model in the path.
fn at_vertex(body: &[u8], names_model: bool) -> Result<Vec<u8>, Malformed> {
    let nameless = if names_model { without(body, "model")? } else { None };
    let body = nameless.as_deref().unwrap_or(body);
    let versioned = splice(body, &[Edit::anthropic_version("vertex-2023-10-16")])?;
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
    }
}
