//! Anthropic's content blocks → [`Part`]s. An Anthropic tool result is read here; who writes it as something else is told
//! by the folder of that dialect.

use serde_json::Value;

use crate::Dialect;
use crate::ids;
use crate::json::{self, Fields, Malformed, Read, wrong};
use crate::meaning::{Body, CacheHint, Media, MediaKind, Part, Source, ToolCall, ToolResult};
use crate::signature::Signature;

pub(super) fn read(name: &str, content: Option<Value>) -> Read<Vec<Part>> {
    match content {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(blocks)) => {
            blocks.into_iter().enumerate().map(|(i, value)| block(value).map_err(|e| e.at(name, i))).collect()
        }
        Some(other) => Err(wrong(name, "text or a list of blocks", &other)),
    }
}

pub(super) fn cache_hint(fields: &mut Fields) -> Option<CacheHint> {
    let control = fields.value("cache_control")?;
    Some(if control["ttl"].as_str() == Some("1h") { CacheHint::Hour } else { CacheHint::Minutes5 })
}

fn block(value: Value) -> Read<Part> {
    let kind = value["type"].as_str().ok_or_else(|| Malformed::new("type", "is required"))?.to_owned();
    let known = ["text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking"];
    if !known.contains(&kind.as_str()) {
        return Ok(Body::Foreign { dialect: Dialect::Anthropic, value }.into());
    }
    let mut fields = Fields::of(value)?;
    fields.value("type");
    let cache = cache_hint(&mut fields);
    let body = match kind.as_str() {
        "text" => Body::Text(fields.need_text("text")?),
        "image" => Body::Media(media(&mut fields, MediaKind::Image)?),
        "document" => Body::Media(media(&mut fields, MediaKind::Document)?),
        "tool_use" => tool_use(&mut fields)?,
        "tool_result" => tool_result(&mut fields)?,
        "thinking" => thinking(&mut fields)?,
        _ => Body::Redacted(Signature::open(&fields.need_text("data")?, Dialect::Anthropic)),
    };
    Ok(Part { body, cache, extras: fields.rest() })
}

fn media(fields: &mut Fields, kind: MediaKind) -> Read<Media> {
    let mut inner = fields.need_object("source")?;
    let source = source(&mut inner, kind).map_err(|e| e.under("source"))?;
    Ok(Media { kind, source, name: fields.text("title")?, detail: None })
}

fn source(fields: &mut Fields, kind: MediaKind) -> Read<Source> {
    match fields.need_text("type")?.as_str() {
        "base64" => Ok(Source::Base64 { media_type: fields.need_text("media_type")?, data: fields.need_text("data")? }),
        "url" => {
            let media_type = (kind == MediaKind::Document).then(|| "application/pdf".to_owned());
            Ok(Source::Url { url: fields.need_text("url")?, media_type })
        }
        "text" => {
            let media_type = fields.text("media_type")?.unwrap_or_else(|| "text/plain".to_owned());
            Ok(Source::Plain { media_type, text: fields.need_text("data")? })
        }
        "file" => Ok(Source::File { dialect: Dialect::Anthropic, id: fields.need_text("file_id")? }),
        "content" => {
            let parts = read("content", fields.value("content"))?;
            let text: Vec<&str> = parts.iter().filter_map(Part::as_text).collect();
            Ok(Source::Plain { media_type: "text/plain".to_owned(), text: text.join("\n") })
        }
        _ => Err(Malformed::new("type", "is none of base64, url, text, file, content")),
    }
}

fn tool_use(fields: &mut Fields) -> Read<Body> {
    let input = fields.object("input")?.unwrap_or_default();
    let mut call = ToolCall {
        id: fields.need_text("id")?,
        name: fields.need_text("name")?,
        arguments: json::text(&Value::Object(input.whole())),
        signature: None,
    };
    ids::open_call(&mut call);
    Ok(Body::ToolCall(call))
}

fn tool_result(fields: &mut Fields) -> Read<Body> {
    Ok(Body::ToolResult(ToolResult {
        id: ids::plain(fields.need_text("tool_use_id")?),
        name: None,
        content: read("content", fields.value("content"))?,
        is_error: fields.flag("is_error")?.unwrap_or(false),
    }))
}

fn thinking(fields: &mut Fields) -> Read<Body> {
    let signature = fields.text("signature")?.filter(|signature| !signature.is_empty());
    let signature = signature.map(|signature| Signature::open(&signature, Dialect::Anthropic));
    Ok(Body::Reasoning { text: fields.need_text("thinking")?, signature })
}
