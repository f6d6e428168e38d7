//! [`Message`]s → messages of `v2/chat`. One `tool` message per result; what that cannot hold follows in a user's.

use serde_json::{Value, json};

use crate::Dialect;
use crate::cohere::answer_out::tool_call;
use crate::ids;
use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Body, Call, Media, MediaKind, Message, Part, Role, Source, ToolResult};
use crate::openai_chat::request_out::content::data_url;

pub(super) fn write(call: &Call, losses: &mut Losses) -> Value {
    let mut out = Vec::new();
    if !call.system.is_empty() {
        let content =
            call.system.iter().enumerate().filter_map(|(i, part)| block(part, &format!("system[{i}]"), losses));
        out.push(json!({"role": "system", "content": flat(content.collect())}));
    }
    for message in &call.messages {
        if call.dialect != Dialect::Cohere {
            losses.message(message, true);
        }
        let mut object = match message.role {
            Role::Assistant => assistant(message, losses),
            Role::User | Role::System => {
                let results = message.parts.iter().filter_map(|part| match &part.body {
                    Body::ToolResult(result) => Some(result),
                    _ => None,
                });
                let mut any = false;
                for result in results {
                    any = true;
                    out.push(tool(result, message, losses));
                }
                let blocks = blocks(message, losses);
                if blocks.is_empty() && any {
                    continue;
                }
                let role = if message.role == Role::System { "system" } else { "user" };
                Object::new().with("role", role).with("content", flat(blocks))
            }
        };
        if call.dialect == Dialect::Cohere {
            object.extend(&message.extras);
        }
        out.push(object.done());
    }
    Value::Array(out)
}

/// One text as a string.
fn flat(mut blocks: Vec<Value>) -> Value {
    match blocks.as_slice() {
        [one] if one["type"] == "text" => blocks[0]["text"].take(),
        [] => "".into(),
        _ => Value::Array(blocks),
    }
}

fn blocks(message: &Message, losses: &mut Losses) -> Vec<Value> {
    let mut list = Vec::new();
    for (i, part) in message.parts.iter().enumerate() {
        let path = losses.place(message.origin, Some(i));
        match &part.body {
            Body::ToolResult(result) => {
                let shown = result.content.iter().filter(|part| part.as_plain().is_none());
                list.extend(shown.filter_map(|part| block(part, &path, losses)));
            }
            _ => list.extend(block(part, &path, losses)),
        }
    }
    list
}

fn block(part: &Part, path: &str, losses: &mut Losses) -> Option<Value> {
    if part.cache.is_some() {
        losses.hint(format!("{path}.cache_control"), "the provider caches by itself");
    }
    Some(match &part.body {
        Body::Text(text) | Body::Refusal(text) => json!({"type": "text", "text": text}),
        Body::Media(Media { source: Source::Plain { text, .. }, .. }) => json!({"type": "text", "text": text}),
        Body::Media(Media { kind: MediaKind::Image, source, detail, .. }) => {
            let url = match source {
                Source::Base64 { media_type, data } => data_url(media_type, data),
                Source::Url { url, .. } => url.clone(),
                Source::Plain { .. } | Source::File { .. } => {
                    losses.meaning(path, "the file is stored at another provider");
                    return None;
                }
            };
            json!({"type": "image_url", "image_url": Object::new().with("url", url).maybe("detail", detail.as_deref()).done()})
        }
        Body::Foreign { dialect: Dialect::Cohere, value } => value.clone(),
        Body::Reasoning { .. } | Body::Redacted(_) => {
            losses.hint(path, "the provider takes no thoughts back here");
            return None;
        }
        Body::Media(_) => {
            losses.meaning(path, "the provider takes pictures and text, no other files");
            return None;
        }
        Body::ToolCall(_) | Body::ToolResult(_) | Body::Foreign { .. } => {
            losses.meaning(path, "only the caller's dialect knows this kind of block here");
            return None;
        }
    })
}

fn tool(result: &ToolResult, message: &Message, losses: &mut Losses) -> Value {
    if result.is_error {
        losses.hint(losses.place(message.origin, None) + ".is_error", "a tool message has no such mark");
    }
    let mut text = result.texts().join("\n");
    if text.is_empty() && !result.content.is_empty() {
        text.push_str("The result is attached to the next message.");
    }
    json!({"role": "tool", "tool_call_id": result.id, "content": text})
}

/// Thoughts before calls are their plan.
fn assistant(message: &Message, losses: &mut Losses) -> Object {
    let has_calls = message.parts.iter().any(|part| matches!(part.body, Body::ToolCall(_)));
    let (mut plan, mut content, mut calls) = (String::new(), Vec::new(), Vec::new());
    for (i, part) in message.parts.iter().enumerate() {
        match &part.body {
            Body::ToolCall(call) => calls.push(tool_call(call, ids::plain(call.id.clone()))),
            Body::Reasoning { text, signature: None } if has_calls => plan.push_str(text),
            Body::Reasoning { text, signature: None } if !text.is_empty() => {
                content.push(json!({"type": "thinking", "thinking": text}));
            }
            Body::Media(_) => {
                losses.meaning(losses.place(message.origin, Some(i)), "an assistant's message cannot hold it here");
            }
            _ => content.extend(block(part, &losses.place(message.origin, Some(i)), losses)),
        }
    }
    let mut object = Object::new().with("role", "assistant");
    if !plan.is_empty() {
        object.put("tool_plan", plan);
    }
    if !content.is_empty() || calls.is_empty() {
        object.put("content", flat(content));
    }
    if !calls.is_empty() {
        object.put("tool_calls", calls);
    }
    object
}
