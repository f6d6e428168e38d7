//! The six dialects, and the one door to each of them.

use std::sync::Arc;

use crate::bounds::Bounds;
use crate::frame::{Frame, Framing, aws, sse};
use crate::json::{self, Doc, Malformed};
use crate::lean::{self, Skipped};
use crate::lost::Losses;
use crate::meaning::{Answer, Body, Call, Error, Event, Flow, Stop};
use crate::openai_responses::Echo;
use crate::target::Target;
use crate::tokens::Said;
use crate::{anthropic, bedrock, cohere, gemini, ids, openai_chat, openai_responses};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    OpenAiChat,
    OpenAiResponses,
    Anthropic,
    Gemini,
    Bedrock,
    Cohere,
}

/// What the path of a request says: Gemini and Bedrock name the model there, and whether to stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site<'a> {
    pub model: Option<&'a str>,
    pub stream: bool,
}

/// What an answer to a caller needs and no provider said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The name the caller used; the provider's if `None`.
    pub model: Option<String>,
    /// Used where the provider gave no id. Without a prefix: each dialect puts its own.
    pub id: String,
    /// Unix seconds.
    pub now: u64,
    /// The caller asked for OpenAI chat's usage chunk.
    pub include_usage: bool,
    /// Gemini: the caller asked `alt=sse`.
    pub sse: bool,
    pub bounds: Bounds,
    /// Of a call to OpenAI's responses: what its answer says again of it.
    pub echo: Option<Arc<Echo>>,
}

impl Reply {
    pub(crate) fn model<'a>(&'a self, provider: &'a str) -> &'a str {
        self.model.as_deref().unwrap_or(provider)
    }

    /// The provider's id, or ours.
    pub(crate) fn id(&self, provider: &str, prefix: &str) -> String {
        if provider.is_empty() { format!("{prefix}{}", self.id) } else { provider.to_owned() }
    }
}

/// Looks a response header up by its lower-case name.
pub type Headers<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

