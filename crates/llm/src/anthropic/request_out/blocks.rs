//! [`Part`]s → Anthropic's content blocks.

use serde_json::{Value, json};

use crate::Dialect;
use crate::ids;
use crate::json::{Object, object_of};
use crate::lost::Losses;
use crate::meaning::{Body, CacheHint, Call, Media, MediaKind, Part, Source, ToolCall, ToolResult};
use crate::signature::Signature;

/// `None`: there is nothing that Anthropic would take.
pub(super) fn write(part: &Part, call: &Call, path: &str, losses: &mut Losses) -> Option<Value> {
    let mut object = match &part.body {
        Body::Text(text) | Body::Refusal(text) => {
            // "text content blocks must contain non-whitespace text"
            Object::new().with("type", "text").with("text", Some(text).filter(|text| !text.trim().is_empty())?.as_str())
        }
        Body::Media(media) => match self::media(media) {
            Ok(object) => object,
            Err(reason) => {
                losses.meaning(path, reason);
                return None;
            }
        },
        Body::ToolCall(call) => tool_use(call),
        Body::ToolResult(result) => tool_result(result, call, path, losses),
        Body::Reasoning { text, signature } => thinking(text, signature.as_ref(), path, losses)?,
        Body::Redacted(signature) => match signature.replayable(Dialect::Anthropic) {
            Some(data) => Object::new().with("type", "redacted_thinking").with("data", data),
            None => {
                losses.hint(path, "only the model that thought it can read it");
                return None;
            }
        },
        Body::Foreign { dialect: Dialect::Anthropic, value } => return Some(value.clone()),
        Body::Foreign { .. } => {
            losses.meaning(path, "only the caller's dialect knows this kind of block");
            return None;
        }
    };
    if !matches!(part.body, Body::Reasoning { .. } | Body::Redacted(_)) {
        object.put_some("cache_control", part.cache.map(cache_control));
    }
    if call.dialect == Dialect::Anthropic {
        object.extend(&part.extras);
    } else {
        losses.extras(path, &part.extras);
    }
    Some(object.done())
}

pub(super) fn cache_control(hint: CacheHint) -> Value {
    match hint {
        CacheHint::Minutes5 => json!({"type": "ephemeral"}),
        CacheHint::Hour => json!({"type": "ephemeral", "ttl": "1h"}),
    }
}

fn tool_use(call: &ToolCall) -> Object {
    Object::new()
        .with("type", "tool_use")
        .with("id", safe_id(&call.id))
        .with("name", call.name.as_str())
        .with("input", object_of(&call.arguments))
}

/// Anthropic allows `[a-zA-Z0-9_-]` in ids.
fn safe_id(id: &str) -> String {
    let id = ids::plain(id.to_owned());
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect()
}

fn tool_result(result: &ToolResult, call: &Call, path: &str, losses: &mut Losses) -> Object {
    let mut blocks = Vec::new();
    for (i, part) in result.content.iter().enumerate() {
        blocks.extend(write(part, call, &format!("{path}.content[{i}]"), losses));
    }
    let plain = blocks.len() == 1 && result.content.len() == 1 && blocks[0].as_object().is_some_and(|b| b.len() == 2);
    let content = match blocks.as_slice() {
        [] => None,
        [one] if plain && one["type"] == "text" => Some(one["text"].clone()),
        _ => Some(Value::Array(blocks)),
    };
    Object::new()
        .with("type", "tool_result")
        .with("tool_use_id", safe_id(&result.id))
        .maybe("content", content)
        .maybe("is_error", result.is_error.then_some(true))
}

fn thinking(text: &str, signature: Option<&Signature>, path: &str, losses: &mut Losses) -> Option<Object> {
    match signature.and_then(|signature| signature.replayable_thought(Dialect::Anthropic)) {
        Some(signature) => {
            Some(Object::new().with("type", "thinking").with("thinking", text).with("signature", signature))
        }
        None => {
            losses.hint(path, "thoughts go back only with the provider's own signature");
            None
        }
    }
}

fn media(media: &Media) -> Result<Object, &'static str> {
    let kind = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        MediaKind::Audio => return Err("the provider takes no audio"),
        MediaKind::Video => return Err("the provider takes no video"),
    };
    let source = match &media.source {
        Source::Base64 { media_type, data } => json!({"type": "base64", "media_type": media_type, "data": data}),
        Source::Url { url, .. } => json!({"type": "url", "url": url}),
        Source::Plain { text, .. } => json!({"type": "text", "media_type": "text/plain", "data": text}),
        Source::File { dialect: Dialect::Anthropic, id } => json!({"type": "file", "file_id": id}),
        Source::File { .. } => return Err("the file is stored at another provider"),
    };
    let title = media.name.as_deref().filter(|_| media.kind == MediaKind::Document);
    Ok(Object::new().with("type", kind).with("source", source).maybe("title", title))
}
