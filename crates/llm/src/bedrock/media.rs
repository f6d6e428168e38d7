//! Bedrock's images, documents and videos: a format word and bytes. It fetches nothing but from S3.

use serde_json::{Value, json};

use crate::Dialect;
use crate::json::{Fields, Malformed, Object, Read};
use crate::meaning::{Media, MediaKind, Source};

const FORMATS: [(&str, &str, MediaKind); 21] = [
    ("png", "image/png", MediaKind::Image),
    ("jpeg", "image/jpeg", MediaKind::Image),
    ("gif", "image/gif", MediaKind::Image),
    ("webp", "image/webp", MediaKind::Image),
    ("pdf", "application/pdf", MediaKind::Document),
    ("txt", "text/plain", MediaKind::Document),
    ("md", "text/markdown", MediaKind::Document),
    ("html", "text/html", MediaKind::Document),
    ("csv", "text/csv", MediaKind::Document),
    ("doc", "application/msword", MediaKind::Document),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", MediaKind::Document),
    ("xls", "application/vnd.ms-excel", MediaKind::Document),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", MediaKind::Document),
    ("mp4", "video/mp4", MediaKind::Video),
    ("mov", "video/quicktime", MediaKind::Video),
    ("webm", "video/webm", MediaKind::Video),
    ("mkv", "video/x-matroska", MediaKind::Video),
    ("mp3", "audio/mpeg", MediaKind::Audio),
    ("mp3", "audio/mp3", MediaKind::Audio),
    ("wav", "audio/wav", MediaKind::Audio),
    ("jpeg", "image/jpg", MediaKind::Image),
];

pub(super) fn read(mut fields: Fields, kind: MediaKind) -> Read<Media> {
    let format = fields.text("format")?.unwrap_or_else(|| "txt".to_owned());
    let known = FORMATS.iter().find(|(word, _, of)| *word == format && *of == kind);
    let media_type =
        known.map_or_else(|| format!("application/{format}"), |(_, media_type, _)| (*media_type).to_owned());
    let mut source = fields.need_object("source")?;
    let source = if let Some(data) = source.text("bytes").map_err(|e| e.under("source"))? {
        Source::Base64 { media_type, data }
    } else if let Some(text) = source.text("text").map_err(|e| e.under("source"))? {
        Source::Plain { media_type, text }
    } else if let Some(mut place) = source.object("s3Location").map_err(|e| e.under("source"))? {
        let id = place.need_text("uri").map_err(|e| e.under("source.s3Location"))?;
        Source::File { dialect: Dialect::Bedrock, id: format!("{format}:{id}") }
    } else {
        return Err(Malformed::new("source", "holds none of bytes, text, s3Location"));
    };
    Ok(Media { kind, source, name: fields.text("name")?, detail: None })
}

/// `n`: documents must have names of their own.
pub(super) fn write(media: &Media, n: usize) -> Result<Value, &'static str> {
    let (format, source) = match &media.source {
        Source::Base64 { media_type, data } => {
            let bare = media_type.split(';').next().unwrap_or(media_type);
            let known = FORMATS.iter().find(|(_, known, _)| *known == bare);
            (known.ok_or("the provider does not take this type of file")?.0.to_owned(), json!({"bytes": data}))
        }
        Source::Plain { text, .. } => ("txt".to_owned(), json!({"text": text})),
        Source::File { dialect: Dialect::Bedrock, id } => {
            let (format, uri) = id.split_once(':').unwrap_or(("txt", id));
            (format.to_owned(), json!({"s3Location": {"uri": uri}}))
        }
        Source::Url { .. } => return Err("the provider fetches nothing: send the bytes"),
        Source::File { .. } => return Err("the file is stored at another provider"),
    };
    let object = Object::new().with("format", format);
    Ok(match media.kind {
        MediaKind::Image => json!({"image": object.with("source", source).done()}),
        MediaKind::Video => json!({"video": object.with("source", source).done()}),
        MediaKind::Audio => json!({"audio": object.with("source", source).done()}),
        MediaKind::Document => {
            let name = media.name.as_deref().map(safe).filter(|name| !name.is_empty());
            let name = name.unwrap_or_else(|| format!("document {}", n + 1));
            json!({"document": object.with("name", name).with("source", source).done()})
        }
    })
}

/// Letters, digits, single blanks, hyphens, brackets: nothing else may stand in a document's name.
fn safe(name: &str) -> String {
    let kept = |c: char| c.is_ascii_alphanumeric() || "-()[] ".contains(c);
    let name: String = name.chars().map(|c| if kept(c) { c } else { '-' }).take(200).collect();
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}
