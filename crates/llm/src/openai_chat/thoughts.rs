//! Thoughts in the chat dialect: `reasoning_content` (DeepSeek, Qwen, GLM), `reasoning` and `reasoning_details`
//! (OpenRouter). The last one carries signatures of any maker, so it is what we write for those.
//!
//! A detail that a chat provider signed is kept as its envelope (everything but the text), to be sent back unchanged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::request_in::content::flat_text;
use crate::Dialect;
use crate::json::Fields;
use crate::meaning::{Body, Part};
use crate::signature::Signature;

/// Of a message in a request or an answer.
pub(crate) fn of_message(fields: &mut Fields) -> Vec<Part> {
    let details = fields.value("reasoning_details").unwrap_or_default();
    let plain = [fields.value("reasoning_content"), fields.value("reasoning")].into_iter().flatten().next();
    let plain = plain.map(|value| flat_text(&value)).filter(|text| !text.is_empty());
    let mut parts: Vec<Part> = details.as_array().into_iter().flatten().filter_map(of_detail).collect();
    if let (Some(text), true) = (plain, !parts.iter().any(|part| has_text(&part.body))) {
        parts.insert(0, Body::Reasoning { text, signature: None }.into());
    }
    parts
}

fn has_text(body: &Body) -> bool {
    matches!(body, Body::Reasoning { text, .. } if !text.is_empty())
}

fn of_detail(detail: &Value) -> Option<Part> {
    let body = match detail_text(detail) {
        Some(text) => Body::Reasoning { text: text.to_owned(), signature: detail_signature(detail) },
        None => Body::Redacted(detail_signature(detail)?),
    };
    Some(body.into())
}

/// The open text of a detail; encrypted ones have none.
pub(super) fn detail_text(detail: &Value) -> Option<&str> {
    detail["text"].as_str().or_else(|| detail["summary"].as_str())
}

/// The proof in a detail, whoever made it.
pub(super) fn detail_signature(detail: &Value) -> Option<Signature> {
    let value = [&detail["signature"], &detail["data"]].into_iter().find_map(crate::json::text_of)?;
    let signature = Signature::open(value, Dialect::OpenAiChat);
    if signature.maker != Dialect::OpenAiChat {
        return Some(signature);
    }
    let mut envelope = detail.clone();
    if let Value::Object(fields) = &mut envelope {
        fields.retain(|name, _| name != "text" && name != "summary");
    }
    Some(Signature::new(Dialect::OpenAiChat, STANDARD.encode(envelope.to_string())))
}

/// A detail to write: signed thoughts with their text, sealed ones without.
pub(super) fn to_detail(text: Option<&str>, signature: &Signature, index: usize) -> Value {
    if signature.maker == Dialect::OpenAiChat
        && let Some(mut detail) = envelope(&signature.value)
    {
        if let Some(text) = text {
            let name = if detail["type"] == "reasoning.summary" { "summary" } else { "text" };
            detail[name] = text.into();
        }
        return detail;
    }
    let sealed = signature.seal(Dialect::OpenAiChat);
    let format = match signature.maker {
        Dialect::Anthropic | Dialect::Bedrock => "anthropic-claude-v1",
        Dialect::Gemini => "google-gemini-v1",
        Dialect::OpenAiResponses => "openai-responses-v1",
        Dialect::OpenAiChat | Dialect::Cohere => "unknown",
    };
    match text {
        Some(text) => {
            json!({"type": "reasoning.text", "text": text, "signature": sealed, "format": format, "index": index})
        }
        None => json!({"type": "reasoning.encrypted", "data": sealed, "format": format, "index": index}),
    }
}

fn envelope(value: &str) -> Option<Value> {
    let bytes = STANDARD.decode(value).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}
