//! Bedrock's content blocks → [`Part`]s. A `cachePoint` is a block of its own there, a hint on the part before it here.

use serde_json::Value;

use crate::Dialect;
use crate::bedrock::media;
use crate::ids;
use crate::json::{self, Fields, Read, string_of};
use crate::meaning::{Body, CacheHint, MediaKind, Part, ToolCall, ToolResult};
use crate::signature::Signature;

pub(super) fn read(name: &str, blocks: Vec<Value>) -> Read<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for (i, value) in blocks.into_iter().enumerate() {
        if value["cachePoint"].is_object() {
            if let Some(last) = parts.last_mut() {
                last.cache = Some(cache_hint(&value["cachePoint"]));
            }
            continue;
        }
        parts.push(block(value).map_err(|e| e.at(name, i))?);
    }
    Ok(parts)
}

pub(super) fn cache_hint(point: &Value) -> CacheHint {
    if point["ttl"] == "1h" { CacheHint::Hour } else { CacheHint::Minutes5 }
}

fn block(value: Value) -> Read<Part> {
    // Calls of the provider's own tools, and what came of them, bear a type.
    if value["toolUse"]["type"].is_string() || value["toolResult"]["type"].is_string() {
        return Ok(Body::Foreign { dialect: Dialect::Bedrock, value }.into());
    }
    let mut fields = Fields::of(value)?;
    let body = if let Some(text) = fields.text("text")? {
        Body::Text(text)
    } else if let Some(call) = fields.object("toolUse")? {
        tool_use(call).map_err(|e| e.under("toolUse"))?
    } else if let Some(result) = fields.object("toolResult")? {
        tool_result(result).map_err(|e| e.under("toolResult"))?
    } else if fields.has("reasoningContent") {
        reasoning(&fields.value("reasoningContent").unwrap_or_default())
    } else {
        match media_kind(&fields) {
            Some((name, kind)) => {
                let inner = fields.need_object(name)?;
                Body::Media(media::read(inner, kind).map_err(|e| e.under(name))?)
            }
            None => {
                let value = Value::Object(fields.rest());
                return Ok(Body::Foreign { dialect: Dialect::Bedrock, value }.into());
            }
        }
    };
    Ok(Part { body, cache: None, extras: fields.rest() })
}

fn media_kind(fields: &Fields) -> Option<(&'static str, MediaKind)> {
    let kinds = [
        ("image", MediaKind::Image),
        ("document", MediaKind::Document),
        ("video", MediaKind::Video),
        ("audio", MediaKind::Audio),
    ];
    kinds.into_iter().find(|(name, _)| fields.has(name))
}

fn tool_use(mut fields: Fields) -> Read<Body> {
    let input = fields.value("input").unwrap_or_else(|| Value::Object(Default::default()));
    let id = fields.need_text("toolUseId")?;
    let mut call = ToolCall { id, name: fields.need_text("name")?, arguments: json::text(&input), signature: None };
    ids::open_call(&mut call);
    Ok(Body::ToolCall(call))
}

fn tool_result(mut fields: Fields) -> Read<Body> {
    let id = ids::plain(fields.need_text("toolUseId")?);
    let is_error = fields.text("status")?.as_deref() == Some("error");
    let mut content = Vec::new();
    for (i, value) in fields.list("content")?.unwrap_or_default().into_iter().enumerate() {
        let part = match value.get("json") {
            Some(value) => Part::text(json::text(value)),
            None => block(value).map_err(|e| e.at("content", i))?,
        };
        content.push(part);
    }
    Ok(Body::ToolResult(ToolResult { id, name: None, content, is_error }))
}

fn reasoning(value: &Value) -> Body {
    if let Some(data) = value["redactedContent"].as_str() {
        return Body::Redacted(Signature::open(data, Dialect::Bedrock));
    }
    let inner = &value["reasoningText"];
    let signature = crate::json::text_of(&inner["signature"]).map(|value| Signature::open(value, Dialect::Bedrock));
    Body::Reasoning { text: string_of(&inner["text"]), signature }
}
