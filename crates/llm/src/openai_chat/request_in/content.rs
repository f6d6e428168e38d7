//! The content of a chat message: text, or a list of parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::Dialect;
use crate::json::{Fields, Malformed, Read, wrong};
use crate::meaning::{Body, CacheHint, Media, MediaKind, Part, Source};

pub(super) fn read(content: Option<Value>) -> Read<Vec<Part>> {
    match content {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(parts)) => {
            let parts = parts.into_iter().enumerate();
            parts.map(|(i, value)| part(value).map_err(|e| e.at("content", i))).collect()
        }
        Some(other) => Err(wrong("content", "text or a list of parts", &other)),
    }
}

/// OpenRouter, LiteLLM and others take Anthropic's `cache_control` on parts.
pub(crate) fn cache_hint(fields: &mut Fields) -> Option<CacheHint> {
    let control = fields.value("cache_control")?;
    Some(if control["ttl"].as_str() == Some("1h") { CacheHint::Hour } else { CacheHint::Minutes5 })
}

fn part(value: Value) -> Read<Part> {
    let mut fields = match value {
        // Some SDKs mix bare strings in.
        Value::String(text) => return Ok(Part::text(text)),
        value => Fields::of(value)?,
    };
    let kind = fields.need_text("type")?;
    let cache = cache_hint(&mut fields);
    let body = match kind.as_str() {
        "text" => Body::Text(fields.need_text("text")?),
        "refusal" => Body::Refusal(fields.need_text("refusal")?),
        "image_url" => Body::Media(linked(&mut fields, "image_url", MediaKind::Image)?),
        "video_url" => Body::Media(linked(&mut fields, "video_url", MediaKind::Video)?),
        "document_url" => Body::Media(linked(&mut fields, "document_url", MediaKind::Document)?),
        "input_audio" => Body::Media(audio(fields.need_object("input_audio")?).map_err(|e| e.under("input_audio"))?),
        "file" => Body::Media(file(fields.need_object("file")?).map_err(|e| e.under("file"))?),
        // Mistral's thoughts.
        "thinking" => {
            Body::Reasoning { text: flat_text(&fields.value("thinking").unwrap_or_default()), signature: None }
        }
        _ => {
            let mut value = fields.rest();
            value.insert("type".into(), kind.into());
            return Ok(Body::Foreign { dialect: Dialect::OpenAiChat, value: Value::Object(value) }.into());
        }
    };
    Ok(Part { body, cache, extras: fields.rest() })
}

/// `{"url": …}`, or (Mistral) the URL itself.
fn linked(fields: &mut Fields, name: &str, kind: MediaKind) -> Read<Media> {
    let (url, detail) = match fields.value(name) {
        Some(Value::String(url)) => (url, None),
        Some(value) => {
            let mut inner = Fields::of(value).map_err(|e| e.under(name))?;
            let url = inner.need_text("url").map_err(|e| e.under(name))?;
            (url, inner.text("detail").map_err(|e| e.under(name))?)
        }
        None => return Err(Malformed::new(name, "is required")),
    };
    Ok(Media { kind, source: source_of_url(url), name: None, detail })
}

fn audio(mut fields: Fields) -> Read<Media> {
    let data = fields.need_text("data")?;
    let media_type = format!("audio/{}", fields.need_text("format")?);
    Ok(Media { kind: MediaKind::Audio, source: Source::Base64 { media_type, data }, name: None, detail: None })
}

fn file(mut fields: Fields) -> Read<Media> {
    let name = fields.text("filename")?;
    let source = match (fields.text("file_data")?, fields.text("file_id")?) {
        (Some(data), _) => source_of_url(data),
        (None, Some(id)) => Source::File { dialect: Dialect::OpenAiChat, id },
        (None, None) => return Err(Malformed::new("file_data", "or file_id is required")),
    };
    let kind = match &source {
        Source::Base64 { media_type, .. } => MediaKind::of_type(media_type),
        _ => MediaKind::Document,
    };
    Ok(Media { kind, source, name, detail: None })
}

/// `data:image/png;base64,AAAA` holds its bytes, anything else is a place.
pub(crate) fn source_of_url(url: String) -> Source {
    let inline = url.strip_prefix("data:").and_then(|rest| {
        let (head, data) = rest.split_once(',')?;
        let media_type = head.split(';').next().unwrap_or(head).to_ascii_lowercase();
        let data = match head.ends_with(";base64") {
            true => data.to_owned(),
            false => STANDARD.encode(unescaped(data)),
        };
        let media_type = match media_type.as_str() {
            // What nobody registered, and everybody says.
            "image/jpg" => "image/jpeg".to_owned(),
            "" => seen_type(&data).to_owned(),
            _ => media_type,
        };
        Some(Source::Base64 { media_type, data })
    });
    inline.unwrap_or(Source::Url { url, media_type: None })
}

/// Of data that nobody named: by how it begins, in base64.
fn seen_type(data: &str) -> &'static str {
    const BEGINS: [(&str, &str); 5] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
    ];
    BEGINS.iter().find(|(begin, _)| data.starts_with(begin)).map_or("text/plain", |(_, kind)| kind)
}

/// `%3C` → `<`; what is no escape stays.
fn unescaped(data: &str) -> Vec<u8> {
    let bytes = data.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let code = (*byte == b'%').then(|| data.get(at + 1..at + 3)).flatten();
        match code.filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit())).map(|code| u8::from_str_radix(code, 16)) {
            Some(Ok(byte)) => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// Text, or a list of text parts.
pub(crate) fn flat_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}
