//! `finishReason` and `blockReason`.

use serde_json::Value;

use crate::json::text_of;
use crate::meaning::{Gist, Stop};

/// `STOP` also stands where the model calls tools: content decides (llm-wire line 7).
pub(super) fn read(reason: &str, has_calls: bool) -> Stop {
    match reason {
        "STOP" | "UNEXPECTED_TOOL_CALL" if has_calls => Stop::ToolUse,
        "STOP" | "FINISH_REASON_UNSPECIFIED" => Stop::EndTurn,
        "MAX_TOKENS" => Stop::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION"
        | "NO_IMAGE"
        | "IMAGE_OTHER"
        | "LANGUAGE" => Stop::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE" => Stop::MalformedCall,
        other => Stop::Other(other.to_owned()),
    }
}

/// A prompt that was blocked has no candidates at all.
pub(super) fn blocked(value: &Value) -> bool {
    text_of(&value["promptFeedback"]["blockReason"]).is_some()
}

pub(super) fn write(stop: &Stop) -> &'static str {
    match stop {
        Stop::MalformedCall => "MALFORMED_FUNCTION_CALL",
        stop => match stop.gist() {
            Gist::Done | Gist::Tools => "STOP",
            Gist::Length => "MAX_TOKENS",
            Gist::Filtered => "SAFETY",
        },
    }
}
