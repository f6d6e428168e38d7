//! `stop_reason`.

use serde_json::Value;

use crate::meaning::Stop;

pub(super) fn read(reason: &str, sequence: &Value) -> Stop {
    match reason {
        "end_turn" => Stop::EndTurn,
        "max_tokens" => Stop::MaxTokens,
        "tool_use" => Stop::ToolUse,
        "stop_sequence" => Stop::StopSequence(sequence.as_str().map(str::to_owned)),
        "pause_turn" => Stop::Pause,
        "refusal" => Stop::Refusal,
        "model_context_window_exceeded" => Stop::ContextExceeded,
        other => Stop::Other(other.to_owned()),
    }
}

/// The reason and the sequence.
pub(super) fn write(stop: &Stop) -> (&'static str, Value) {
    let reason = match stop {
        Stop::EndTurn | Stop::Other(_) => "end_turn",
        Stop::MaxTokens => "max_tokens",
        Stop::ToolUse => "tool_use",
        Stop::StopSequence(sequence) => {
            return ("stop_sequence", sequence.clone().map_or(Value::Null, Value::String));
        }
        Stop::ContentFilter | Stop::Refusal | Stop::MalformedCall => "refusal",
        Stop::Pause => "pause_turn",
        Stop::ContextExceeded => "model_context_window_exceeded",
    };
    (reason, Value::Null)
}
