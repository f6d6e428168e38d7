//! Chat messages → [`Message`]s. Leading system messages become `Call::system`; consecutive `tool` messages become one
//! user message of results, which is how the meaning (and Anthropic) has it.

use serde_json::Value;

use super::content;
use crate::Dialect;
use crate::ids;
use crate::json::{self, Fields, Malformed, Read};
use crate::meaning::{Body, Call, Message, Part, Role, ToolCall, ToolResult};
use crate::openai_chat::thoughts;
use crate::signature::Signature;

pub(super) fn read(messages: Vec<Value>, call: &mut Call) -> Read<()> {
    let mut last_was_tool = false;
    for (i, message) in messages.into_iter().enumerate() {
        let under = |e: Malformed| e.at("messages", i);
        let mut fields = Fields::of(message).map_err(under)?;
        let role = fields.need_text("role").map_err(under)?;
        let is_tool = role == "tool";
        match role.as_str() {
            "system" | "developer" => system(fields, i, call).map_err(under)?,
            "user" => {
                let parts = content::read(fields.value("content")).map_err(under)?;
                call.messages.push(finish(Role::User, i, parts, fields).map_err(under)?);
            }
            "assistant" => call.messages.push(assistant(fields, i).map_err(under)?),
            "tool" => {
                let result = tool_result(&mut fields).map_err(under)?;
                match call.messages.last_mut() {
                    Some(message) if last_was_tool => message.parts.push(result),
                    _ => call.messages.push(finish(Role::User, i, vec![result], fields).map_err(under)?),
                }
            }
            _ => return Err(under(Malformed::new("role", "is none of system, developer, user, assistant, tool"))),
        }
        last_was_tool = is_tool;
    }
    Ok(())
}

fn system(mut fields: Fields, i: usize, call: &mut Call) -> Read<()> {
    let parts = content::read(fields.value("content"))?;
    if call.messages.is_empty() {
        call.system.extend(parts);
    } else {
        call.messages.push(finish(Role::System, i, parts, fields)?);
    }
    Ok(())
}

fn finish(role: Role, origin: usize, parts: Vec<Part>, mut fields: Fields) -> Read<Message> {
    Ok(Message { role, parts, name: fields.text("name")?, origin, extras: fields.rest() })
}

/// Thoughts first, then text, then calls: the order in which they were thought.
fn assistant(mut fields: Fields, i: usize) -> Read<Message> {
    let mut parts = thoughts::of_message(&mut fields);
    parts.extend(content::read(fields.value("content"))?);
    if let Some(refusal) = fields.text("refusal")? {
        parts.push(Body::Refusal(refusal).into());
    }
    for (n, call) in fields.list("tool_calls")?.unwrap_or_default().into_iter().enumerate() {
        parts.push(tool_call(call).map_err(|e| e.at("tool_calls", n))?);
    }
    finish(Role::Assistant, i, parts, fields)
}

fn tool_call(value: Value) -> Read<Part> {
    if value["type"].as_str().is_some_and(|kind| kind != "function") {
        return Ok(Body::Foreign { dialect: Dialect::OpenAiChat, value }.into());
    }
    let mut fields = Fields::of(value)?;
    let id = fields.need_text("id")?;
    let mut function = fields.need_object("function")?;
    let name = function.need_text("name").map_err(|e| e.under("function"))?;
    let arguments = match function.value("arguments") {
        Some(Value::String(text)) => text,
        Some(object) => json::text(&object),
        None => String::new(),
    };
    let google = fields.value("extra_content").unwrap_or_default();
    let signature = google["google"]["thought_signature"].as_str().map(|s| Signature::open(s, Dialect::Gemini));
    let mut call = ToolCall { id, name, arguments, signature };
    ids::open_call(&mut call);
    Ok(Body::ToolCall(call).into())
}

fn tool_result(fields: &mut Fields) -> Read<Part> {
    let id = ids::plain(fields.need_text("tool_call_id")?);
    let content = content::read(fields.value("content"))?;
    let cache = content::cache_hint(fields);
    let name = fields.text("name")?;
    Ok(Part::from(Body::ToolResult(ToolResult { id, name, content, is_error: false })).cached(cache))
}
