//! [`Answer`] → a Converse response.

use serde_json::{Value, json};

use super::{media, stop, usage};
use crate::Dialect;
use crate::ids;
use crate::json::{Object, object_of};
use crate::meaning::{Answer, Body, Part};

pub(crate) fn render_answer(answer: &Answer) -> Vec<u8> {
    let content: Vec<Value> = answer.parts.iter().enumerate().filter_map(|(i, part)| block(part, i)).collect();
    let mut body = Object::new()
        .with("output", json!({"message": {"role": "assistant", "content": content}}))
        .with("stopReason", stop::write(&answer.stop))
        .with("usage", usage::write(&answer.usage.unwrap_or_default()));
    if answer.dialect == Dialect::Bedrock {
        body.extend(&answer.extras);
    } else {
        // Required by the shape; whoever relays knows better and tells in its own metrics.
        body.put("metrics", json!({"latencyMs": 0}));
    }
    body.bytes()
}

fn block(part: &Part, i: usize) -> Option<Value> {
    Some(match &part.body {
        Body::Text(text) | Body::Refusal(text) => json!({"text": text}),
        Body::Reasoning { text, signature } => {
            let signature = signature.as_ref().map(|signature| signature.seal_thought(Dialect::Bedrock));
            let inner = Object::new().with("text", text.as_str()).maybe("signature", signature).done();
            json!({"reasoningContent": {"reasoningText": inner}})
        }
        Body::Redacted(signature) => json!({"reasoningContent": {"redactedContent": signature.seal(Dialect::Bedrock)}}),
        Body::ToolCall(call) => json!({"toolUse": {
            "toolUseId": ids::call_id(&call.id, call.signature.as_ref(), Dialect::Bedrock),
            "name": call.name,
            "input": object_of(&call.arguments),
        }}),
        Body::Media(media) => return media::write(media, i).ok(),
        Body::Foreign { dialect: Dialect::Bedrock, value } => value.clone(),
        Body::ToolResult(_) | Body::Foreign { .. } => return None,
    })
}
