//! ConverseStream's frames → events. Text often has no `contentBlockStart`; usage comes after `messageStop`.

use serde_json::Value;

use super::{answer_in, error, stop, usage};
use crate::Dialect;
use crate::frame::{Frame, FrameKind};
use crate::json::{read_json, string_of, text_of};
use crate::meaning::{BlockKind, Delta, Error, Flow, Start};
use crate::signature::Signature;

#[derive(Debug, Default)]
pub(crate) struct Reader {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    index: u64,
    block: usize,
    /// A call whose arguments have not begun.
    empty_call: bool,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        let Ok(value) = read_json(frame.data) else {
            return flow.fail(Error::bad_stream("an event of the provider's stream is not valid JSON"));
        };
        if frame.kind == FrameKind::Exception {
            let mut error = error::named(frame.name, &value, 0);
            if error.message.is_empty() {
                frame.name.clone_into(&mut error.message);
            }
            return flow.fail(error);
        }
        match frame.name {
            "messageStart" => flow.start(Start::default()),
            "contentBlockStart" => self.start(&value, flow),
            "contentBlockDelta" => self.delta(&value, flow),
            "contentBlockStop" => self.close(&value, flow),
            "messageStop" => flow.stop(stop::read(value["stopReason"].as_str().unwrap_or("end_turn"))),
            "metadata" => {
                if let Some(usage) = usage::read(&value["usage"]) {
                    flow.usage(usage.at(&value["serviceTier"]["type"]));
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, value: &Value, flow: &mut Flow) {
        let call = &value["start"]["toolUse"];
        let kind = match call["type"].as_str() {
            _ if !call.is_object() => return,
            Some("server_tool_use") => BlockKind::Foreign { dialect: Dialect::Bedrock, value: value["start"].clone() },
            _ => BlockKind::ToolCall {
                id: string_of(&call["toolUseId"]),
                name: string_of(&call["name"]),
                signature: None,
            },
        };
        let empty_call = matches!(kind, BlockKind::ToolCall { .. });
        self.open(value, kind, empty_call, flow);
    }

    fn delta(&mut self, value: &Value, flow: &mut Flow) {
        let delta = &value["delta"];
        let thoughts = &delta["reasoningContent"];
        let (kind, told) = if let Some(text) = text_of(&delta["text"]) {
            (BlockKind::Text, Delta::Text(text.to_owned()))
        } else if let Some(text) = text_of(&delta["toolUse"]["input"]) {
            return self.arguments(value, text, flow);
        } else if let Some(text) = text_of(&thoughts["text"]) {
            (BlockKind::Reasoning, Delta::Text(text.to_owned()))
        } else if let Some(signature) = answer_in::signature(thoughts) {
            (BlockKind::Reasoning, Delta::Signature(signature))
        } else if let Some(data) = text_of(&thoughts["redactedContent"]) {
            let kind = BlockKind::Redacted(Signature::open(data, Dialect::Bedrock));
            self.open(value, kind, false, flow);
            return;
        } else {
            return;
        };
        let open = self.find(value).map(|at| self.open[at].block);
        if let Some(block) = open.or_else(|| self.open(value, kind, false, flow)) {
            flow.delta(block, told);
        }
    }

    fn arguments(&mut self, value: &Value, text: &str, flow: &mut Flow) {
        let Some(at) = self.find(value) else { return };
        self.open[at].empty_call = false;
        flow.delta(self.open[at].block, Delta::Arguments(text.to_owned()));
    }

    fn open(&mut self, value: &Value, kind: BlockKind, empty_call: bool, flow: &mut Flow) -> Option<usize> {
        // Blocks of providers that never say where one ends.
        if !self.open.is_empty() {
            self.close_all(flow);
        }
        let block = flow.open(kind)?;
        self.open.push(Open { index: value["contentBlockIndex"].as_u64().unwrap_or(0), block, empty_call });
        Some(block)
    }

    fn close(&mut self, value: &Value, flow: &mut Flow) {
        if let Some(at) = self.find(value) {
            let open = self.open.remove(at);
            end(&open, flow);
        }
    }

    fn close_all(&mut self, flow: &mut Flow) {
        for open in std::mem::take(&mut self.open) {
            end(&open, flow);
        }
    }

    fn find(&self, value: &Value) -> Option<usize> {
        let index = value["contentBlockIndex"].as_u64().unwrap_or(0);
        self.open.iter().position(|open| open.index == index)
    }
}

fn end(open: &Open, flow: &mut Flow) {
    if open.empty_call {
        flow.delta(open.block, Delta::Arguments("{}".to_owned()));
    }
    flow.close(open.block);
}
