//! Events → Gemini's stream: server-sent events, or a JSON array if the caller did not ask `alt=sse`. Calls go out whole.

use serde_json::{Value, json};

use super::{answer_out, error, stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::json::{Object, write_value};
use crate::meaning::{BlockKind, Delta, Event, Sequence, Start, Stop, ToolCall, Usage};

#[derive(Debug)]
pub struct Encoder {
    sequence: Sequence,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    reply: Reply,
    id: String,
    model: String,
    /// An element was written: the next one needs a comma.
    any: bool,
    block: Block,
    stop: Stop,
    usage: Usage,
}

#[derive(Debug)]
enum Block {
    Text,
    Thought,
    Call(ToolCall),
    Silent,
}

impl Encoder {
    pub(crate) fn new(reply: Reply) -> Self {
        let sequence = Sequence::new(reply.bounds.held);
        let writer = Writer {
            reply,
            id: String::new(),
            model: String::new(),
            any: false,
            block: Block::Silent,
            stop: Stop::EndTurn,
            usage: Usage::default(),
        };
        Self { sequence, writer }
    }

    /// There are elements already.
    pub(crate) fn goes_on(&mut self) {
        self.writer.any = true;
    }

    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        let Self { sequence, writer } = self;
        sequence.push(event, &mut |event| writer.write(event, out));
    }
}

impl Writer {
    fn write(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.start(&start),
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { delta, .. } => self.delta(delta, out),
            Event::Close { .. } => {
                if let Block::Call(call) = std::mem::replace(&mut self.block, Block::Silent) {
                    self.part(answer_out::tool_call(&call).done(), out);
                }
            }
            Event::Usage(usage) => self.usage = usage,
            Event::Stop(stop) => self.stop = stop,
            // JSON allows blanks between elements. SSE allows comments, but google-genai takes each line for JSON.
            Event::Ping if self.reply.sse => {}
            Event::Ping => out.push(b'\n'),
            Event::End => self.end(out),
            Event::Error(error) => {
                self.element(&json!({"error": error::to_value(&error)}), out);
                self.close(out);
            }
        }
    }

    fn start(&mut self, start: &Start) {
        self.id = self.reply.id(&start.id, "");
        self.model = self.reply.model(&start.model).to_owned();
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        self.block = match kind {
            BlockKind::Text | BlockKind::Refusal => Block::Text,
            BlockKind::Reasoning => Block::Thought,
            BlockKind::ToolCall { id, name, signature } => {
                Block::Call(ToolCall { id, name, arguments: String::new(), signature })
            }
            BlockKind::Redacted(signature) => {
                self.part(answer_out::sealed(&signature.seal(Dialect::Gemini)).done(), out);
                Block::Silent
            }
            BlockKind::Media(media) => {
                if let Some(part) = answer_out::inline(&media) {
                    self.part(part.done(), out);
                }
                Block::Silent
            }
            BlockKind::Foreign { dialect, value } => {
                if dialect == Dialect::Gemini {
                    self.part(value, out);
                }
                Block::Silent
            }
        };
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) {
        let part = match (&mut self.block, delta) {
            (Block::Text, Delta::Text(text)) => json!({"text": text}),
            (Block::Thought, Delta::Text(text)) => json!({"text": text, "thought": true}),
            (Block::Thought, Delta::Signature(signature)) => {
                answer_out::sealed(&signature.seal(Dialect::Gemini)).done()
            }
            (Block::Call(call), Delta::Arguments(text)) => {
                if call.arguments.len() + text.len() <= self.reply.bounds.held {
                    call.arguments.push_str(&text);
                }
                return;
            }
            (Block::Call(call), Delta::Signature(signature)) => {
                call.signature = Some(signature);
                return;
            }
            _ => return,
        };
        self.part(part, out);
    }

    fn part(&mut self, part: Value, out: &mut Vec<u8>) {
        let candidate = json!({"content": {"role": "model", "parts": [part]}, "index": 0});
        let chunk = self.chunk(candidate).done();
        self.element(&chunk, out);
    }

    fn chunk(&self, candidate: Value) -> Object {
        Object::new()
            .with("candidates", vec![candidate])
            .with("modelVersion", self.model.as_str())
            .with("responseId", self.id.as_str())
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let candidate = json!({
            "content": {"role": "model", "parts": [{"text": ""}]},
            "finishReason": stop::write(&self.stop),
            "index": 0,
        });
        let chunk = self.chunk(candidate).with("usageMetadata", usage::write(&self.usage)).done();
        self.element(&chunk, out);
        self.close(out);
    }

    fn element(&mut self, value: &Value, out: &mut Vec<u8>) {
        let first = !std::mem::replace(&mut self.any, true);
        if self.reply.sse {
            out.extend_from_slice(b"data: ");
            write_value(value, out);
            out.extend_from_slice(b"\r\n\r\n");
        } else {
            out.extend_from_slice(if first { b"[" } else { b",\r\n" });
            write_value(value, out);
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if !self.reply.sse {
            out.extend_from_slice(if self.any { b"]" } else { b"[]" });
        }
    }
}
