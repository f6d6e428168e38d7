//! Anthropic's stream → events.

use serde::Deserialize;
use serde_json::Value;

use super::{answer_in, error, stop, usage};
use crate::Dialect;
use crate::frame::Frame;
use crate::json::{self, read_json, string_of, text_of};
use crate::meaning::{BlockKind, Delta, Error, Flow, Start};
use crate::signature::Signature;

#[derive(Debug, Default)]
pub(crate) struct Reader {
    usage: usage::Report,
    id: String,
    /// Open blocks by the provider's index. Few at a time, mostly one.
    open: Vec<Open>,
    /// It was told that the answer quotes.
    quotes: bool,
}

#[derive(Debug)]
struct Open {
    index: u64,
    block: usize,
    /// Arguments given when the block was opened; deltas, if any come, say it all again.
    early: Option<String>,
    is_call: bool,
}

/// What most events are, read without a tree. Whatever it does not fit is read the other way.
#[derive(Deserialize)]
struct Piece<'a> {
    index: u64,
    #[serde(borrow)]
    delta: Words<'a>,
}

#[derive(Deserialize)]
struct Words<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    text: Option<String>,
    thinking: Option<String>,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        if self.is_piece(frame, flow) {
            return;
        }
        // Not its own word, but that of some who imitate it.
        if frame.data == b"[DONE]" {
            return flow.done();
        }
        let Ok(event) = read_json(frame.data) else {
            return flow.fail(Error::bad_stream("an event of the provider's stream is not valid JSON"));
        };
        match event["type"].as_str().unwrap_or(frame.name) {
            "message_start" => self.start(&event["message"], flow),
            "content_block_start" => self.open(&event, flow),
            "content_block_delta" => self.delta(&event, flow),
            "content_block_stop" => self.close(event["index"].as_u64(), flow),
            "message_delta" => self.message_delta(&event, flow),
            "message_stop" => flow.done(),
            "ping" => flow.ping(),
            "error" => flow.fail(error::of_value(0, &event["error"])),
            _ if event["error"].is_object() => flow.fail(error::of_value(0, &event["error"])),
            _ => {}
        }
    }

    fn is_piece(&self, frame: Frame<'_>, flow: &mut Flow) -> bool {
        const BEGINS: &[u8] = br#"{"type":"content_block_delta","#;
        if !frame.data.starts_with(BEGINS) {
            return false;
        }
        let Ok(Piece { index, delta }) = serde_json::from_slice(frame.data) else { return false };
        let (("text_delta", Some(text), _) | ("thinking_delta", _, Some(text))) =
            (delta.kind, delta.text, delta.thinking)
        else {
            return false;
        };
        let open = self.open.iter().find(|open| open.index == index);
        if let (Some(open), false) = (open, text.is_empty()) {
            flow.delta(open.block, Delta::Text(text));
        }
        true
    }

    /// Some proxies send it twice. Some start another answer in the middle of the first: half of each is nobody's.
    fn start(&mut self, message: &Value, flow: &mut Flow) {
        let id = string_of(&message["id"]);
        if flow.has_started() {
            if id != self.id {
                flow.fail(Error::bad_stream("the provider's stream starts a second answer"));
            }
            return;
        }
        self.id.clone_from(&id);
        flow.start(Start { id, model: string_of(&message["model"]), created: None });
        if let Some(usage) = self.usage.read(&message["usage"]) {
            flow.usage(usage);
        }
        // A message that arrives with its content already there.
        for (i, block) in message["content"].as_array().into_iter().flatten().enumerate() {
            let index = i as u64;
            self.open_block(index, block, flow);
            self.close(Some(index), flow);
        }
    }

    fn open(&mut self, event: &Value, flow: &mut Flow) {
        let Some(index) = event["index"].as_u64() else { return };
        self.close(Some(index), flow);
        self.open_block(index, &event["content_block"], flow);
    }

    fn open_block(&mut self, index: u64, block: &Value, flow: &mut Flow) {
        let mut early = None;
        let mut is_call = false;
        let kind = match block["type"].as_str() {
            Some("text") => BlockKind::Text,
            Some("thinking") => BlockKind::Reasoning,
            Some("redacted_thinking") => {
                BlockKind::Redacted(Signature::open(&string_of(&block["data"]), Dialect::Anthropic))
            }
            Some("tool_use") => {
                is_call = true;
                let filled = block["input"].as_object().is_some_and(|input| !input.is_empty());
                early = Some(if filled { json::text(&block["input"]) } else { "{}".to_owned() });
                BlockKind::ToolCall { id: string_of(&block["id"]), name: string_of(&block["name"]), signature: None }
            }
            _ => BlockKind::Foreign { dialect: Dialect::Anthropic, value: block.clone() },
        };
        let Some(number) = flow.open(kind) else { return };
        let text = text_of(&block["text"]).or_else(|| text_of(&block["thinking"]));
        if let (Some(text), false) = (text, is_call) {
            flow.delta(number, Delta::Text(text.to_owned()));
        }
        if let Some(signature) = answer_in::signature(block) {
            flow.delta(number, Delta::Signature(signature));
        }
        self.open.push(Open { index, block: number, early, is_call });
    }

    fn delta(&mut self, event: &Value, flow: &mut Flow) {
        let index = event["index"].as_u64();
        if event["delta"]["type"] == "citations_delta" && !std::mem::replace(&mut self.quotes, true) {
            flow.aside(Dialect::Anthropic, "citations");
        }
        let Some(open) = self.open.iter_mut().find(|open| Some(open.index) == index) else { return };
        let delta = &event["delta"];
        let told = match delta["type"].as_str() {
            Some("text_delta") => text_of(&delta["text"]).map(|text| Delta::Text(text.to_owned())),
            Some("thinking_delta") => text_of(&delta["thinking"]).map(|text| Delta::Text(text.to_owned())),
            Some("signature_delta") => answer_in::signature(delta).map(Delta::Signature),
            Some("input_json_delta") if open.is_call => text_of(&delta["partial_json"]).map(|text| {
                open.early = None;
                Delta::Arguments(text.to_owned())
            }),
            _ => None,
        };
        if let Some(told) = told {
            flow.delta(open.block, told);
        }
    }

    fn close(&mut self, index: Option<u64>, flow: &mut Flow) {
        let Some(at) = self.open.iter().position(|open| Some(open.index) == index) else { return };
        let open = self.open.remove(at);
        if let Some(arguments) = open.early {
            flow.delta(open.block, Delta::Arguments(arguments));
        }
        flow.close(open.block);
    }

    fn message_delta(&mut self, event: &Value, flow: &mut Flow) {
        if let Some(usage) = self.usage.read(&event["usage"]) {
            flow.usage(usage);
        }
        if let Some(reason) = text_of(&event["delta"]["stop_reason"]) {
            flow.stop(stop::read(reason, &event["delta"]["stop_sequence"]));
        }
    }
}
