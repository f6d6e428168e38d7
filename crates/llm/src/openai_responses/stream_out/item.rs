//! One item of a response while it grows: what is said of it when it is added, as it grows, and when it is done.

use serde_json::{Value, json};

use crate::openai_responses::answer_out::{function_call, message, output_text};
use crate::openai_responses::thoughts;
use crate::signature::Signature;

#[derive(Debug)]
pub(super) struct Item {
    id: String,
    kind: Kind,
    text: String,
}

#[derive(Debug)]
enum Kind {
    Text,
    Refusal,
    Reasoning { signature: Option<Signature> },
    Call { call_id: String, name: String },
}

type Part = Option<(&'static str, Value)>;

impl Item {
    pub(super) fn text(id: String) -> Self {
        Self { id, kind: Kind::Text, text: String::new() }
    }

    pub(super) fn refusal(id: String) -> Self {
        Self { id, kind: Kind::Refusal, text: String::new() }
    }

    pub(super) fn reasoning(id: String) -> Self {
        Self { id, kind: Kind::Reasoning { signature: None }, text: String::new() }
    }

    pub(super) fn call(id: String, call_id: String, name: String) -> Self {
        Self { id, kind: Kind::Call { call_id, name }, text: String::new() }
    }

    /// OpenAI's own items keep the id their maker gave them, which is not known before; clients go by the index.
    pub(super) fn sign(&mut self, new: Signature) {
        if let Kind::Reasoning { signature } = &mut self.kind {
            *signature = Some(new);
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn added(&self) -> Value {
        match &self.kind {
            Kind::Text | Kind::Refusal => {
                json!({"id": self.id, "type": "message", "status": "in_progress", "role": "assistant", "content": []})
            }
            Kind::Reasoning { .. } => json!({"id": self.id, "type": "reasoning", "summary": []}),
            Kind::Call { call_id, name } => function_call(&self.id, call_id, name, "", "in_progress"),
        }
    }

    pub(super) fn part_added(&self) -> Part {
        match self.kind {
            Kind::Text => Some(("response.content_part.added", json!({"part": output_text("", None)}))),
            Kind::Refusal => Some(("response.content_part.added", json!({"part": {"type": "refusal", "refusal": ""}}))),
            Kind::Reasoning { .. } | Kind::Call { .. } => None,
        }
    }

    /// A summary has a part only once it has text: sealed thoughts have none.
    pub(super) fn first_part(&self) -> Part {
        let first = matches!(self.kind, Kind::Reasoning { .. }) && self.text.is_empty();
        first.then(|| ("response.reasoning_summary_part.added", json!({"part": {"type": "summary_text", "text": ""}})))
    }

    pub(super) fn delta_name(&self) -> &'static str {
        match self.kind {
            Kind::Text => "response.output_text.delta",
            Kind::Refusal => "response.refusal.delta",
            Kind::Reasoning { .. } => "response.reasoning_summary_text.delta",
            Kind::Call { .. } => "response.function_call_arguments.delta",
        }
    }

    pub(super) fn delta(&self, text: &str, index: usize) -> Value {
        place(json!({"delta": text}), self, index)
    }

    pub(super) fn parts_done(&self) -> Vec<(&'static str, Value)> {
        let text = self.text.as_str();
        match &self.kind {
            Kind::Text => vec![
                ("response.output_text.done", json!({"text": text, "logprobs": []})),
                ("response.content_part.done", json!({"part": output_text(text, None)})),
            ],
            Kind::Refusal => vec![
                ("response.refusal.done", json!({"refusal": text})),
                ("response.content_part.done", json!({"part": {"type": "refusal", "refusal": text}})),
            ],
            Kind::Reasoning { .. } if text.is_empty() => Vec::new(),
            Kind::Reasoning { .. } => vec![
                ("response.reasoning_summary_text.done", json!({"text": text})),
                ("response.reasoning_summary_part.done", json!({"part": {"type": "summary_text", "text": text}})),
            ],
            Kind::Call { name, .. } => {
                let arguments = if text.trim().is_empty() { "{}" } else { text };
                vec![("response.function_call_arguments.done", json!({"name": name, "arguments": arguments}))]
            }
        }
    }

    pub(super) fn done(&self) -> Value {
        match &self.kind {
            Kind::Text => message(&self.id, output_text(&self.text, None)),
            Kind::Refusal => message(&self.id, json!({"type": "refusal", "refusal": self.text})),
            Kind::Reasoning { signature } => {
                let mut item = thoughts::write(&self.text, signature.as_ref(), &self.id);
                item["id"] = self.id.as_str().into();
                item
            }
            Kind::Call { call_id, name } => function_call(&self.id, call_id, name, &self.text, "completed"),
        }
    }
}

/// Where an event belongs: item, index, and the part of a message or summary.
pub(super) fn place(mut event: Value, item: &Item, index: usize) -> Value {
    event["item_id"] = item.id.as_str().into();
    event["output_index"] = index.into();
    match item.kind {
        Kind::Text | Kind::Refusal => event["content_index"] = 0.into(),
        Kind::Reasoning { .. } => event["summary_index"] = 0.into(),
        Kind::Call { .. } => {}
    }
    event
}
