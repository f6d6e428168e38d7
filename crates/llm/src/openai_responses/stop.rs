//! `status` and `incomplete_details`.

use serde_json::{Value, json};

use crate::json::Look;
use crate::meaning::{Body, Gist, Part, Stop};

pub(super) fn read(response: &Value, parts: &[Part]) -> Stop {
    let has = |wanted: fn(&Body) -> bool| parts.iter().any(|part| wanted(&part.body));
    of(response, has(|body| matches!(body, Body::ToolCall(_))), has(|body| matches!(body, Body::Refusal(_))))
}

pub(super) fn of<'v>(response: impl Look<'v>, has_calls: bool, refused: bool) -> Stop {
    let (status, reason) = (response.at("status").text(), response.at("incomplete_details").at("reason").text());
    match (status.as_deref(), reason.as_deref()) {
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
