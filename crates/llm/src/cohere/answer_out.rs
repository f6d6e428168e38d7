//! [`Answer`] → an answer of `v2/chat`.

use serde_json::{Value, json};

use super::{stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::ids;
use crate::json::Object;
use crate::meaning::{Answer, Body, Part, ToolCall};

pub(crate) fn render_answer(answer: &Answer, reply: &Reply) -> Vec<u8> {
    let calls: Vec<Value> = answer.parts.iter().filter_map(called).collect();
    let content: Vec<Value> = answer.parts.iter().filter_map(block).collect();
    let mut message = Object::new().with("role", "assistant");
    if !content.is_empty() || calls.is_empty() {
        message.put("content", content);
    }
    if !calls.is_empty() {
        message.put("tool_calls", calls);
    }
    let own = answer.dialect == Dialect::Cohere;
    message.put_some("citations", answer.extras.get("citations").filter(|_| own).cloned());
    Object::new()
        .with("id", reply.id(&answer.id, ""))
        .with("finish_reason", stop::write(&answer.stop))
        .with("message", message.done())
        .maybe("usage", answer.usage.as_ref().map(usage::write))
        .bytes()
}

fn block(part: &Part) -> Option<Value> {
    Some(match &part.body {
        Body::Text(text) | Body::Refusal(text) => json!({"type": "text", "text": text}),
        Body::Reasoning { text, signature } => Object::new()
            .with("type", "thinking")
            .with("thinking", text.as_str())
            .maybe("signature", signature.as_ref().map(|signature| signature.seal(Dialect::Cohere)))
            .done(),
        Body::Redacted(signature) => {
            json!({"type": "thinking", "thinking": "", "redacted": signature.seal(Dialect::Cohere)})
        }
        Body::Foreign { dialect: Dialect::Cohere, value } => value.clone(),
        Body::ToolCall(_) | Body::Media(_) | Body::ToolResult(_) | Body::Foreign { .. } => return None,
    })
}

fn called(part: &Part) -> Option<Value> {
    let Body::ToolCall(call) = &part.body else { return None };
    Some(tool_call(call, ids::call_id(&call.id, call.signature.as_ref(), Dialect::Cohere)))
}

pub(super) fn tool_call(call: &ToolCall, id: String) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    json!({"id": id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
}
