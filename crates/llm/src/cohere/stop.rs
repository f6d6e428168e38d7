//! `finish_reason`.

use crate::meaning::{Gist, Stop};

pub(super) fn read(reason: &str) -> Stop {
    match reason {
        "COMPLETE" => Stop::EndTurn,
        "STOP_SEQUENCE" => Stop::StopSequence(None),
        "MAX_TOKENS" => Stop::MaxTokens,
        "TOOL_CALL" => Stop::ToolUse,
        // Of its first version.
        "ERROR_TOXIC" => Stop::ContentFilter,
        "ERROR_LIMIT" => Stop::ContextExceeded,
        other => Stop::Other(other.to_owned()),
    }
}

/// Reasons with which there is no answer.
pub(super) fn is_failure(reason: &str) -> bool {
    matches!(reason, "ERROR" | "TIMEOUT")
}

pub(super) fn write(stop: &Stop) -> &'static str {
    match (stop, stop.gist()) {
        (Stop::StopSequence(_), _) => "STOP_SEQUENCE",
        (Stop::ContextExceeded, _) => "ERROR_LIMIT",
        (_, Gist::Done) => "COMPLETE",
        (_, Gist::Length) => "MAX_TOKENS",
        (_, Gist::Tools) => "TOOL_CALL",
        (_, Gist::Filtered) => "ERROR_TOXIC",
    }
}
