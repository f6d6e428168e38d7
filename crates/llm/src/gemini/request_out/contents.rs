//! [`Message`]s → Gemini's contents: neighbours of one role become one content, results name their function again.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Dialect;
use crate::ids;
use crate::json::{self, Object, object_of};
use crate::lost::Losses;
use crate::meaning::{Body, Call, Media, MediaKind, Message, Part, Role, Source, ToolCall, ToolResult};
use crate::target::Target;

/// Google's documented stand-in for calls that other models made.
const UNSIGNED: &str = "skip_thought_signature_validator";

pub(super) fn system(call: &Call, losses: &mut Losses) -> Option<Value> {
    let mut parts = Vec::new();
    for (i, part) in call.system.iter().enumerate() {
        let path = format!("system[{i}]");
        hints(part, call, &path, losses);
        match part.as_text() {
            Some(text) => parts.push(json!({"text": text})),
            None => losses.meaning(path, "the system prompt is text only"),
        }
    }
    for message in call.messages.iter().filter(|message| message.role == Role::System) {
        losses.hint(losses.place(message.origin, None), "moved to the system prompt at the beginning");
        for (i, part) in message.parts.iter().enumerate() {
            match part.as_text() {
                Some(text) => parts.push(json!({"text": text})),
                None => losses.meaning(losses.place(message.origin, Some(i)), "the system prompt is text only"),
            }
        }
    }
    (!parts.is_empty()).then(|| json!({"parts": parts}))
}

pub(super) fn write(call: &Call, target: &Target, losses: &mut Losses) -> Value {
    let names = names(call);
    let mut out: Vec<(Role, Vec<Value>)> = Vec::new();
    for message in call.messages.iter().filter(|message| message.role != Role::System) {
        let mut writer = Writer { call, target, names: &names, losses, signed: false };
        let parts = writer.message(message);
        match out.last_mut() {
            Some((role, list)) if *role == message.role => list.extend(parts),
            _ if parts.is_empty() => {}
            _ => out.push((message.role, parts)),
        }
    }
    let role = |role| if role == Role::Assistant { "model" } else { "user" };
    out.into_iter().map(|(r, parts)| json!({"role": role(r), "parts": parts})).collect()
}

/// Which function each call named.
fn names(call: &Call) -> HashMap<&str, &str> {
    let parts = call.messages.iter().flat_map(|message| &message.parts);
    parts
        .filter_map(|part| match &part.body {
            Body::ToolCall(call) => Some((call.id.as_str(), call.name.as_str())),
            _ => None,
        })
        .collect()
}

struct Writer<'a> {
    call: &'a Call,
    target: &'a Target,
    names: &'a HashMap<&'a str, &'a str>,
    losses: &'a mut Losses,
    /// Only the first of parallel calls is signed.
    signed: bool,
}

