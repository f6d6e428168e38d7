//! Input items → [`Message`]s. What one turn of the model said is several items; here it is one message, and so are the
//! outputs that answer it.

use serde_json::Value;

use crate::Dialect;
use crate::ids;
use crate::json::{Fields, Malformed, Read, wrong};
use crate::meaning::{Body, Call, Media, MediaKind, Message, Part, Role, Source, ToolCall, ToolResult};
use crate::openai_chat::request_in::content::source_of_url;
use crate::openai_responses::thoughts;

/// Text; a stored prompt's answer echoes it as items.
pub(super) fn instructions(value: Value, call: &mut Call) -> Read<()> {
    match value {
        Value::String(text) => call.system.push(Part::text(text)),
        list @ Value::Array(_) => call.system.extend(content(Some(list)).map_err(|e| e.under("instructions"))?),
        other => return Err(wrong("instructions", "a string", &other)),
    }
    Ok(())
}

pub(super) fn read(input: Option<Value>, call: &mut Call) -> Read<()> {
    match input {
        Some(Value::String(text)) => {
            let mut message = Message::new(Role::User, 0);
            message.parts.push(Part::text(text));
            call.messages.push(message);
        }
        Some(Value::Array(items)) => {
            for (i, value) in items.into_iter().enumerate() {
                item(value, i, call).map_err(|e| e.at("input", i))?;
            }
        }
        // A stored prompt may bring its own.
        None => {}
        Some(other) => return Err(wrong("input", "text or a list of items", &other)),
    }
    Ok(())
}

fn item(value: Value, i: usize, call: &mut Call) -> Read<()> {
    let kind = value["type"].as_str().unwrap_or("message").to_owned();
    match kind.as_str() {
        "message" => message(value, i, call)?,
        "function_call" => {
            let part = function_call(value)?;
            add(Role::Assistant, part, i, call);
        }
        "function_call_output" => {
            let part = output(value)?;
            add_result(part, i, call);
        }
        "reasoning" => {
            if let Some(part) = thoughts::read(&value) {
                add(Role::Assistant, part, i, call);
            }
        }
        _ => {
            let part = Body::Foreign { dialect: Dialect::OpenAiResponses, value }.into();
            let role =
                if kind.ends_with("_output") || kind.ends_with("_response") { Role::User } else { Role::Assistant };
            add(role, part, i, call);
        }
    }
    Ok(())
}

/// To the turn that is going on, or as a new one.
fn add(role: Role, part: Part, i: usize, call: &mut Call) {
    match call.messages.last_mut() {
        Some(message) if message.role == role && role == Role::Assistant => message.parts.push(part),
        _ => {
            let mut message = Message::new(role, i);
            message.parts.push(part);
            call.messages.push(message);
        }
    }
}

fn add_result(part: Part, i: usize, call: &mut Call) {
    let is_result = |part: &Part| matches!(part.body, Body::ToolResult(_));
    match call.messages.last_mut() {
        Some(message) if message.role == Role::User && message.parts.iter().all(is_result) => message.parts.push(part),
        _ => add(Role::User, part, i, call),
    }
}

fn message(value: Value, i: usize, call: &mut Call) -> Read<()> {
    let mut fields = Fields::of(value)?;
    fields.value("type");
    let role = match fields.need_text("role")?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => return Err(Malformed::new("role", "is none of user, assistant, system, developer")),
    };
    let parts = content(fields.value("content"))?;
    if role == Role::System && call.messages.is_empty() {
        call.system.extend(parts);
        return Ok(());
    }
    let extras = fields.rest();
    match call.messages.last_mut() {
        Some(message) if role == Role::Assistant && message.role == role => message.parts.extend(parts),
        _ => call.messages.push(Message { role, parts, name: None, origin: i, extras }),
    }
    Ok(())
}

fn content(value: Option<Value>) -> Read<Vec<Part>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(list)) => {
            list.into_iter().enumerate().map(|(i, value)| part(value).map_err(|e| e.at("content", i))).collect()
        }
        Some(other) => Err(wrong("content", "text or a list of parts", &other)),
    }
}

fn part(value: Value) -> Read<Part> {
    let mut fields = Fields::of(value)?;
    let kind = fields.need_text("type")?;
    let body = match kind.as_str() {
        "input_text" | "output_text" | "text" => Body::Text(fields.need_text("text")?),
        "refusal" => Body::Refusal(fields.need_text("refusal")?),
        "input_image" => Body::Media(image(&mut fields)?),
        "input_file" => Body::Media(file(&mut fields)?),
        "input_audio" => {
            let mut audio = fields.need_object("input_audio")?;
            let data = audio.need_text("data").map_err(|e| e.under("input_audio"))?;
            let format = audio.need_text("format").map_err(|e| e.under("input_audio"))?;
            let source = Source::Base64 { media_type: format!("audio/{format}"), data };
            Body::Media(Media { kind: MediaKind::Audio, source, name: None, detail: None })
        }
        // What is quoted is told by the text; the places are only for show.
        _ => {
            let mut value = fields.rest();
            value.insert("type".into(), kind.into());
            return Ok(Body::Foreign { dialect: Dialect::OpenAiResponses, value: Value::Object(value) }.into());
        }
    };
    Ok(Part { body, cache: None, extras: fields.rest() })
}

fn image(fields: &mut Fields) -> Read<Media> {
    let detail = fields.text("detail")?;
    let source = match (fields.text("image_url")?, fields.text("file_id")?) {
        (Some(url), _) => source_of_url(url),
        (None, Some(id)) => Source::File { dialect: Dialect::OpenAiResponses, id },
        (None, None) => return Err(Malformed::new("image_url", "or file_id is required")),
    };
    Ok(Media { kind: MediaKind::Image, source, name: None, detail })
}

fn file(fields: &mut Fields) -> Read<Media> {
    let name = fields.text("filename")?;
    let source = match (fields.text("file_data")?, fields.text("file_url")?, fields.text("file_id")?) {
        (Some(data), ..) => source_of_url(data),
        (None, Some(url), _) => Source::Url { url, media_type: None },
        (None, None, Some(id)) => Source::File { dialect: Dialect::OpenAiResponses, id },
        (None, None, None) => return Err(Malformed::new("file_data", "or file_url or file_id is required")),
    };
    let kind = match &source {
        Source::Base64 { media_type, .. } => MediaKind::of_type(media_type),
        _ => MediaKind::Document,
    };
    Ok(Media { kind, source, name, detail: None })
}

fn function_call(value: Value) -> Read<Part> {
    let mut fields = Fields::of(value)?;
    fields.value("type");
    let mut call = ToolCall {
        id: fields.need_text("call_id")?,
        name: fields.need_text("name")?,
        arguments: fields.text("arguments")?.unwrap_or_default(),
        signature: None,
    };
    ids::open_call(&mut call);
    Ok(Part { body: Body::ToolCall(call), cache: None, extras: fields.rest() })
}

fn output(value: Value) -> Read<Part> {
    let mut fields = Fields::of(value)?;
    let id = ids::plain(fields.need_text("call_id")?);
    let content = content(fields.value("output")).map_err(|e| e.under("output"))?;
    Ok(Body::ToolResult(ToolResult { id, name: None, content, is_error: false }).into())
}