impl Dialect {
    pub const ALL: [Self; 6] =
        [Self::OpenAiChat, Self::OpenAiResponses, Self::Anthropic, Self::Gemini, Self::Bedrock, Self::Cohere];

    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::OpenAiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Cohere => "cohere",
        }
    }

    /// As OpenTelemetry's conventions name what is asked for.
    pub fn operation(self) -> &'static str {
        if self == Self::Gemini { "generate_content" } else { "chat" }
    }

    pub fn parse_call(self, body: &[u8], site: Site<'_>) -> Result<Call, Malformed> {
        match self {
            Self::OpenAiChat => openai_chat::parse_call(body),
            Self::OpenAiResponses => openai_responses::parse_call(body),
            Self::Anthropic => anthropic::parse_call(body),
            Self::Gemini => gemini::parse_call(body, site),
            Self::Bedrock => bedrock::parse_call(body, site),
            Self::Cohere => cohere::parse_call(body),
        }
    }

    /// What cannot be carried is added to `losses`; whether that is a 400 is the caller's choice.
    pub fn render_call(self, call: &Call, target: &Target, losses: &mut Losses) -> Vec<u8> {
        match self {
            Self::OpenAiChat => openai_chat::render_call(call, target, losses),
            Self::OpenAiResponses => openai_responses::render_call(call, target, losses),
            Self::Anthropic => anthropic::render_call(call, target, losses),
            Self::Gemini => gemini::render_call(call, target, losses),
            Self::Bedrock => bedrock::render_call(call, target, losses),
            Self::Cohere => cohere::render_call(call, target, losses),
        }
    }

    /// The body of a 200. Some providers put an error into it.
    pub fn parse_answer(self, body: &[u8]) -> Result<Answer, Error> {
        let body = body.strip_prefix(sse::BOM).unwrap_or(body);
        if let Some(answer) = self.plain_answer(body) {
            return Ok(answer);
        }
        let value = json::read_json(body)
            .map_err(|e| Error::bad_stream(format!("the provider's answer is not valid JSON: {e}")))?;
        let mut answer = match self {
            Self::OpenAiChat => openai_chat::parse_answer(&value),
            Self::OpenAiResponses => openai_responses::parse_answer(&value),
            Self::Anthropic => anthropic::parse_answer(&value),
            Self::Gemini => gemini::parse_answer(&value),
            Self::Bedrock => bedrock::parse_answer(&value),
            Self::Cohere => cohere::parse_answer(&value),
        }?;
        // The provider may be a gateway like us.
        for part in &mut answer.parts {
            if let Body::ToolCall(call) = &mut part.body {
                ids::open_call(call);
            }
        }
        // Whoever gets a call acts on it, whatever reason stands beside it.
        if answer.stop == Stop::EndTurn && answer.has_tool_calls() {
            answer.stop = Stop::ToolUse;
        }
        Ok(answer)
    }

    /// The usual answer, which is text, read without a tree. `None`: it has more, or is none.
    fn plain_answer(self, body: &[u8]) -> Option<Answer> {
        let doc = match self {
            Self::OpenAiChat | Self::Anthropic => Doc::read(body)?,
            _ => return None,
        };
        match self {
            Self::OpenAiChat => openai_chat::plain_answer(doc.root()),
            _ => anthropic::plain_answer(doc.root()),
        }
    }

    pub fn render_answer(self, answer: &Answer, reply: &Reply) -> Vec<u8> {
        match self {
            Self::OpenAiChat => openai_chat::render_answer(answer, reply),
            Self::OpenAiResponses => openai_responses::render_answer(answer, reply),
            Self::Anthropic => anthropic::render_answer(answer, reply),
            Self::Gemini => gemini::render_answer(answer, reply),
            Self::Bedrock => bedrock::render_answer(answer),
            Self::Cohere => cohere::render_answer(answer, reply),
        }
    }

    /// The body of anything but a 200.
    pub fn parse_error(self, status: u16, headers: Headers<'_>, body: &[u8]) -> Error {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses | Self::Cohere => openai_chat::parse_error(status, headers, body),
            Self::Anthropic => anthropic::parse_error(status, headers, body),
            Self::Gemini => gemini::parse_error(status, headers, body),
            Self::Bedrock => bedrock::parse_error(status, headers, body),
        }
    }

    /// Is it an error as this dialect writes it? Its callers' SDKs read no other.
    pub fn is_error(self, body: &[u8]) -> bool {
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
        match self {
            Self::OpenAiChat | Self::OpenAiResponses | Self::Anthropic => value["error"].is_object(),
            Self::Gemini => value["error"].is_object() || value[0]["error"].is_object(),
            Self::Bedrock => value["message"].is_string() || value["Message"].is_string(),
            Self::Cohere => value["message"].is_string(),
        }
    }

    /// The body; its status is [`Error::status`], its `Retry-After` the error's own.
    pub fn render_error(self, error: &Error) -> Vec<u8> {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => openai_chat::render_error(error),
            Self::Anthropic => anthropic::render_error(error),
            Self::Gemini => gemini::render_error(error),
            Self::Bedrock => bedrock::render_error(error),
            Self::Cohere => cohere::render_error(error),
        }
    }

    /// How this dialect's streams are cut into pieces.
    pub(crate) fn framing(self, bounds: Bounds) -> Framing {
        match self {
            Self::Bedrock => Framing::Aws(aws::Decoder::new(bounds.frame)),
            Self::Gemini => Framing::Either { max: bounds.frame },
            _ => Framing::Sse(sse::Decoder::new(bounds.frame)),
        }
    }

    pub fn decoder(self, bounds: Bounds) -> Decoder {
        Decoder::new(self, bounds)
    }

    pub fn encoder(self, reply: Reply) -> Encoder {
        match self {
            Self::OpenAiChat => Encoder::OpenAiChat(openai_chat::Encoder::new(reply)),
            Self::OpenAiResponses => Encoder::OpenAiResponses(Box::new(openai_responses::Encoder::new(reply))),
            Self::Anthropic => Encoder::Anthropic(anthropic::Encoder::new(reply)),
            Self::Gemini => Encoder::Gemini(gemini::Encoder::new(reply)),
            Self::Bedrock => Encoder::Bedrock(bedrock::Encoder::new(reply)),
            Self::Cohere => Encoder::Cohere(cohere::Encoder::new(reply)),
        }
    }

    /// Of an answer's body; streams of Gemini without `alt=sse` are JSON.
    pub fn stream_content_type(self, sse: bool) -> &'static str {
        match self {
            Self::Bedrock => "application/vnd.amazon.eventstream",
            Self::Gemini if !sse => "application/json",
            _ => "text/event-stream",
        }
    }
}

/// A provider's stream becomes events.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    reader: Reader,
    flow: Flow,
    /// What is passed over, where only usage and the end are wanted.
    lean: Option<(Dialect, Skipped)>,
    /// The text of it, where somebody may have to count that.
    said: Option<Box<Said>>,
}

#[derive(Debug)]
enum Reader {
    OpenAiChat(openai_chat::Reader),
    OpenAiResponses(openai_responses::Reader),
    Anthropic(anthropic::Reader),
    Gemini(gemini::Reader),
    Bedrock(bedrock::Reader),
    Cohere(cohere::Reader),
}

