//! [`Message`]s → chat messages. One `tool` message per result; what a `tool` message cannot hold (images) follows in a
//! user message.

use serde_json::{Value, json};

use super::content;
use crate::Dialect;
use crate::ids;
use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Body, Call, Message, Part, Role, ToolCall, ToolResult};
use crate::openai_chat::thoughts;
use crate::target::Target;

pub(super) fn write(call: &Call, target: &Target, losses: &mut Losses) -> Value {
    let mut out = Vec::new();
    if !call.system.is_empty() {
        let parts: Vec<&Part> = call.system.iter().collect();
        let path = |i: usize| format!("system[{i}]");
        let content = content::write(&parts, call.dialect, &path, losses);
        out.push(json!({"role": "system", "content": content}));
    }
    for message in &call.messages {
        match message.role {
            Role::System => plain(message, "system", call, losses, &mut out),
            Role::User => user(message, call, losses, &mut out),
            Role::Assistant => out.push(assistant(message, call, target, losses)),
        }
    }
    Value::Array(out)
}

fn plain(message: &Message, role: &str, call: &Call, losses: &mut Losses, out: &mut Vec<Value>) {
    let parts: Vec<&Part> = message.parts.iter().filter(|part| !is_result(part)).collect();
    push(message, role, &parts, call, losses, out);
}

fn user(message: &Message, call: &Call, losses: &mut Losses, out: &mut Vec<Value>) {
    let mut shown: Vec<&Part> = Vec::new();
    let mut results = 0;
    for (i, part) in message.parts.iter().enumerate() {
        if let Body::ToolResult(result) = &part.body {
            out.push(tool(result, message, i, losses));
            shown.extend(result.content.iter().filter(|part| is_shown(part)));
            results += 1;
        }
    }
    shown.extend(message.parts.iter().filter(|part| !is_result(part)));
    if results == 0 || !shown.is_empty() {
        push(message, "user", &shown, call, losses, out);
    }
}

fn push(message: &Message, role: &str, parts: &[&Part], call: &Call, losses: &mut Losses, out: &mut Vec<Value>) {
    let place = losses.place(message.origin, None);
    let path = |i: usize| format!("{place}.content[{i}]");
    let content = content::write(parts, call.dialect, &path, losses);
    let mut object = Object::new().with("role", role).with("content", content).maybe("name", message.name.as_deref());
    extras(message, call, &mut object, losses);
    out.push(object.done());
}

fn extras(message: &Message, call: &Call, object: &mut Object, losses: &mut Losses) {
    if call.dialect == Dialect::OpenAiChat {
        object.extend(&message.extras);
    } else {
        losses.extras(&losses.place(message.origin, None), &message.extras);
    }
}

/// What a tool message cannot hold.
fn is_shown(part: &Part) -> bool {
    matches!(part.body, Body::Media(_)) && part.as_plain().is_none()
}

fn is_result(part: &Part) -> bool {
    matches!(part.body, Body::ToolResult(_))
}

/// An Anthropic tool result becomes an OpenAI tool message here.
fn tool(result: &ToolResult, message: &Message, i: usize, losses: &mut Losses) -> Value {
    let mut content = result.texts().join("\n");
    let media = result.content.iter().any(is_shown);
    if media && content.is_empty() {
        content.push_str("The result is attached to the next message.");
    }
    if result.is_error {
        losses.hint(losses.place(message.origin, Some(i)) + ".is_error", "a tool message has no such mark");
    }
    if result.content.iter().any(|part| matches!(part.body, Body::Foreign { .. })) {
        losses.meaning(losses.place(message.origin, Some(i)), "only the caller's dialect knows this kind of result");
    }
    json!({"role": "tool", "tool_call_id": result.id, "content": content})
}

fn assistant(message: &Message, call: &Call, target: &Target, losses: &mut Losses) -> Value {
    let mut said = Said::default();
    for (i, part) in message.parts.iter().enumerate() {
        said.add(part, message, i, losses);
    }
    let silent = said.text.is_empty() && !said.calls.is_empty();
    let content = if silent { Value::Null } else { Value::String(said.text) };
    let mut object = Object::new()
        .with("role", "assistant")
        .with("content", content)
        .maybe("refusal", said.refusal)
        .maybe("name", message.name.as_deref());
    if !said.details.is_empty() {
        object.put("reasoning_details", said.details);
    }
    if !said.thoughts.is_empty() {
        if target.open_thoughts {
            object.put("reasoning_content", said.thoughts);
        } else {
            losses.hint(losses.place(message.origin, None), "the provider takes no thoughts back");
        }
    }
    if !said.calls.is_empty() {
        object.put("tool_calls", said.calls);
    }
    extras(message, call, &mut object, losses);
    object.done()
}

#[derive(Default)]
struct Said {
    text: String,
    refusal: Option<String>,
    thoughts: String,
    details: Vec<Value>,
    calls: Vec<Value>,
}

impl Said {
    fn add(&mut self, part: &Part, message: &Message, i: usize, losses: &mut Losses) {
        match &part.body {
            Body::Text(text) => self.text.push_str(text),
            Body::Refusal(text) => self.refusal.get_or_insert_default().push_str(text),
            Body::Reasoning { text, signature: Some(signature) } if signature.maker == Dialect::OpenAiChat => {
                self.details.push(thoughts::to_detail(Some(text), signature, self.details.len()));
            }
            Body::Redacted(signature) if signature.maker == Dialect::OpenAiChat => {
                self.details.push(thoughts::to_detail(None, signature, self.details.len()));
            }
            Body::Reasoning { text, .. } => self.thoughts.push_str(text),
            Body::Redacted(_) => {
                losses.hint(losses.place(message.origin, Some(i)), "only the model that thought it can read it");
            }
            Body::ToolCall(call) => self.calls.push(tool_call(call)),
            Body::Foreign { dialect: Dialect::OpenAiChat, value } => self.calls.push(value.clone()),
            Body::Media(_) | Body::ToolResult(_) | Body::Foreign { .. } => {
                losses.meaning(losses.place(message.origin, Some(i)), "an assistant's message cannot hold it here");
            }
        }
    }
}

fn tool_call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let google = call.signature.as_ref().and_then(|signature| signature.replayable(Dialect::Gemini));
    Object::new()
        .with("id", ids::plain(call.id.clone()))
        .with("type", "function")
        .with("function", json!({"name": call.name, "arguments": arguments}))
        .maybe("extra_content", google.map(|value| json!({"google": {"thought_signature": value}})))
        .done()
}
