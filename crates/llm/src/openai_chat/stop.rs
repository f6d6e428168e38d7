//! `finish_reason`.

use crate::meaning::{Body, Gist, Part, Stop};

pub(super) fn read(reason: Option<&str>) -> Stop {
    match reason {
        Some("stop" | "eos" | "end_turn") | None => Stop::EndTurn,
        // `model_length`: Mistral.
        Some("length" | "max_tokens") => Stop::MaxTokens,
        Some("model_length") => Stop::ContextExceeded,
        Some("tool_calls" | "function_call") => Stop::ToolUse,
        Some("content_filter" | "sensitive") => Stop::ContentFilter,
        Some(other) => Stop::Other(other.to_owned()),
    }
}

/// Some imitations say `stop` though the answer holds calls.
pub(super) fn settle(stop: Stop, parts: &[Part]) -> Stop {
    let has = |wanted: fn(&Body) -> bool| parts.iter().any(|part| wanted(&part.body));
    match stop {
        Stop::EndTurn if has(|body| matches!(body, Body::ToolCall(_))) => Stop::ToolUse,
        Stop::EndTurn if has(|body| matches!(body, Body::Refusal(_))) => Stop::Refusal,
        stop => stop,
    }
}

pub(super) fn write(stop: &Stop) -> &'static str {
    match stop.gist() {
        // OpenAI says `stop` when the model refuses, and puts the words into `refusal`; but callers without eyes for that
        // field see an empty answer that went well. Both filters are told as one.
        Gist::Filtered => "content_filter",
        Gist::Done => "stop",
        Gist::Length => "length",
        Gist::Tools => "tool_calls",
    }
}