impl Decoder {
    fn new(dialect: Dialect, bounds: Bounds) -> Self {
        let reader = match dialect {
            Dialect::OpenAiChat => Reader::OpenAiChat(openai_chat::Reader::default()),
            Dialect::OpenAiResponses => Reader::OpenAiResponses(openai_responses::Reader::default()),
            Dialect::Anthropic => Reader::Anthropic(anthropic::Reader::default()),
            Dialect::Gemini => Reader::Gemini(gemini::Reader::default()),
            Dialect::Bedrock => Reader::Bedrock(bedrock::Reader::default()),
            Dialect::Cohere => Reader::Cohere(cohere::Reader::default()),
        };
        Self { framing: dialect.framing(bounds), reader, flow: Flow::new(bounds), lean: None, said: None }
    }

    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let Self { framing, reader, flow, lean, said } = self;
        if flow.is_over() {
            return;
        }
        let mut read = |frame: Frame<'_>| match lean {
            Some((dialect, skipped)) if lean::is_text(*dialect, frame) => {
                let before = skipped.pieces;
                lean::texts(*dialect, frame, &mut |text| {
                    skipped.add(text);
                    said.iter_mut().for_each(|said| said.raw(text.raw));
                });
                if let (Reader::OpenAiResponses(reader), true) = (&mut *reader, skipped.pieces > before) {
                    reader.passes_over();
                }
            }
            _ => reader.frame(frame, flow),
        };
        if let Err(broken) = framing.push(bytes, &mut read) {
            flow.fail(Error::bad_stream(broken.reason()));
        }
        flow.take(out);
    }

    /// The provider closed the stream: in order, or in the middle of its answer.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        let Self { framing, reader, flow, .. } = self;
        if !framing.finish(&mut |frame| reader.frame(frame, flow)) {
            flow.fail(Error::bad_stream("the provider's stream broke off inside a frame"));
        }
        reader.finish(flow);
        flow.take(out);
    }

    /// Bytes at the end of what was pushed that are no whole event; 0 once the stream is over.
    pub fn open(&self) -> usize {
        if self.flow.is_over() { 0 } else { self.framing.open() }
    }

    /// Is its stream one of lines, where a blank one ends whatever was begun?
    pub fn is_lined(&self) -> bool {
        matches!(self.framing, Framing::Sse(_))
    }

    /// From here on text need not be told, only counted.
    pub fn skim(&mut self, dialect: Dialect) {
        self.lean.get_or_insert((dialect, Skipped::default()));
    }

    /// Text that is passed over is kept for who may have to count it.
    pub fn keep_text(&mut self) {
        self.said.get_or_insert_default();
    }

    /// The text that was passed over, where it was kept.
    pub fn said(&mut self) -> Option<Box<Said>> {
        self.said.take()
    }

    /// What was passed over since.
    pub fn skipped(&self) -> Skipped {
        self.lean.map(|(_, skipped)| skipped).unwrap_or_default()
    }

    /// `End` or `Error` was told; whatever comes is ignored.
    pub fn is_over(&self) -> bool {
        self.flow.is_over()
    }
}

impl Reader {
    fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        if flow.is_over() {
            return;
        }
        match self {
            Self::OpenAiChat(reader) => reader.frame(frame, flow),
            Self::OpenAiResponses(reader) => reader.frame(frame, flow),
            Self::Anthropic(reader) => reader.frame(frame, flow),
            Self::Gemini(reader) => reader.frame(frame, flow),
            Self::Bedrock(reader) => reader.frame(frame, flow),
            Self::Cohere(reader) => reader.frame(frame, flow),
        }
    }

    fn finish(&mut self, flow: &mut Flow) {
        match self {
            Self::Gemini(reader) => reader.finish(flow),
            _ => flow.end(),
        }
    }
}

/// Events become the caller's stream.
#[derive(Debug)]
pub enum Encoder {
    OpenAiChat(openai_chat::Encoder),
    OpenAiResponses(Box<openai_responses::Encoder>),
    Anthropic(anthropic::Encoder),
    Gemini(gemini::Encoder),
    Bedrock(bedrock::Encoder),
    Cohere(cohere::Encoder),
}

impl Encoder {
    /// Others wrote the stream until here.
    pub fn goes_on(&mut self) {
        if let Self::Gemini(encoder) = self {
            encoder.goes_on();
        }
    }

    pub fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        match self {
            Self::OpenAiChat(encoder) => encoder.push(event, out),
            Self::OpenAiResponses(encoder) => encoder.push(event, out),
            Self::Anthropic(encoder) => encoder.push(event, out),
            Self::Gemini(encoder) => encoder.push(event, out),
            Self::Bedrock(encoder) => encoder.push(event, out),
            Self::Cohere(encoder) => encoder.push(event, out),
        }
    }
}
