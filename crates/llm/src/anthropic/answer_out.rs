//! [`Answer`] → a message.

use serde_json::Value;

use super::{stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::ids;
use crate::json::{Object, object_of};
use crate::meaning::{Answer, Body, Part};

pub(crate) fn render_answer(answer: &Answer, reply: &Reply) -> Vec<u8> {
    let (reason, sequence) = stop::write(&answer.stop);
    let content: Vec<Value> = answer.parts.iter().filter_map(|part| block(part, answer.dialect)).collect();
    let mut body = Object::new()
        .with("id", reply.id(&answer.id, "msg_"))
        .with("type", "message")
        .with("role", "assistant")
        .with("model", reply.model(&answer.model))
        .with("content", content)
        .with("stop_reason", reason)
        .with("stop_sequence", sequence)
        .with("usage", usage::write(&answer.usage.unwrap_or_default()));
    if answer.dialect == Dialect::Anthropic {
        body.extend(&answer.extras);
    }
    body.bytes()
}

/// Callers see thoughts of every maker; those of others carry a marked signature, or none.
fn block(part: &Part, from: Dialect) -> Option<Value> {
    let mut object = match &part.body {
        Body::Text(text) | Body::Refusal(text) => Object::new().with("type", "text").with("text", text.as_str()),
        Body::Reasoning { text, signature } => {
            let signature = signature.as_ref().map(|s| s.seal_thought(Dialect::Anthropic)).unwrap_or_default();
            Object::new().with("type", "thinking").with("thinking", text.as_str()).with("signature", signature)
        }
        Body::Redacted(signature) => {
            Object::new().with("type", "redacted_thinking").with("data", signature.seal(Dialect::Anthropic))
        }
        Body::ToolCall(call) => Object::new()
            .with("type", "tool_use")
            .with("id", ids::call_id(&call.id, call.signature.as_ref(), Dialect::Anthropic))
            .with("name", call.name.as_str())
            .with("input", object_of(&call.arguments)),
        Body::Foreign { dialect: Dialect::Anthropic, value } => return Some(value.clone()),
        // Pictures in answers, and what other providers' own tools did on the way.
        Body::Media(_) | Body::ToolResult(_) | Body::Foreign { .. } => return None,
    };
    if from == Dialect::Anthropic {
        object.extend(&part.extras);
    }
    Some(object.done())
}
