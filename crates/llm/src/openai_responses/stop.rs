//! `status` and `incomplete_details`.

use serde_json::{Value, json};

use crate::meaning::{Body, Gist, Part, Stop};

pub(super) fn read(response: &Value, parts: &[Part]) -> Stop {
    let has = |wanted: fn(&Body) -> bool| parts.iter().any(|part| wanted(&part.body));
    of(response, has(|body| matches!(body, Body::ToolCall(_))), has(|body| matches!(body, Body::Refusal(_))))
}

pub(super) fn of(response: &Value, has_calls: bool, refused: bool) -> Stop {
    match (response["status"].as_str(), response["incomplete_details"]["reason"].as_str()) {
        (Some("incomplete"), Some("max_output_tokens" | "length")) => Stop::MaxTokens,
        (Some("incomplete"), Some("content_filter")) => Stop::ContentFilter,
        (Some("incomplete"), reason) => Stop::Other(reason.unwrap_or("incomplete").to_owned()),
        _ if has_calls => Stop::ToolUse,
        _ if refused => Stop::Refusal,
        _ => Stop::EndTurn,
    }
}

/// The status and its details.
pub(super) fn write(stop: &Stop, refused: bool) -> (&'static str, Value) {
    match stop.gist() {
        Gist::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
        // A refusal in the model's own words is a completed answer here.
        Gist::Filtered if !refused => ("incomplete", json!({"reason": "content_filter"})),
        Gist::Filtered | Gist::Done | Gist::Tools => ("completed", Value::Null),
    }
}
