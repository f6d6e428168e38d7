//! Events → a chat completion's chunks: role, deltas, reason, usage (if asked for), `[DONE]`.

use serde_json::{Value, json};

use super::{answer_out, error, stop, thoughts, usage};
use crate::dialect::{Dialect, Reply};
use crate::frame::sse;
use crate::ids;
use crate::json::{write_text, write_value};
use crate::meaning::{BlockKind, Delta, Event, Start, Usage};
use crate::signature::Signature;

#[derive(Debug)]
pub struct Encoder {
    reply: Reply,
    /// `{"id":…,"model":…,` : what every chunk starts with, written once.
    head: Vec<u8>,
    blocks: Vec<Block>,
    calls: usize,
    details: usize,
    usage: Option<Usage>,
}

#[derive(Clone, Copy, Debug)]
enum Block {
    Text,
    Refusal,
    Reasoning,
    Call { index: usize, any: bool },
    Silent,
}

impl Encoder {
    pub(crate) fn new(reply: Reply) -> Self {
        Self { reply, head: Vec::new(), blocks: Vec::new(), calls: 0, details: 0, usage: None }
    }

    pub(crate) fn push(&mut self, event: Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.start(&start, out),
            Event::Open { kind, .. } => self.open(kind, out),
            Event::Delta { block, delta } => self.delta(block, delta, out),
            Event::Close { block } => self.close(block, out),
            Event::Usage(usage) => self.usage = Some(usage),
            Event::Stop(stop) => self.chunk(b"{}", Some(stop::write(&stop)), out),
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::End => self.end(out),
            Event::Error(error) => sse::write(None, &error::render_error(&error), out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut Vec<u8>) {
        self.head.extend_from_slice(b"{\"id\":");
        write_text(&self.reply.id(&start.id, "chatcmpl-"), &mut self.head);
        self.head.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        self.head.extend_from_slice(start.created.unwrap_or(self.reply.now).to_string().as_bytes());
        self.head.extend_from_slice(b",\"model\":");
        write_text(self.reply.model(&start.model), &mut self.head);
        self.chunk(br#"{"role":"assistant","content":""}"#, None, out);
    }

    fn open(&mut self, kind: BlockKind, out: &mut Vec<u8>) {
        let block = match kind {
            BlockKind::Text => Block::Text,
            BlockKind::Refusal => Block::Refusal,
            BlockKind::Reasoning => Block::Reasoning,
            BlockKind::Redacted(signature) => {
                self.detail(None, &signature, out);
                Block::Silent
            }
            BlockKind::ToolCall { id, name, signature } => self.open_call(&id, &name, signature.as_ref(), out),
            BlockKind::Media(media) => {
                if let Some(image) = answer_out::image(&media) {
                    self.value(&json!({"images": [image]}), out);
                }
                Block::Silent
            }
            BlockKind::Foreign { .. } => Block::Silent,
        };
        self.blocks.push(block);
    }

    fn open_call(&mut self, id: &str, name: &str, signature: Option<&Signature>, out: &mut Vec<u8>) -> Block {
        let index = self.calls;
        self.calls += 1;
        let mut call = json!({
            "index": index,
            "id": ids::call_id(id, signature, Dialect::OpenAiChat),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        });
        if let Some(signature) = signature {
            call["extra_content"] = answer_out::extra_content(signature);
        }
        self.value(&json!({"tool_calls": [call]}), out);
        Block::Call { index, any: false }
    }

    fn delta(&mut self, block: usize, delta: Delta, out: &mut Vec<u8>) {
        let Some(kind) = self.blocks.get(block).copied() else { return };
        match (kind, delta) {
            (Block::Text, Delta::Text(text)) => self.text("content", &text, out),
            (Block::Refusal, Delta::Text(text)) => self.text("refusal", &text, out),
            (Block::Reasoning, Delta::Text(text)) => self.text("reasoning_content", &text, out),
            (Block::Reasoning, Delta::Signature(signature)) => self.detail(Some(""), &signature, out),
            (Block::Call { index, .. }, Delta::Arguments(text)) => {
                self.blocks[block] = Block::Call { index, any: true };
                self.arguments(index, &text, out);
            }
            (Block::Call { index, .. }, Delta::Signature(signature)) => {
                let call = json!({"index": index, "extra_content": answer_out::extra_content(&signature)});
                self.value(&json!({"tool_calls": [call]}), out);
            }
            _ => {}
        }
    }

    /// Callers parse what they got: a call without arguments is one with an empty object.
    fn close(&mut self, block: usize, out: &mut Vec<u8>) {
        if let Some(Block::Call { index, any: false }) = self.blocks.get(block).copied() {
            self.arguments(index, "{}", out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let Some(usage) = self.usage.filter(|_| self.reply.include_usage) {
            let mut chunk = self.head.clone();
            chunk.extend_from_slice(b",\"choices\":[],\"usage\":");
            write_value(&usage::render_usage(&usage), &mut chunk);
            chunk.push(b'}');
            sse::write(None, &chunk, out);
        }
        sse::write(None, b"[DONE]", out);
    }

    fn text(&mut self, name: &str, text: &str, out: &mut Vec<u8>) {
        out.reserve(self.head.len() + text.len() + 128);
        self.begin(out);
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_text(text, out);
        out.push(b'}');
        self.end_chunk(None, out);
    }

    fn arguments(&mut self, index: usize, text: &str, out: &mut Vec<u8>) {
        let mut delta = format!("{{\"tool_calls\":[{{\"index\":{index},\"function\":{{\"arguments\":").into_bytes();
        write_text(text, &mut delta);
        delta.extend_from_slice(b"}}]}");
        self.chunk(&delta, None, out);
    }

    fn detail(&mut self, text: Option<&str>, signature: &Signature, out: &mut Vec<u8>) {
        let detail = thoughts::to_detail(text, signature, self.details);
        self.details += 1;
        self.value(&json!({"reasoning_details": [detail]}), out);
    }

    fn value(&mut self, delta: &Value, out: &mut Vec<u8>) {
        let delta = delta.to_string();
        self.chunk(delta.as_bytes(), None, out);
    }

    fn chunk(&mut self, delta: &[u8], finish: Option<&str>, out: &mut Vec<u8>) {
        self.begin(out);
        out.extend_from_slice(delta);
        self.end_chunk(finish, out);
    }

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":");
    }

    fn end_chunk(&self, finish: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        match finish {
            Some(reason) => write_text(reason, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}]");
        if self.reply.include_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }
}
