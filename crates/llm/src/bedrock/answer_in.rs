//! A Converse response → [`Answer`].

use serde_json::Value;

use super::{stop, usage};
use crate::Dialect;
use crate::glance::Glance;
use crate::json::{self, At, Look as _, string_of};
use crate::meaning::{Answer, Body, Error, Part, ToolCall};
use crate::signature::Signature;

pub(crate) fn parse_answer(value: &Value) -> Result<Answer, Error> {
    let Some(blocks) = value["output"]["message"]["content"].as_array() else {
        return Err(Error::bad_stream("the provider's answer has no message"));
    };
    let mut answer = Answer::new(Dialect::Bedrock);
    answer.parts = blocks.iter().map(block).collect();
    answer.stop = stop::read(value["stopReason"].as_str().unwrap_or("end_turn"));
    answer.usage = usage::read(&value["usage"]).map(|usage| usage.at(&value["serviceTier"]["type"]));
    for name in ["metrics", "trace", "additionalModelResponseFields", "performanceConfig", "serviceTier"] {
        if !value[name].is_null() {
            answer.extras.insert(name.to_owned(), value[name].clone());
        }
    }
    Ok(answer)
}

/// `None`: no message.
pub(crate) fn glance(root: At<'_>) -> Option<Glance> {
    let content = root.at("output").at("message").at("content");
    if !content.is_list() {
        return None;
    }
    let is_call = |call: At<'_>| call.is_object() && !call.at("type").says("server_tool_use");
    let has_calls = content.items().any(|block| block.at("text").text().is_none() && is_call(block.at("toolUse")));
    let stop = stop::read(root.at("stopReason").text().as_deref().unwrap_or("end_turn"));
    let usage = usage::read(root.at("usage")).map(|usage| usage.at(root.at("serviceTier").at("type")));
    let texts = content.items().filter_map(|block| block.at("text").text());
    Some(Glance::new(None, usage, (&stop, has_calls), texts))
}

fn block(value: &Value) -> Part {
    if let Some(text) = value["text"].as_str() {
        return Part::text(text);
    }
    let call = &value["toolUse"];
    // `type` marks calls of the provider's own tools.
    if call.is_object() && call["type"] != "server_tool_use" {
        let arguments = if call["input"].is_null() { "{}".to_owned() } else { json::text(&call["input"]) };
        let (id, name) = (string_of(&call["toolUseId"]), string_of(&call["name"]));
        return Body::ToolCall(ToolCall { id, name, arguments, signature: None }).into();
    }
    let thoughts = &value["reasoningContent"];
    if let Some(data) = thoughts["redactedContent"].as_str() {
        return Body::Redacted(Signature::open(data, Dialect::Bedrock)).into();
    }
    if let Some(text) = thoughts["reasoningText"]["text"].as_str() {
        let signature = signature(&thoughts["reasoningText"]);
        return Body::Reasoning { text: text.to_owned(), signature }.into();
    }
    Body::Foreign { dialect: Dialect::Bedrock, value: value.clone() }.into()
}

pub(super) fn signature(value: &Value) -> Option<Signature> {
    crate::json::text_of(&value["signature"]).map(|value| Signature::open(value, Dialect::Bedrock))
}
