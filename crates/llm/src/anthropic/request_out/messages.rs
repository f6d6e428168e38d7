//! [`Message`]s → Anthropic's: neighbours of one role become one message, tool results come first in it, blank texts and
//! unsigned thoughts are left out, since Anthropic refuses all of these.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::blocks;
use crate::Dialect;
use crate::json::{Object, Tree};
use crate::lost::Losses;
use crate::meaning::{Body, Call, Message, Part, Role};

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

/// What one message says.
enum Said<'a> {
    /// One text and nothing else, as most do.
    Text(&'a str),
    Blocks(Vec<Value>),
}

pub(super) fn write(call: &Call, losses: &mut Losses) -> Tree {
    let mut out: Vec<(Role, Said<'_>)> = Vec::with_capacity(call.messages.len());
    for message in &call.messages {
        if message.role == Role::System && call.dialect != Dialect::Anthropic {
            continue;
        }
        if call.dialect != Dialect::Anthropic {
            losses.message(message, false);
        }
        let follows = out.last().is_some_and(|(role, _)| *role == message.role);
        if let (Some(text), false) = (only_text(message), follows) {
            out.push((message.role, Said::Text(text)));
            continue;
        }
        let blocks = blocks_of(message, call, losses);
        match out.last_mut() {
            Some((_, said)) if follows => said.and(blocks),
            _ if blocks.is_empty() => {}
            _ => out.push((message.role, Said::Blocks(blocks))),
        }
    }
    Tree::List(out.into_iter().map(|(role, said)| to_object(role, said).into()).collect())
}

/// A text that Anthropic takes, with nothing beside it.
fn only_text(message: &Message) -> Option<&str> {
    match message.parts.as_slice() {
        [Part { body: Body::Text(text), cache: None, extras }] if extras.is_empty() && !text.trim().is_empty() => {
            Some(text)
        }
        _ => None,
    }
}

impl Said<'_> {
    fn and(&mut self, more: Vec<Value>) {
        match self {
            Self::Blocks(blocks) => blocks.extend(more),
            Self::Text(text) if !more.is_empty() => {
                let mut blocks = vec![json!({"type": "text", "text": text})];
                blocks.extend(more);
                *self = Self::Blocks(blocks);
            }
            Self::Text(_) => {}
        }
    }
}

fn blocks_of(message: &Message, call: &Call, losses: &mut Losses) -> Vec<Value> {
    let mut blocks = Vec::new();
    for (i, part) in message.parts.iter().enumerate() {
        let path = losses.place(message.origin, Some(i));
        blocks.extend(blocks::write(part, call, &path, losses));
    }
    blocks
}

fn to_object(role: Role, said: Said<'_>) -> Object {
    let role = match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    };
    let mut blocks = match said {
        Said::Text(text) => return Object::new().with("role", role).with("content", text),
        Said::Blocks(blocks) => blocks,
    };
    // Stable: results keep their order, and so does everything else.
    blocks.sort_by_key(|block| block["type"] != "tool_result");
    let content = match blocks.as_slice() {
        [one] if one["type"] == "text" && one.as_object().is_some_and(|fields| fields.len() == 2) => {
            one["text"].clone()
        }
        _ => Value::Array(blocks),
    };
    Object::new().with("role", role).with("content", content)
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
