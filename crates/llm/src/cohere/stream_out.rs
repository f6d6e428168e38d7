//! Events → events of `v2/chat`.

use serde_json::{Value, json};

use super::{stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::frame::sse;
use crate::ids;
use crate::json::Object;
use crate::meaning::{BlockKind, Delta, Event, Stop, Usage};

#[derive(Debug)]
pub struct Encoder {
    reply: Reply,
    blocks: Vec<Block>,
    contents: usize,
    calls: usize,
    usage: Option<Usage>,
    stop: Stop,
}

#[derive(Clone, Copy, Debug)]
enum Block {
    Text(usize),
    Thinking(usize),
    Call(usize),
    Silent,
}

impl Encoder {
    pub(crate) fn new(reply: Reply) -> Self {
        Self { reply, blocks: Vec::new(), contents: 0, calls: 0, usage: None, stop: Stop::EndTurn }
    }

    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => {
                let message =
                    json!({"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []});
                let id = self.reply.id(&start.id, "");
                say("message-start", Object::new().with("id", id).with("delta", json!({"message": message})), out);
            }
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { block, delta } => self.delta(block, delta, out),
            Event::Close { block } => match self.blocks.get(block) {
                Some(Block::Text(index) | Block::Thinking(index)) => end("content-end", *index, out),
                Some(Block::Call(index)) => end("tool-call-end", *index, out),
                Some(Block::Silent) | None => {}
            },
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.stop = stop,
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::End => self.message_end(Object::new().with("finish_reason", stop::write(&self.stop)), out),
            Event::Error(error) => {
                let delta = Object::new().with("finish_reason", "ERROR").with("error", error.message.as_str());
                self.message_end(delta, out);
            }
        }
    }

    fn message_end(&self, delta: Object, out: &mut Vec<u8>) {
        let delta = delta.maybe("usage", self.usage.as_ref().map(usage::write)).done();
        say("message-end", Object::new().with("delta", delta), out);
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        let index = self.contents;
        let (block, content) = match kind {
            BlockKind::Text | BlockKind::Refusal => (Block::Text(index), json!({"type": "text", "text": ""})),
            BlockKind::Reasoning => (Block::Thinking(index), json!({"type": "thinking", "thinking": ""})),
            BlockKind::Redacted(signature) => {
                let sealed = signature.seal(Dialect::Cohere);
                (Block::Thinking(index), json!({"type": "thinking", "thinking": "", "redacted": sealed}))
            }
            BlockKind::ToolCall { id, name, signature } => {
                let id = ids::call_id(&id, signature.as_ref(), Dialect::Cohere);
                let function = json!({"name": name, "arguments": ""});
                let call = json!({"tool_calls": {"id": id, "type": "function", "function": function}});
                inside("tool-call-start", self.calls, call, out);
                self.blocks.push(Block::Call(self.calls));
                self.calls += 1;
                return;
            }
            BlockKind::Media(_) | BlockKind::Foreign { .. } => return self.blocks.push(Block::Silent),
        };
        inside("content-start", index, json!({"content": content}), out);
        self.blocks.push(block);
        self.contents += 1;
    }

    fn delta(&mut self, block: usize, delta: Delta, out: &mut Vec<u8>) {
        let Some(kind) = self.blocks.get(block).copied() else { return };
        let (name, index, message) = match (kind, delta) {
            (Block::Text(index), Delta::Text(text)) => ("content-delta", index, json!({"content": {"text": text}})),
            (Block::Thinking(index), Delta::Text(text)) => {
                ("content-delta", index, json!({"content": {"thinking": text}}))
            }
            (Block::Thinking(index), Delta::Signature(signature)) => {
                ("content-delta", index, json!({"content": {"signature": signature.seal(Dialect::Cohere)}}))
            }
            (Block::Call(index), Delta::Arguments(text)) => {
                ("tool-call-delta", index, json!({"tool_calls": {"function": {"arguments": text}}}))
            }
            // A signature that comes after its call's id was told has no place here.
            _ => return,
        };
        inside(name, index, message, out);
    }
}

fn inside(name: &str, index: usize, message: Value, out: &mut Vec<u8>) {
    say(name, Object::new().with("index", index).with("delta", json!({"message": message})), out);
}

fn end(name: &str, index: usize, out: &mut Vec<u8>) {
    say(name, Object::new().with("index", index), out);
}

fn say(name: &str, event: Object, out: &mut Vec<u8>) {
    sse::write(Some(name), &event.with("type", name).bytes(), out);
}
