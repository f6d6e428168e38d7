//! [`Message`]s → Anthropic's: neighbours of one role become one message, tool results come first in it, blank texts and
//! unsigned thoughts are left out, since Anthropic refuses all of these.

use std::collections::BTreeSet;

use serde_json::Value;

use super::blocks;
use crate::Dialect;
use crate::json::Object;
use crate::lost::Losses;
use crate::meaning::{Body, Call, Message, Role};

/// The system prompt, with what was said by `system` later on.
pub(super) fn system(call: &Call, losses: &mut Losses) -> Option<Value> {
    let mut list = Vec::new();
    for (i, part) in call.system.iter().enumerate() {
        list.extend(blocks::write(part, call, &format!("system[{i}]"), losses));
    }
    if call.dialect != Dialect::Anthropic {
        for message in call.messages.iter().filter(|message| message.role == Role::System) {
            losses.hint(losses.place(message.origin, None), "moved to the system prompt at the beginning");
            for (i, part) in message.parts.iter().enumerate() {
                let path = losses.place(message.origin, Some(i));
                list.extend(blocks::write(part, call, &path, losses));
            }
        }
    }
    match list.as_slice() {
        [] => None,
        [one] if one.as_object().is_some_and(|fields| fields.len() == 2) => Some(one["text"].clone()),
        _ => Some(Value::Array(list)),
    }
}

pub(super) fn write(call: &Call, losses: &mut Losses) -> Value {
    let mut out: Vec<(Role, Vec<Value>)> = Vec::new();
    for message in &call.messages {
        if message.role == Role::System && call.dialect != Dialect::Anthropic {
            continue;
        }
        if call.dialect != Dialect::Anthropic {
            losses.message(message, false);
        }
        let blocks = blocks_of(message, call, losses);
        match out.last_mut() {
            Some((role, list)) if *role == message.role => list.extend(blocks),
            _ if blocks.is_empty() => {}
            _ => out.push((message.role, blocks)),
        }
    }
    out.into_iter().map(|(role, blocks)| to_value(role, blocks)).collect()
}

fn blocks_of(message: &Message, call: &Call, losses: &mut Losses) -> Vec<Value> {
    let mut blocks = Vec::new();
    for (i, part) in message.parts.iter().enumerate() {
        let path = losses.place(message.origin, Some(i));
        blocks.extend(blocks::write(part, call, &path, losses));
    }
    blocks
}

fn to_value(role: Role, mut blocks: Vec<Value>) -> Value {
    let role = match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    };
    // Stable: results keep their order, and so does everything else.
    blocks.sort_by_key(|block| block["type"] != "tool_result");
    let content = match blocks.as_slice() {
        [one] if one["type"] == "text" && one.as_object().is_some_and(|fields| fields.len() == 2) => {
            one["text"].clone()
        }
        _ => Value::Array(blocks),
    };
    Object::new().with("role", role).with("content", content).done()
}

/// Functions that were called before. A history with calls needs tools, even if no more may be called.
pub(crate) fn names_in_history(call: &Call) -> BTreeSet<&str> {
    call.messages
        .iter()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match &part.body {
            Body::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        })
        .collect()
}
