//! [`Answer`] → a generateContent response.

use serde_json::{Value, json};

use super::answer_in::BESIDE;
use super::{stop, usage};
use crate::dialect::{Dialect, Reply};
use crate::json::{Object, object_of};
use crate::meaning::{Answer, Body, Media, Part, Source, ToolCall};

pub(crate) fn render_answer(answer: &Answer, reply: &Reply) -> Vec<u8> {
    let parts: Vec<Value> = answer.parts.iter().filter_map(|p| part(p, answer.dialect)).collect();
    let mut candidate = Object::new()
        .with("content", json!({"role": "model", "parts": parts}))
        .with("finishReason", stop::write(&answer.stop))
        .with("index", 0);
    let mut extras = answer.extras.clone();
    for name in BESIDE {
        candidate.put_some(name, extras.remove(name).filter(|_| answer.dialect == Dialect::Gemini));
    }
    let mut body = Object::new()
        .with("candidates", vec![candidate.done()])
        .maybe("usageMetadata", answer.usage.as_ref().map(usage::write))
        .with("modelVersion", reply.model(&answer.model))
        .with("responseId", reply.id(&answer.id, ""));
    if answer.dialect == Dialect::Gemini {
        body.extend(&extras);
    }
    body.bytes()
}

fn part(part: &Part, from: Dialect) -> Option<Value> {
    let mut object = match &part.body {
        Body::Text(text) | Body::Refusal(text) => Object::new().with("text", text.as_str()),
        Body::Reasoning { text, signature } => Object::new()
            .with("text", text.as_str())
            .with("thought", true)
            .maybe("thoughtSignature", signature.as_ref().map(|s| s.seal(Dialect::Gemini))),
        Body::Redacted(signature) => sealed(&signature.seal(Dialect::Gemini)),
        Body::ToolCall(call) => tool_call(call),
        Body::Media(media) => inline(media)?,
        Body::Foreign { dialect: Dialect::Gemini, value } => return Some(value.clone()),
        Body::ToolResult(_) | Body::Foreign { .. } => return None,
    };
    if from == Dialect::Gemini {
        object.extend(&part.extras);
    }
    Some(object.done())
}

/// `None`: it is not here, but somewhere.
pub(super) fn inline(media: &Media) -> Option<Object> {
    let Source::Base64 { media_type, data } = &media.source else { return None };
    Some(Object::new().with("inlineData", json!({"mimeType": media_type, "data": data})))
}

pub(super) fn sealed(signature: &str) -> Object {
    Object::new().with("text", "").with("thought", true).with("thoughtSignature", signature)
}

pub(super) fn tool_call(call: &ToolCall) -> Object {
    let inner = json!({"id": call.id, "name": call.name, "args": object_of(&call.arguments)});
    let signature = call.signature.as_ref().map(|signature| signature.seal(Dialect::Gemini));
    Object::new().with("functionCall", inner).maybe("thoughtSignature", signature)
}
