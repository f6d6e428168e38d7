//! `stopReason`.

use crate::meaning::Stop;

pub(super) fn read(reason: &str) -> Stop {
    match reason {
        "end_turn" => Stop::EndTurn,
        "max_tokens" => Stop::MaxTokens,
        "tool_use" => Stop::ToolUse,
        "stop_sequence" => Stop::StopSequence(None),
        "guardrail_intervened" | "content_filtered" => Stop::ContentFilter,
        "refusal" => Stop::Refusal,
        "pause_turn" => Stop::Pause,
        "model_context_window_exceeded" => Stop::ContextExceeded,
        "malformed_tool_use" | "malformed_model_output" => Stop::MalformedCall,
        other => Stop::Other(other.to_owned()),
    }
}

pub(super) fn write(stop: &Stop) -> &'static str {
    match stop {
        Stop::EndTurn | Stop::Pause | Stop::Other(_) => "end_turn",
        Stop::MaxTokens => "max_tokens",
        Stop::ToolUse => "tool_use",
        Stop::StopSequence(_) => "stop_sequence",
        Stop::ContentFilter | Stop::Refusal => "content_filtered",
        Stop::ContextExceeded => "model_context_window_exceeded",
        Stop::MalformedCall => "malformed_tool_use",
    }
}
