//! An answer of `v2/chat` → [`Answer`].

use serde_json::Value;

use super::{stop, usage};
use crate::Dialect;
use crate::glance::Glance;
use crate::ids;
use crate::json::{self, At, Look as _, string_of, text_of};
use crate::meaning::{Answer, Body, Error, Kind, Part, ToolCall};
use crate::signature::Signature;

pub(crate) fn parse_answer(value: &Value) -> Result<Answer, Error> {
    let message = &value["message"];
    if !message.is_object() {
        return Err(Error::bad_stream("the provider's answer has no message"));
    }
    let reason = value["finish_reason"].as_str().unwrap_or("COMPLETE");
    if stop::is_failure(reason) {
        return Err(failure(reason, value));
    }
    let mut answer = Answer::new(Dialect::Cohere);
    answer.id = string_of(&value["id"]);
    answer.model = string_of(&value["model"]);
    if let Some(plan) = text_of(&message["tool_plan"]) {
        answer.parts.push(Body::Reasoning { text: plan.to_owned(), signature: None }.into());
    }
    match &message["content"] {
        Value::String(text) if !text.is_empty() => answer.parts.push(Part::text(text.as_str())),
        list => answer.parts.extend(list.as_array().into_iter().flatten().filter_map(block)),
    }
    for (i, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        answer.parts.push(tool_call(call, &answer.id, i));
    }
    answer.stop = stop::read(reason);
    answer.usage = usage::read(&value["usage"]);
    for name in ["citations", "logprobs"] {
        for place in [message, value] {
            if !place[name].is_null() {
                answer.extras.insert(name.to_owned(), place[name].clone());
            }
        }
    }
    Ok(answer)
}

/// `None`: no message, or a failure.
pub(crate) fn glance(root: At<'_>) -> Option<Glance> {
    let (message, content) = (root.at("message"), root.at("message").at("content"));
    let reason = root.at("finish_reason").text();
    let reason = reason.as_deref().unwrap_or("COMPLETE");
    if !message.is_object() || stop::is_failure(reason) {
        return None;
    }
    let blocks = content.items().filter(|block| block.at("type").says("text"));
    let texts = content.text().into_iter().chain(blocks.filter_map(|block| block.at("text").text()));
    let has_calls = message.at("tool_calls").first().is_some();
    let (stop, usage) = (stop::read(reason), usage::read(root.at("usage")));
    Some(Glance::new(root.at("model").text(), usage, (&stop, has_calls), texts))
}

/// It broke off, and says so where others say why they stopped.
pub(super) fn failure(reason: &str, value: &Value) -> Error {
    let kind = if reason == "TIMEOUT" { Kind::Timeout } else { Kind::Server };
    let told = text_of(&value["error"]).or_else(|| text_of(&value["message"]));
    Error::new(kind, told.unwrap_or("the provider's generation failed"))
}

fn block(value: &Value) -> Option<Part> {
    let body = match value["type"].as_str() {
        Some("text") => Body::Text(text_of(&value["text"])?.to_owned()),
        Some("thinking") => thinking(value),
        _ => Body::Foreign { dialect: Dialect::Cohere, value: value.clone() },
    };
    Some(body.into())
}

fn thinking(value: &Value) -> Body {
    let signature = signature(&value["signature"]);
    match text_of(&value["redacted"]) {
        Some(data) => Body::Redacted(Signature::open(data, Dialect::Cohere)),
        None => Body::Reasoning { text: string_of(&value["thinking"]), signature },
    }
}

/// Cohere signs nothing; others' proofs travel through its dialect so.
pub(super) fn signature(value: &Value) -> Option<Signature> {
    text_of(value).map(|value| Signature::open(value, Dialect::Cohere))
}

fn tool_call(value: &Value, answer: &str, i: usize) -> Part {
    let function = &value["function"];
    let id = text_of(&value["id"]).map_or_else(|| ids::synthetic(answer, i), str::to_owned);
    let arguments = match &function["arguments"] {
        Value::String(text) if text != "null" => text.clone(),
        object @ Value::Object(_) => json::text(object),
        _ => "{}".to_owned(),
    };
    Body::ToolCall(ToolCall { id, name: string_of(&function["name"]), arguments, signature: None }).into()
}
