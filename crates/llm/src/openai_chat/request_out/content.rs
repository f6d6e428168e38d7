//! Parts → the content of a chat message: one text as a string, anything else as a list.

use serde_json::{Value, json};

use crate::Dialect;
use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Body, CacheHint, Media, MediaKind, Part, Source};

pub(crate) fn write(parts: &[&Part], from: Dialect, path: &dyn Fn(usize) -> String, losses: &mut Losses) -> Value {
    if let [Part { body: Body::Text(text), cache: None, .. }] = parts {
        return Value::String(text.clone());
    }
    let mut list = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let Some(mut object) = self::part(part, i, path, losses) else { continue };
        if from == Dialect::OpenAiChat {
            object.put_some("cache_control", part.cache.map(cache_control));
            object.extend(&part.extras);
        } else {
            if part.cache.is_some() {
                losses.hint(format!("{}.cache_control", path(i)), "the provider caches by itself");
            }
            losses.extras(&path(i), &part.extras);
        }
        list.push(object.done());
    }
    match list.as_slice() {
        // Nothing but text is left of it.
        [one] if one["type"] == "text" && one.as_object().is_some_and(|fields| fields.len() == 2) => {
            one["text"].clone()
        }
        _ => Value::Array(list),
    }
}

fn part(part: &Part, i: usize, path: &dyn Fn(usize) -> String, losses: &mut Losses) -> Option<Object> {
    let object = |kind: &str| Object::new().with("type", kind);
    Some(match &part.body {
        Body::Text(text) => object("text").with("text", text.as_str()),
        Body::Refusal(text) => object("text").with("text", text.as_str()),
        Body::Media(media) => match self::media(media) {
            Ok(object) => object,
            Err(reason) => {
                losses.meaning(path(i), reason);
                return None;
            }
        },
        Body::Foreign { dialect: Dialect::OpenAiChat, value: Value::Object(fields) } => {
            let mut object = Object::new();
            object.extend(fields);
            object
        }
        Body::Reasoning { .. } | Body::Redacted(_) => {
            losses.hint(path(i), "the provider takes no thoughts back");
            return None;
        }
        Body::ToolCall(_) | Body::ToolResult(_) | Body::Foreign { .. } => {
            losses.meaning(path(i), "only the caller's dialect knows this kind of block here");
            return None;
        }
    })
}

fn media(media: &Media) -> Result<Object, &'static str> {
    let linked = |kind: &'static str, url: String| {
        let inner = Object::new().with("url", url).maybe("detail", media.detail.as_deref()).done();
        Object::new().with("type", kind).with(kind, inner)
    };
    let file = |name: &'static str, value: String| {
        // OpenAI refuses inline files without a name.
        let unnamed = (name == "file_data").then_some("document.pdf");
        let inner = Object::new().maybe("filename", media.name.as_deref().or(unnamed)).with(name, value).done();
        Object::new().with("type", "file").with("file", inner)
    };
    match (&media.source, media.kind) {
        (Source::Base64 { media_type, data }, MediaKind::Audio) => {
            let format = media_type.rsplit('/').next().unwrap_or("wav");
            let format = if format == "mpeg" { "mp3" } else { format.trim_start_matches("x-") };
            Ok(Object::new().with("type", "input_audio").with("input_audio", json!({"data": data, "format": format})))
        }
        (Source::Base64 { media_type, data }, kind) => {
            let url = data_url(media_type, data);
            Ok(match kind {
                MediaKind::Image => linked("image_url", url),
                MediaKind::Video => linked("video_url", url),
                _ => file("file_data", url),
            })
        }
        (Source::Url { url, .. }, MediaKind::Image) => Ok(linked("image_url", url.clone())),
        (Source::Url { url, .. }, MediaKind::Video) => Ok(linked("video_url", url.clone())),
        (Source::Url { .. }, _) => Err("files must be sent along, not linked"),
        // A text file is text.
        (Source::Plain { text, .. }, _) => Ok(Object::new().with("type", "text").with("text", text.as_str())),
        (Source::File { dialect: Dialect::OpenAiChat | Dialect::OpenAiResponses, id }, _) => {
            Ok(file("file_id", id.clone()))
        }
        (Source::File { .. }, _) => Err("the file is stored at another provider"),
    }
}

pub(crate) fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

fn cache_control(hint: CacheHint) -> Value {
    match hint {
        CacheHint::Minutes5 => json!({"type": "ephemeral"}),
        CacheHint::Hour => json!({"type": "ephemeral", "ttl": "1h"}),
    }
}
