//! [`Message`]s and [`Part`]s → Bedrock's messages and content blocks.

use serde_json::{Value, json};

use super::{cache_point, role};
use crate::Dialect;
use crate::bedrock::media;
use crate::ids;
use crate::json::{Object, object_of};
use crate::lost::Losses;
use crate::meaning::{Body, Call, Message, Part, Role, ToolResult};

pub(super) fn system(call: &Call, losses: &mut Losses) -> Option<Value> {
    let later = call.messages.iter().filter(|message| message.role == Role::System);
    let mut list = Vec::new();
    for (i, part) in call.system.iter().enumerate() {
        text(part, &format!("system[{i}]"), &mut list, losses);
    }
    for message in later {
        losses.hint(losses.place(message.origin, None), "moved to the system prompt at the beginning");
        for (i, part) in message.parts.iter().enumerate() {
            let path = losses.place(message.origin, Some(i));
            text(part, &path, &mut list, losses);
        }
    }
    (!list.is_empty()).then_some(Value::Array(list))
}

fn text(part: &Part, path: &str, list: &mut Vec<Value>, losses: &mut Losses) {
    match &part.body {
        Body::Text(text) if text.trim().is_empty() => return,
        Body::Text(text) => list.push(json!({"text": text})),
        Body::Foreign { dialect: Dialect::Bedrock, value } => list.push(value.clone()),
        _ => return losses.meaning(path, "the system prompt is text only"),
    }
    list.extend(part.cache.map(cache_point));
}

pub(super) fn messages(call: &Call, losses: &mut Losses) -> Value {
    let mut out: Vec<(Role, Vec<Value>)> = Vec::new();
    let mut documents = 0;
    for message in call.messages.iter().filter(|message| message.role != Role::System) {
        if call.dialect != Dialect::Bedrock {
            losses.message(message, false);
        }
        let blocks = blocks(message, call, &mut documents, losses);
        match out.last_mut() {
            Some((role, list)) if *role == message.role => list.extend(blocks),
            _ if blocks.is_empty() => {}
            _ => out.push((message.role, blocks)),
        }
    }
    out.into_iter().map(|(of, blocks)| json!({"role": role(of), "content": results_first(blocks)})).collect()
}

/// A hint belongs to the block before it, so blocks move together with theirs.
fn results_first(blocks: Vec<Value>) -> Vec<Value> {
    let mut groups: Vec<Vec<Value>> = Vec::new();
    for block in blocks {
        match groups.last_mut() {
            Some(group) if block["cachePoint"].is_object() => group.push(block),
            _ => groups.push(vec![block]),
        }
    }
    groups.sort_by_key(|group| !group[0]["toolResult"].is_object());
    groups.into_iter().flatten().collect()
}

fn blocks(message: &Message, call: &Call, documents: &mut usize, losses: &mut Losses) -> Vec<Value> {
    let mut list = Vec::new();
    for (i, part) in message.parts.iter().enumerate() {
        let path = losses.place(message.origin, Some(i));
        let Some(block) = block(part, &path, documents, losses) else { continue };
        if call.dialect != Dialect::Bedrock {
            losses.extras(&path, &part.extras);
        }
        list.push(block);
        list.extend(part.cache.map(cache_point));
    }
    list
}

fn block(part: &Part, path: &str, documents: &mut usize, losses: &mut Losses) -> Option<Value> {
    Some(match &part.body {
        Body::Text(text) | Body::Refusal(text) => {
            json!({"text": Some(text).filter(|text| !text.trim().is_empty())?})
        }
        Body::Media(media) => match media::write(media, *documents) {
            Ok(block) => {
                *documents += 1;
                block
            }
            Err(reason) => {
                losses.meaning(path, reason);
                return None;
            }
        },
        Body::ToolCall(call) => json!({"toolUse": {
            "toolUseId": safe_id(&call.id),
            "name": call.name,
            "input": object_of(&call.arguments),
        }}),
        Body::ToolResult(result) => tool_result(result, path, documents, losses),
        Body::Reasoning { text, signature } => {
            match signature.as_ref().and_then(|signature| signature.replayable_thought(Dialect::Bedrock)) {
                Some(signature) => {
                    json!({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})
                }
                None => {
                    losses.hint(path, "thoughts go back only with the provider's own signature");
                    return None;
                }
            }
        }
        Body::Redacted(signature) => match signature.replayable(Dialect::Bedrock) {
            Some(data) => json!({"reasoningContent": {"redactedContent": data}}),
            None => {
                losses.hint(path, "only the model that thought it can read it");
                return None;
            }
        },
        Body::Foreign { dialect: Dialect::Bedrock, value } => value.clone(),
        Body::Foreign { .. } => {
            losses.meaning(path, "only the caller's dialect knows this kind of block");
            return None;
        }
    })
}

/// Bedrock allows `[a-zA-Z0-9_-]{1,64}`.
fn safe_id(id: &str) -> String {
    let id = ids::plain(id.to_owned());
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).take(64).collect()
}

fn tool_result(result: &ToolResult, path: &str, documents: &mut usize, losses: &mut Losses) -> Value {
    let mut content = Vec::new();
    for (i, part) in result.content.iter().enumerate() {
        content.extend(block(part, &format!("{path}.content[{i}]"), documents, losses));
    }
    if content.is_empty() {
        content.push(json!({"text": "(no output)"}));
    }
    let inner = Object::new()
        .with("toolUseId", safe_id(&result.id))
        .with("content", content)
        .maybe("status", result.is_error.then_some("error"));
    json!({"toolResult": inner.done()})
}
