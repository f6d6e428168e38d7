//! Events of `v2/chat` → events.

use serde_json::Value;

use super::{answer_in, stop, usage};
use crate::Dialect;
use crate::frame::Frame;
use crate::ids;
use crate::json::{read_json, string_of, text_of};
use crate::meaning::{BlockKind, Delta, Error, Flow, Start};
use crate::signature::Signature;

#[derive(Debug, Default)]
pub(crate) struct Reader {
    id: String,
    plan: Option<usize>,
    open: Vec<Open>,
    calls: usize,
}

#[derive(Debug)]
struct Open {
    /// Texts and calls are numbered apart.
    call: bool,
    index: u64,
    block: usize,
    /// A call without arguments until now.
    empty: bool,
}

impl Reader {
    pub(crate) fn frame(&mut self, frame: Frame<'_>, flow: &mut Flow) {
        if frame.data == b"[DONE]" {
            return flow.end();
        }
        let Ok(value) = read_json(frame.data) else {
            return flow.fail(Error::bad_stream("an event of the provider's stream is not valid JSON"));
        };
        let message = &value["delta"]["message"];
        match value["type"].as_str().unwrap_or(frame.name) {
            "message-start" => {
                self.id = string_of(&value["id"]);
                flow.start(Start { id: self.id.clone(), model: string_of(&value["model"]), created: None });
            }
            "tool-plan-delta" => self.plan(&string_of(&message["tool_plan"]), flow),
            "content-start" => self.content(&value, &message["content"], flow),
            "content-delta" => self.delta(&value, &message["content"], flow),
            "tool-call-start" => self.call(&value, &message["tool_calls"], flow),
            "tool-call-delta" => self.arguments(&value, &message["tool_calls"], flow),
            "content-end" => self.close(&value, false, flow),
            "tool-call-end" => self.close(&value, true, flow),
            "message-end" => self.end(&value["delta"], flow),
            "error" => flow.fail(answer_in::failure("ERROR", &value)),
            _ if value["message"].is_string() && value["type"].is_null() => {
                flow.fail(answer_in::failure("ERROR", &value));
            }
            _ => {}
        }
    }

    fn plan(&mut self, text: &str, flow: &mut Flow) {
        if text.is_empty() {
            return;
        }
        if self.plan.is_none() {
            self.plan = flow.open(BlockKind::Reasoning);
        }
        if let Some(block) = self.plan {
            flow.delta(block, Delta::Text(text.to_owned()));
        }
    }

    fn content(&mut self, value: &Value, content: &Value, flow: &mut Flow) {
        let kind = match content["type"].as_str() {
            Some("thinking") => match text_of(&content["redacted"]) {
                Some(data) => BlockKind::Redacted(Signature::open(data, Dialect::Cohere)),
                None => BlockKind::Reasoning,
            },
            Some("text") | None => BlockKind::Text,
            Some(_) => BlockKind::Foreign { dialect: Dialect::Cohere, value: content.clone() },
        };
        self.open(value, false, kind, flow);
        self.delta(value, content, flow);
    }

    fn delta(&mut self, value: &Value, content: &Value, flow: &mut Flow) {
        let text = text_of(&content["text"]).or_else(|| text_of(&content["thinking"]));
        let signature = answer_in::signature(&content["signature"]);
        if text.is_none() && signature.is_none() {
            return;
        }
        let thinks = content["thinking"].is_string() || signature.is_some();
        let block = match self.find(value, false) {
            Some(at) => Some(self.open[at].block),
            // One that never began.
            None => self.open(value, false, if thinks { BlockKind::Reasoning } else { BlockKind::Text }, flow),
        };
        let Some(block) = block else { return };
        if let Some(text) = text {
            flow.delta(block, Delta::Text(text.to_owned()));
        }
        if let Some(signature) = signature {
            flow.delta(block, Delta::Signature(signature));
        }
    }

    fn call(&mut self, value: &Value, call: &Value, flow: &mut Flow) {
        let id = text_of(&call["id"]).map_or_else(|| ids::synthetic(&self.id, self.calls), str::to_owned);
        self.calls += 1;
        let kind = BlockKind::ToolCall { id, name: string_of(&call["function"]["name"]), signature: None };
        self.open(value, true, kind, flow);
        self.arguments(value, call, flow);
    }

    fn arguments(&mut self, value: &Value, call: &Value, flow: &mut Flow) {
        let Some(at) = self.find(value, true) else { return };
        let Some(text) = text_of(&call["function"]["arguments"]) else { return };
        // No arguments at all.
        if text == "null" && self.open[at].empty {
            return;
        }
        self.open[at].empty = false;
        flow.delta(self.open[at].block, Delta::Arguments(text.to_owned()));
    }

    fn open(&mut self, value: &Value, call: bool, kind: BlockKind, flow: &mut Flow) -> Option<usize> {
        if let Some(plan) = self.plan.take() {
            flow.close(plan);
        }
        // The same number again: the one before was never closed.
        self.close(value, call, flow);
        let block = flow.open(kind)?;
        self.open.push(Open { call, index: index(value), block, empty: call });
        Some(block)
    }

    fn close(&mut self, value: &Value, call: bool, flow: &mut Flow) {
        if let Some(at) = self.find(value, call) {
            let open = self.open.remove(at);
            if open.empty {
                flow.delta(open.block, Delta::Arguments("{}".to_owned()));
            }
            flow.close(open.block);
        }
    }

    fn end(&mut self, delta: &Value, flow: &mut Flow) {
        let reason = delta["finish_reason"].as_str().unwrap_or("COMPLETE");
        if let Some(usage) = usage::read(&delta["usage"]) {
            flow.usage(usage);
        }
        if stop::is_failure(reason) {
            return flow.fail(answer_in::failure(reason, delta));
        }
        for open in std::mem::take(&mut self.open).into_iter().filter(|open| open.empty) {
            flow.delta(open.block, Delta::Arguments("{}".to_owned()));
        }
        flow.stop(stop::read(reason));
        flow.end();
    }

    fn find(&self, value: &Value, call: bool) -> Option<usize> {
        let index = index(value);
        self.open.iter().position(|open| (open.call, open.index) == (call, index))
    }
}

fn index(value: &Value) -> u64 {
    value["index"].as_u64().unwrap_or(0)
}
