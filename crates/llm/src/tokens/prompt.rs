//! The tokens of a call's prompt: what a model of OpenAI's reads of it, and how much it cannot be more than.
//!
//! OpenAI says how messages are framed (cookbook, "How to count tokens with tiktoken"): three tokens each, its role, and
//! three that begin the answer. How tools are told is known from what is billed for them ([`super::tools`]).

use super::{Encoding, tools};
use crate::embed::Embed;
use crate::json::Malformed;
use crate::meaning::{Body, Call, Format, Message, Part, Tool, ToolChoice};
use crate::{Dialect, Site};

/// Around a message; its role; the beginning of an answer; a name of who speaks.
const MESSAGE: u64 = 3;
const ROLE: u64 = 1;
const ANSWER: u64 = 3;
const NAME: u64 = 1;
/// Around a call of a tool.
const TOOL_CALL: u64 = 3;
/// What gpt-oss is told before anything else: who it is, the day, its channels. And around a caller's system message.
const HARMONY: u64 = 64;
const HARMONY_SYSTEM: u64 = 8;
const HARMONY_MOST: u64 = 256;
/// A picture of usual size.
const PICTURE: u64 = 1_000;
/// What the words around a text can add where only a bound is wanted: to a call, a message, a text.
const CALL_MOST: u64 = 64;
const MESSAGE_MOST: u64 = 8;
const TEXT_MOST: u64 = 4;
/// More text of one call is not counted.
const LONGEST: usize = 16 << 20;

/// The tokens of a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub tokens: u64,
    /// There are no more, media and the provider's own words about tools excepted.
    pub most: u64,
    /// Every part of it is text that was counted.
    pub surely: bool,
}

/// Of a body as a caller wrote it.
///
/// # Errors
/// It is no call of this dialect.
pub fn prompt(dialect: Dialect, body: &[u8], site: Site<'_>, encoding: Encoding) -> Result<Counted, Malformed> {
    Ok(of_call(&dialect.parse_call(body, site)?, encoding))
}

/// Of texts that are embedded, or of tokens that the caller counted already.
///
/// # Errors
/// It is no call for embeddings.
pub fn embedded(body: &[u8], encoding: Encoding) -> Result<Counted, Malformed> {
    if let Some(tokens) = given(body) {
        return Ok(Counted { tokens, most: tokens, surely: true });
    }
    let embed = Embed::parse(body)?;
    let tokens = embed.texts.iter().map(|text| encoding.count(text)).fold(0, u64::saturating_add);
    Ok(Counted { tokens, most: tokens, surely: true })
}

/// OpenAI takes numbers of tokens instead of texts.
fn given(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Given {
        input: Input,
    }
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Input {
        One(Vec<u64>),
        Several(Vec<Vec<u64>>),
    }
    match serde_json::from_slice::<Given>(body).ok()?.input {
        Input::One(list) => Some(list.len() as u64),
        Input::Several(lists) => Some(lists.iter().map(|list| list.len() as u64).sum()),
    }
}

pub fn of_call(call: &Call, encoding: Encoding) -> Counted {
    let answer = if encoding == Encoding::Thinking { ANSWER - 1 } else { ANSWER };
    let mut sum = Sum { encoding, left: LONGEST, tokens: answer, most: CALL_MOST, surely: true };
    // Each was a message of its own.
    for part in &call.system {
        sum.framed(1);
        sum.part(part);
    }
    call.messages.iter().for_each(|message| sum.message(message));
    if encoding == Encoding::Harmony {
        sum.add(HARMONY + if call.system.is_empty() { 0 } else { HARMONY_SYSTEM }, HARMONY_MOST);
    }
    sum.tools(call);
    if let Some(Format::Schema(schema)) = &call.format {
        sum.text(&schema.schema.to_string());
        sum.outline(&schema.schema);
    }
    Counted { tokens: sum.tokens, most: sum.most.max(sum.tokens), surely: sum.surely }
}

struct Sum {
    encoding: Encoding,
    /// Bytes that may yet be counted.
    left: usize,
    tokens: u64,
    most: u64,
    surely: bool,
}

