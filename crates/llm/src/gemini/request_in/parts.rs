//! Gemini's parts → [`Part`]s.

use serde_json::Value;

use crate::Dialect;
use crate::ids;
use crate::json::{self, Fields, Read};
use crate::meaning::{Body, Media, MediaKind, Part, Source, ToolCall, ToolResult};
use crate::signature::Signature;

pub(super) fn read(value: Value, origin: usize, i: usize) -> Read<Part> {
    let mut fields = Fields::of(value)?.snake_too();
    let signature = fields.text("thoughtSignature")?;
    let signed = signature.as_deref().map(|value| Signature::open(value, Dialect::Gemini));
    let thought = fields.flag("thought")?.unwrap_or(false);
    let body = if fields.has("text") {
        let text = fields.text("text")?.unwrap_or_default();
        match (thought, text.is_empty(), signed) {
            // A sealed thought of another maker, as our own answers carry it.
            (true, true, Some(signature)) if signature.maker != Dialect::Gemini => Body::Redacted(signature),
            (true, _, signature) => Body::Reasoning { text, signature },
            (false, ..) => {
                if let Some(signature) = signature {
                    fields.put_back("thoughtSignature", signature.into());
                }
                Body::Text(text)
            }
        }
    } else if let Some(call) = fields.object("functionCall")? {
        let id = format!("call_{origin}_{i}");
        Body::ToolCall(tool_call(call.snake_too(), id, signed).map_err(|e| e.under("functionCall"))?)
    } else if let Some(result) = fields.object("functionResponse")? {
        Body::ToolResult(tool_result(result.snake_too(), origin).map_err(|e| e.under("functionResponse"))?)
    } else if let Some(data) = fields.object("inlineData")? {
        Body::Media(inline(data.snake_too()).map_err(|e| e.under("inlineData"))?)
    } else if let Some(data) = fields.object("fileData")? {
        Body::Media(file(data.snake_too()).map_err(|e| e.under("fileData"))?)
    } else {
        if let Some(signature) = signature {
            fields.put_back("thoughtSignature", signature.into());
        }
        let value = Value::Object(fields.rest());
        return Ok(Body::Foreign { dialect: Dialect::Gemini, value }.into());
    };
    Ok(Part { body, cache: None, extras: fields.rest() })
}

fn tool_call(mut fields: Fields, synthetic: String, signature: Option<Signature>) -> Read<ToolCall> {
    let id = fields.text("id")?.filter(|id| !id.is_empty()).unwrap_or(synthetic);
    let args = fields.object("args")?.unwrap_or_default();
    let name = fields.need_text("name")?;
    let mut call = ToolCall { id, name, arguments: json::text(&Value::Object(args.whole())), signature };
    ids::open_call(&mut call);
    Ok(call)
}

/// `{"output": …}` and `{"error": …}` are what Google's SDKs wrap results in; `result` is what people write.
fn tool_result(mut fields: Fields, origin: usize) -> Read<ToolResult> {
    let name = fields.need_text("name")?;
    let id = ids::plain(fields.text("id")?.unwrap_or_default());
    let response = fields.value("response").unwrap_or_default();
    let mut is_error = false;
    let text = match single(&response) {
        Some(("output" | "result", value)) => flat(value),
        Some(("error", value)) => {
            is_error = true;
            flat(value)
        }
        _ => json::text(&response),
    };
    let mut content = vec![Part::text(text)];
    for (i, part) in fields.list("parts")?.unwrap_or_default().into_iter().enumerate() {
        content.push(read(part, origin, i).map_err(|e| e.at("parts", i))?);
    }
    Ok(ToolResult { id, name: Some(name), content, is_error })
}

fn single(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(name, value)| (name.as_str(), value))
}

fn flat(value: &Value) -> String {
    value.as_str().map_or_else(|| json::text(value), str::to_owned)
}

fn inline(mut fields: Fields) -> Read<Media> {
    let media_type = fields.need_text("mimeType")?;
    let kind = MediaKind::of_type(&media_type);
    let source = Source::Base64 { media_type, data: standard(fields.need_text("data")?) };
    Ok(Media { kind, source, name: fields.text("displayName")?, detail: None })
}

/// Google takes both alphabets of base64, the others only the standard one.
fn standard(data: String) -> String {
    if data.contains(['-', '_']) { data.replace('-', "+").replace('_', "/") } else { data }
}

fn file(mut fields: Fields) -> Read<Media> {
    let media_type = fields.text("mimeType")?;
    let url = fields.need_text("fileUri")?;
    let kind = media_type.as_deref().map_or(MediaKind::Document, MediaKind::of_type);
    let stored = url.starts_with("gs://") || url.contains("generativelanguage.googleapis.com");
    let source =
        if stored { Source::File { dialect: Dialect::Gemini, id: url } } else { Source::Url { url, media_type } };
    Ok(Media { kind, source, name: fields.text("displayName")?, detail: None })
}
