//! Events → Anthropic's stream: `message_start`, blocks one after the other, `message_delta` with the whole usage,
//! `message_stop`, and nothing after it.

use serde_json::{Value, json};

use super::{error, stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::frame::sse;
use crate::ids;
use crate::json::{write_text, write_value};
use crate::meaning::{BlockKind, Delta, Event, Sequence, Start, Stop, Usage};

#[derive(Debug)]
pub struct Encoder {
    sequence: Sequence,
    writer: Writer,
}

#[derive(Debug)]
struct Writer {
    reply: Reply,
    /// Index of the block that speaks.
    index: usize,
    opened: usize,
    silent: bool,
    /// The block that speaks holds thoughts: SDKs leave out what comes to it under another name.
    thinks: bool,
    stop: Stop,
    usage: Usage,
}

impl Encoder {
    pub(crate) fn new(reply: Reply) -> Self {
        let sequence = Sequence::new(reply.bounds.held);
        let (stop, usage) = (Stop::EndTurn, Usage::default());
        let writer = Writer { reply, index: 0, opened: 0, silent: false, thinks: false, stop, usage };
        Self { sequence, writer }
    }

    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        let Self { sequence, writer } = self;
        sequence.push(event, &mut |event| writer.write(event, out));
    }
}

impl Writer {
    fn write(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { delta, .. } if !self.silent => self.delta(delta, out),
            Event::Close { .. } if !self.silent => {
                let data = format!("{{\"type\":\"content_block_stop\",\"index\":{}}}", self.index);
                sse::write(Some("content_block_stop"), data.as_bytes(), out);
            }
            Event::Delta { .. } | Event::Close { .. } => {}
            Event::Usage(usage) => self.usage = usage,
            Event::Stop(stop) => self.stop = stop,
            Event::Ping => sse::write(Some("ping"), br#"{"type":"ping"}"#, out),
            Event::End => self.end(out),
            Event::Error(error) => sse::write(Some("error"), &error::render_error(&error), out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut Vec<u8>) {
        let message = json!({"type": "message_start", "message": {
            "id": self.reply.id(&start.id, "msg_"),
            "type": "message",
            "role": "assistant",
            "model": self.reply.model(&start.model),
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage::write(&self.usage),
        }});
        event("message_start", &message, out);
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        self.thinks = matches!(kind, BlockKind::Reasoning);
        let block = match kind {
            BlockKind::Text | BlockKind::Refusal => json!({"type": "text", "text": ""}),
            BlockKind::Reasoning => json!({"type": "thinking", "thinking": "", "signature": ""}),
            BlockKind::Redacted(signature) => {
                json!({"type": "redacted_thinking", "data": signature.seal(Dialect::Anthropic)})
            }
            BlockKind::ToolCall { id, name, signature } => {
                let id = ids::call_id(&id, signature.as_ref(), Dialect::Anthropic);
                json!({"type": "tool_use", "id": id, "name": name, "input": {}})
            }
            BlockKind::Foreign { dialect: Dialect::Anthropic, value } => value,
            BlockKind::Media(_) | BlockKind::Foreign { .. } => {
                self.silent = true;
                return;
            }
        };
        self.silent = false;
        self.index = self.opened;
        self.opened += 1;
        let data = json!({"type": "content_block_start", "index": self.index, "content_block": block});
        event("content_block_start", &data, out);
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) if self.thinks => self.text("thinking_delta", "thinking", &text, out),
            Delta::Text(text) => self.text("text_delta", "text", &text, out),
            Delta::Arguments(text) => self.text("input_json_delta", "partial_json", &text, out),
            Delta::Signature(signature) => {
                self.text("signature_delta", "signature", &signature.seal_thought(Dialect::Anthropic), out);
            }
        }
    }

    fn text(&mut self, kind: &str, name: &str, text: &str, out: &mut Vec<u8>) {
        let mut data = Vec::with_capacity(text.len() + 96);
        data.extend_from_slice(b"{\"type\":\"content_block_delta\",\"index\":");
        data.extend_from_slice(self.index.to_string().as_bytes());
        data.extend_from_slice(format!(",\"delta\":{{\"type\":\"{kind}\",\"{name}\":").as_bytes());
        write_text(text, &mut data);
        data.extend_from_slice(b"}}");
        sse::write(Some("content_block_delta"), &data, out);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let (reason, sequence) = stop::write(&self.stop);
        let delta = json!({
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": usage::write(&self.usage),
        });
        event("message_delta", &delta, out);
        sse::write(Some("message_stop"), br#"{"type":"message_stop"}"#, out);
    }
}

fn event(name: &str, value: &Value, out: &mut Vec<u8>) {
    let mut data = Vec::with_capacity(256);
    write_value(value, &mut data);
    sse::write(Some(name), &data, out);
}
