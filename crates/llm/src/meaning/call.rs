//! A chat call.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::{Body, Part, Thinking, Tool, ToolChoice};
use crate::Dialect;

#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// How the caller wrote it; `extras` and the paths of losses are in its words.
    pub dialect: Dialect,
    pub model: String,
    pub stream: bool,
    /// The caller asked for the usage chunk (OpenAI chat). Other dialects always tell.
    pub include_usage: bool,
    pub system: Vec<Part>,
    pub messages: Vec<Message>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    pub parallel_tools: Option<bool>,
    pub sampling: Sampling,
    pub max_tokens: Option<u64>,
    pub stop: Vec<String>,
    pub format: Option<Format>,
    pub thinking: Option<Thinking>,
    pub end_user: Option<String>,
    pub metadata: BTreeMap<String, String>,
    pub service_tier: Option<String>,
    /// Top-level fields that only `dialect` knows.
    pub extras: Map<String, Value>,
}

impl Call {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            model: String::new(),
            stream: false,
            include_usage: false,
            system: Vec::new(),
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tools: None,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            format: None,
            thinking: None,
            end_user: None,
            metadata: BTreeMap::new(),
            service_tier: None,
            extras: Map::new(),
        }
    }
}

impl Call {
    /// Thoughts that only Claude can be given back lose their proofs: another model gets the call.
    pub(crate) fn without_claudes_thoughts(&self) -> Cow<'_, Self> {
        let of_claude = |body: &Body| match body {
            Body::Reasoning { signature: Some(signature), .. } => signature.maker == Dialect::Anthropic,
            _ => false,
        };
        if !self.messages.iter().flat_map(|message| &message.parts).any(|part| of_claude(&part.body)) {
            return Cow::Borrowed(self);
        }
        let mut call = self.clone();
        for part in call.messages.iter_mut().flat_map(|message| &mut message.parts).filter(|p| of_claude(&p.body)) {
            if let Body::Reasoning { signature, .. } = &mut part.body {
                *signature = None;
            }
        }
        Cow::Owned(call)
    }

    /// While thinking, Claude refuses a tool turn whose thoughts are missing; others' thoughts are not its own.
    pub(crate) fn tool_turn_without_thoughts(&self, maker: Dialect) -> bool {
        let last = self.messages.iter().rev().find(|message| message.role == Role::Assistant);
        let has = |wanted: &dyn Fn(&Body) -> bool| last.is_some_and(|m| m.parts.iter().any(|part| wanted(&part.body)));
        let signed = |body: &Body| match body {
            Body::Reasoning { signature: Some(signature), .. } => signature.replayable_thought(maker).is_some(),
            Body::Redacted(signature) => signature.maker == maker,
            _ => false,
        };
        has(&|body| matches!(body, Body::ToolCall(_))) && !has(&signed)
    }
}

/// Numbers are kept as they were written: `1` stays `1`, `0.7` stays `0.7`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    pub temperature: Option<Number>,
    pub top_p: Option<Number>,
    pub top_k: Option<u64>,
    pub frequency_penalty: Option<Number>,
    pub presence_penalty: Option<Number>,
    pub seed: Option<Number>,
    /// Answers wanted. More than one cannot be carried to another dialect.
    pub n: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
    pub name: Option<String>,
    /// Where it stood in the caller's list, for telling what was lost.
    pub origin: usize,
    pub extras: Map<String, Value>,
}

impl Message {
    pub fn new(role: Role, origin: usize) -> Self {
        Self { role, parts: Vec::new(), name: None, origin, extras: Map::new() }
    }
}

/// Tool results are parts of a user's message, as in Anthropic's dialect; who writes one message each splits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Amid the conversation; leading ones are `Call::system`.
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    Text,
    /// Any JSON object.
    Json,
    Schema(Schema),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    pub name: Option<String>,
    pub description: Option<String>,
    pub schema: Value,
    pub strict: Option<bool>,
}
