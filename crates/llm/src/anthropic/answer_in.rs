//! A message → [`Answer`].

use serde_json::Value;

use super::{error, stop, usage};
use crate::Dialect;
use crate::glance::Glance;
use crate::json::{self, At, Look as _, string_of};
use crate::meaning::{Answer, Body, Error, Part, ToolCall};
use crate::signature::Signature;

pub(crate) fn parse_answer(value: &Value) -> Result<Answer, Error> {
    if value["type"] == "error" || value["error"].is_object() {
        return Err(error::of_value(0, &value["error"]));
    }
    let Some(blocks) = value["content"].as_array() else {
        return Err(Error::bad_stream("the provider's answer has no content"));
    };
    let mut answer = Answer::new(Dialect::Anthropic);
    answer.id = string_of(&value["id"]);
    answer.model = string_of(&value["model"]);
    answer.parts = blocks.iter().map(block).collect();
    answer.stop = stop::read(value["stop_reason"].as_str().unwrap_or("end_turn"), &value["stop_sequence"]);
    answer.usage = usage::read(&value["usage"]);
    for name in ["container", "context_management", "stop_details"] {
        if !value[name].is_null() {
            answer.extras.insert(name.to_owned(), value[name].clone());
        }
    }
    Ok(answer)
}

/// `None`: an error.
pub(crate) fn glance(root: At<'_>) -> Option<Glance> {
    let content = root.at("content");
    if !root.at("error").is_null() || root.at("type").says("error") || !content.is_list() {
        return None;
    }
    let is = move |kind: &'static str| content.items().filter(move |block| block.at("type").says(kind));
    let stop = stop::read(root.at("stop_reason").text().as_deref().unwrap_or("end_turn"), &Value::Null);
    let texts = is("text").filter_map(|block| block.at("text").text());
    let has_calls = is("tool_use").next().is_some();
    Some(Glance::new(root.at("model").text(), usage::read(root.at("usage")), (&stop, has_calls), texts))
}

/// Nothing but text. `None`: it is read the long way.
pub(crate) fn plain_answer(root: At<'_>) -> Option<Answer> {
    let content = root.at("content");
    let more = ["error", "stop_sequence", "container", "context_management", "stop_details"];
    if !content.is_list() || root.at("type").says("error") || more.into_iter().any(|name| !root.at(name).is_null()) {
        return None;
    }
    let mut answer = Answer::new(Dialect::Anthropic);
    for block in content.items() {
        if !block.at("type").says("text") || block.at("citations").first().is_some() {
            return None;
        }
        answer.parts.push(Part::text(block.at("text").text().unwrap_or_default()));
    }
    answer.id = root.at("id").text().unwrap_or_default().into_owned();
    answer.model = root.at("model").text().unwrap_or_default().into_owned();
    answer.stop = stop::read(root.at("stop_reason").text().as_deref().unwrap_or("end_turn"), &Value::Null);
    answer.usage = usage::read(root.at("usage"));
    Some(answer)
}

fn block(value: &Value) -> Part {
    let body = match value["type"].as_str() {
        Some("text") => Body::Text(string_of(&value["text"])),
        Some("thinking") => Body::Reasoning { text: string_of(&value["thinking"]), signature: signature(value) },
        Some("redacted_thinking") => Body::Redacted(Signature::open(&string_of(&value["data"]), Dialect::Anthropic)),
        Some("tool_use") => Body::ToolCall(ToolCall {
            id: string_of(&value["id"]),
            name: string_of(&value["name"]),
            arguments: if value["input"].is_null() { "{}".to_owned() } else { json::text(&value["input"]) },
            signature: None,
        }),
        _ => Body::Foreign { dialect: Dialect::Anthropic, value: value.clone() },
    };
    let mut part = Part::from(body);
    if value["type"] == "text" && value["citations"].as_array().is_some_and(|list| !list.is_empty()) {
        part.extras.insert("citations".to_owned(), value["citations"].clone());
    }
    part
}

pub(super) fn signature(block: &Value) -> Option<Signature> {
    crate::json::text_of(&block["signature"]).map(|value| Signature::open(value, Dialect::Anthropic))
}
