//! Gemini's contents → [`Message`]s. Calls without ids get them, and responses find their calls by name and order.

use serde_json::Value;

use super::parts;
use crate::json::{Fields, Malformed, Read, wrong};
use crate::meaning::{Body, Call, Message, Part, Role};

/// A content, a list of parts, or (SDKs allow it) text.
pub(super) fn system(value: Value) -> Read<Vec<Part>> {
    match value {
        Value::String(text) => Ok(vec![Part::text(text)]),
        Value::Object(_) => {
            let mut fields = Fields::of(value)?;
            read_parts(fields.value("parts"), 0)
        }
        other => Err(wrong("", "a content", &other)),
    }
}

pub(super) fn read(contents: Vec<Value>, call: &mut Call) -> Read<()> {
    for (i, content) in contents.into_iter().enumerate() {
        call.messages.push(message(content, i).map_err(|e| e.at("contents", i))?);
    }
    link(&mut call.messages);
    Ok(())
}

fn message(content: Value, origin: usize) -> Read<Message> {
    let mut fields = Fields::of(content)?;
    let role = match fields.text("role")?.as_deref() {
        Some("model") => Role::Assistant,
        Some("user" | "function") | None => Role::User,
        Some("system") => Role::System,
        _ => return Err(Malformed::new("role", "is neither user nor model")),
    };
    let parts = read_parts(fields.value("parts"), origin)?;
    Ok(Message { role, parts, name: None, origin, extras: fields.rest() })
}

/// A list; a single object counts as one.
fn read_parts(value: Option<Value>, origin: usize) -> Read<Vec<Part>> {
    let list = match value {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    let parts = list.into_iter().enumerate();
    parts.map(|(i, value)| parts::read(value, origin, i).map_err(|e| e.at("parts", i))).collect()
}

/// Responses without an id answer the first unanswered call of their name.
fn link(messages: &mut [Message]) {
    let mut open: Vec<(String, String)> = Vec::new();
    for message in messages {
        for part in &mut message.parts {
            match &mut part.body {
                Body::ToolCall(call) => open.push((call.name.clone(), call.id.clone())),
                Body::ToolResult(result) => {
                    let found = open.iter().position(|(name, id)| match result.id.as_str() {
                        "" => Some(name) == result.name.as_ref(),
                        told => told == id,
                    });
                    if let Some(at) = found {
                        result.id = open.remove(at).1;
                    }
                }
                _ => {}
            }
        }
    }
}