impl Sum {
    fn add(&mut self, tokens: u64, most: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.most = self.most.saturating_add(most);
    }

    fn framed(&mut self, messages: u64) {
        self.add((MESSAGE + ROLE).saturating_mul(messages), MESSAGE_MOST.saturating_mul(messages));
    }

    fn text(&mut self, text: &str) {
        if text.len() > self.left {
            self.surely = false;
            return self.add((text.len() as u64).div_ceil(4), text.len() as u64);
        }
        self.left -= text.len();
        let tokens = self.encoding.count(text);
        self.add(tokens, tokens.saturating_add(TEXT_MOST));
    }

    fn message(&mut self, message: &Message) {
        // Who writes one message for each result of a tool had so many.
        let results = message.parts.iter().filter(|part| matches!(part.body, Body::ToolResult(_))).count() as u64;
        let own = u64::from(results == 0 || results < message.parts.len() as u64);
        self.framed(results + own);
        message.parts.iter().for_each(|part| self.part(part));
        if let Some(name) = &message.name {
            self.add(NAME, 0);
            self.text(name);
        }
    }

    fn part(&mut self, part: &Part) {
        match &part.body {
            Body::Text(text) | Body::Refusal(text) => self.text(text),
            // Thoughts of earlier turns are not read again.
            Body::Reasoning { text, .. } => self.most = self.most.saturating_add(text.len() as u64),
            Body::Redacted(signature) => self.most = self.most.saturating_add(signature.value.len() as u64),
            Body::Media(_) => match part.as_plain() {
                Some(text) => self.text(text),
                None => self.unknown(PICTURE, 0),
            },
            Body::ToolCall(call) => {
                self.add(TOOL_CALL, MESSAGE_MOST);
                self.text(&call.name);
                self.text(&call.arguments);
            }
            Body::ToolResult(result) => result.content.iter().for_each(|part| self.part(part)),
            Body::Foreign { value, .. } => {
                let text = value.to_string();
                self.unknown((text.len() as u64).div_ceil(4), text.len() as u64);
            }
        }
    }

    /// A part that is no text.
    fn unknown(&mut self, tokens: u64, most: u64) {
        self.surely = false;
        self.add(tokens, most);
    }

    fn tools(&mut self, call: &Call) {
        let functions: Vec<_> = call.tools.iter().filter_map(Tool::function).collect();
        if functions.len() < call.tools.len() {
            self.surely = false;
        }
        for tool in &call.tools {
            if let Tool::Foreign { value, .. } = tool {
                let bytes = value.to_string().len() as u64;
                self.add(bytes.div_ceil(4), bytes);
            }
        }
        if functions.is_empty() {
            return;
        }
        let told = tools::told(&functions);
        let before = self.most;
        self.text(&told);
        self.most = before;
        self.add(tools::AROUND, 0);
        // So much more is billed where they come by chat completions, less the words that other models need.
        if self.encoding == Encoding::Thinking && call.dialect != Dialect::OpenAiResponses {
            self.add(tools::BY_CHAT, tools::BY_CHAT);
        }
        if call.system.is_empty() {
            self.add(tools::WITHOUT_SYSTEM, 0);
        }
        if let Some(ToolChoice::Named(name)) = &call.tool_choice {
            self.add(tools::NAMED, tools::NAMED);
            self.text(name);
        }
        for function in &functions {
            self.most = self.most.saturating_add(MESSAGE_MOST);
            self.bound(&function.name);
            function.description.iter().for_each(|text| self.bound(text));
            function.schema.iter().for_each(|schema| self.outline(schema));
        }
    }

    /// For the bound alone: every word of a schema, and something around each.
    fn outline(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    self.bound(name);
                    self.outline(value);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| self.outline(item)),
            serde_json::Value::String(text) => self.bound(text),
            other => self.most = self.most.saturating_add(other.to_string().len() as u64),
        }
    }

    fn bound(&mut self, text: &str) {
        let tokens = if text.len() > self.left { text.len() as u64 } else { self.encoding.count(text) };
        self.left = self.left.saturating_sub(text.len());
        self.most = self.most.saturating_add(tokens.saturating_add(TEXT_MOST));
    }
}
