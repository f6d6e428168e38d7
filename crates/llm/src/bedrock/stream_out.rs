//! Events → ConverseStream's frames.

use serde_json::{Value, json};

use super::{error, stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::frame::{FrameKind, aws};
use crate::ids;
use crate::json::write_value;
use crate::meaning::{BlockKind, Delta, Event, Sequence, Usage};

#[derive(Debug)]
pub struct Encoder {
    sequence: Sequence,
    writer: Writer,
}

#[derive(Debug, Default)]
struct Writer {
    index: usize,
    opened: usize,
    silent: bool,
    thinking: bool,
    usage: Usage,
}

impl Encoder {
    pub(crate) fn new(reply: Reply) -> Self {
        Self { sequence: Sequence::new(reply.bounds.held), writer: Writer::default() }
    }

    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        let Self { sequence, writer } = self;
        sequence.push(event, &mut |event| writer.write(event, out));
    }
}

impl Writer {
    fn write(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(_) => frame("messageStart", &json!({"role": "assistant"}), out),
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { delta, .. } if !self.silent => self.delta(delta, out),
            Event::Close { .. } if !self.silent => {
                frame("contentBlockStop", &json!({"contentBlockIndex": self.index}), out);
            }
            // Frames cannot be empty and clients fail on names they do not know: there is no ping.
            Event::Delta { .. } | Event::Close { .. } | Event::Ping => {}
            Event::Usage(usage) => self.usage = usage,
            Event::Stop(stop) => frame("messageStop", &json!({"stopReason": stop::write(&stop)}), out),
            Event::End => {
                let value = json!({"usage": usage::write(&self.usage), "metrics": {"latencyMs": 0}});
                frame("metadata", &value, out);
            }
            Event::Error(error) => {
                let name = error::name(error.kind);
                let name = format!("{}{}", name[..1].to_ascii_lowercase(), &name[1..]);
                let payload = json!({"message": error.message}).to_string();
                aws::write(FrameKind::Exception, &name, payload.as_bytes(), out);
            }
        }
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        self.silent = matches!(kind, BlockKind::Media(_) | BlockKind::Foreign { .. });
        if self.silent {
            return;
        }
        self.index = self.opened;
        self.opened += 1;
        match kind {
            BlockKind::ToolCall { id, name, signature } => {
                let id = ids::call_id(&id, signature.as_ref(), Dialect::Bedrock);
                let start = json!({"toolUse": {"toolUseId": id, "name": name}});
                frame("contentBlockStart", &json!({"contentBlockIndex": self.index, "start": start}), out);
            }
            BlockKind::Redacted(signature) => {
                self.say(json!({"reasoningContent": {"redactedContent": signature.seal(Dialect::Bedrock)}}), out);
                self.silent = true;
                frame("contentBlockStop", &json!({"contentBlockIndex": self.index}), out);
            }
            BlockKind::Reasoning => self.thinking = true,
            _ => self.thinking = false,
        }
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) {
        let delta = match delta {
            Delta::Text(text) if self.thinking => json!({"reasoningContent": {"text": text}}),
            Delta::Text(text) => json!({"text": text}),
            Delta::Arguments(text) => json!({"toolUse": {"input": text}}),
            Delta::Signature(signature) => {
                json!({"reasoningContent": {"signature": signature.seal_thought(Dialect::Bedrock)}})
            }
        };
        self.say(delta, out);
    }

    fn say(&self, delta: Value, out: &mut Vec<u8>) {
        frame("contentBlockDelta", &json!({"contentBlockIndex": self.index, "delta": delta}), out);
    }
}

fn frame(name: &str, value: &Value, out: &mut Vec<u8>) {
    let mut payload = Vec::with_capacity(128);
    write_value(value, &mut payload);
    aws::write(FrameKind::Data, name, &payload, out);
}
