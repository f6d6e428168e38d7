//! A message → [`Answer`].

use serde_json::Value;

use super::{error, stop, usage};
use crate::Dialect;
use crate::json::string_of;
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

fn block(value: &Value) -> Part {
    let body = match value["type"].as_str() {
        Some("text") => Body::Text(string_of(&value["text"])),
        Some("thinking") => Body::Reasoning { text: string_of(&value["thinking"]), signature: signature(value) },
        Some("redacted_thinking") => Body::Redacted(Signature::open(&string_of(&value["data"]), Dialect::Anthropic)),
        Some("tool_use") => Body::ToolCall(ToolCall {
            id: string_of(&value["id"]),
            name: string_of(&value["name"]),
            arguments: if value["input"].is_null() { "{}".to_owned() } else { value["input"].to_string() },
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