impl Writer<'_> {
    fn message(&mut self, message: &Message) -> Vec<Value> {
        if self.call.dialect != Dialect::Gemini {
            self.losses.message(message, false);
        }
        let mut parts = Vec::new();
        for (i, part) in message.parts.iter().enumerate() {
            let path = self.losses.place(message.origin, Some(i));
            parts.extend(self.part(part, &path));
            // Older models take no media inside a result: it follows.
            if let (Body::ToolResult(result), false) = (&part.body, self.target.levels) {
                parts.extend(self.shown(result, &path));
            }
        }
        parts
    }

    /// What a result holds besides text.
    fn shown(&mut self, result: &ToolResult, path: &str) -> Vec<Value> {
        let media = result.content.iter().enumerate().filter(|(_, part)| part.as_plain().is_none());
        media.filter_map(|(i, part)| self.part(part, &format!("{path}.content[{i}]"))).collect()
    }

    fn part(&mut self, part: &Part, path: &str) -> Option<Value> {
        hints(part, self.call, path, self.losses);
        let mut object = match &part.body {
            Body::Text(text) | Body::Refusal(text) => {
                let signed = part.extras.contains_key("thoughtSignature");
                Object::new().with("text", Some(text).filter(|text| !text.is_empty() || signed)?.as_str())
            }
            Body::Media(media) => match self::media(media) {
                Ok(object) => object,
                Err(reason) => {
                    self.losses.meaning(path, reason);
                    return None;
                }
            },
            Body::ToolCall(call) => self.tool_call(call),
            Body::ToolResult(result) => self.tool_result(result, path),
            Body::Reasoning { text, signature } => {
                let signature = signature.as_ref().and_then(|signature| signature.replayable(Dialect::Gemini));
                let Some(signature) = signature.or((self.call.dialect == Dialect::Gemini).then_some("")) else {
                    self.losses.hint(path, "thoughts go back only with the provider's own signature");
                    return None;
                };
                let signature = Some(signature).filter(|signature| !signature.is_empty());
                Object::new().with("text", text.as_str()).with("thought", true).maybe("thoughtSignature", signature)
            }
            Body::Redacted(_) => {
                self.losses.hint(path, "only the model that thought it can read it");
                return None;
            }
            Body::Foreign { dialect: Dialect::Gemini, value } => return Some(value.clone()),
            Body::Foreign { .. } => {
                self.losses.meaning(path, "only the caller's dialect knows this kind of block");
                return None;
            }
        };
        if self.call.dialect == Dialect::Gemini {
            object.extend(&part.extras);
        } else {
            self.losses.extras(path, &part.extras);
        }
        Some(object.done())
    }

    fn tool_call(&mut self, call: &ToolCall) -> Object {
        let own = call.signature.as_ref().and_then(|signature| signature.replayable(Dialect::Gemini));
        let stand_in = (self.target.levels && !self.signed).then_some(UNSIGNED);
        self.signed = true;
        let call = json!({
            "id": ids::plain(call.id.clone()),
            "name": call.name,
            "args": object_of(&call.arguments),
        });
        Object::new().with("functionCall", call).maybe("thoughtSignature", own.or(stand_in))
    }

    fn tool_result(&mut self, result: &ToolResult, path: &str) -> Object {
        let named = self.names.get(result.id.as_str()).copied().or(result.name.as_deref());
        let shown = if self.target.levels { self.shown(result, path) } else { Vec::new() };
        let response = Object::new()
            .with("id", result.id.as_str())
            .with("name", named.unwrap_or("unknown"))
            .with("response", response(&result.texts().join("\n"), result.is_error))
            .maybe("parts", (!shown.is_empty()).then_some(shown));
        Object::new().with("functionResponse", response.done())
    }
}

/// Gemini wants an object.
fn response(text: &str, is_error: bool) -> Value {
    match json::read_json(text.as_bytes()) {
        Ok(object @ Value::Object(_)) if !is_error => object,
        _ if is_error => json!({"error": text}),
        _ => json!({"output": text}),
    }
}

fn hints(part: &Part, call: &Call, path: &str, losses: &mut Losses) {
    if part.cache.is_some() && call.dialect != Dialect::Gemini {
        losses.hint(format!("{path}.cache_control"), "the provider caches by itself");
    }
}

fn media(media: &Media) -> Result<Object, &'static str> {
    match &media.source {
        Source::Base64 { media_type, data } => {
            Ok(Object::new().with("inlineData", json!({"mimeType": media_type, "data": data})))
        }
        Source::Url { url, media_type } => {
            let media_type = media_type.as_deref().unwrap_or_else(|| guess(url, media.kind));
            Ok(Object::new().with("fileData", json!({"mimeType": media_type, "fileUri": url})))
        }
        Source::Plain { text, .. } => Ok(Object::new().with("text", text.as_str())),
        Source::File { dialect: Dialect::Gemini, id } => {
            Ok(Object::new().with("fileData", json!({"mimeType": guess(id, media.kind), "fileUri": id})))
        }
        Source::File { .. } => Err("the file is stored at another provider"),
    }
}

/// From the end of a URL; Google wants a type.
fn guess(url: &str, kind: MediaKind) -> &'static str {
    let path = url.split(['?', '#']).next().unwrap_or(url).to_ascii_lowercase();
    const TYPES: [(&str, &str); 14] = [
        (".png", "image/png"),
        (".jpg", "image/jpeg"),
        (".jpeg", "image/jpeg"),
        (".gif", "image/gif"),
        (".webp", "image/webp"),
        (".pdf", "application/pdf"),
        (".txt", "text/plain"),
        (".md", "text/markdown"),
        (".csv", "text/csv"),
        (".html", "text/html"),
        (".mp3", "audio/mpeg"),
        (".wav", "audio/wav"),
        (".mp4", "video/mp4"),
        (".webm", "video/webm"),
    ];
    let known = TYPES.iter().find(|(end, _)| path.ends_with(end)).map(|(_, media_type)| *media_type);
    known.unwrap_or(match kind {
        MediaKind::Image => "image/jpeg",
        MediaKind::Audio => "audio/mpeg",
        MediaKind::Video => "video/mp4",
        MediaKind::Document => "application/pdf",
    })
}
