//! `input_tokens` includes what was cached, `output_tokens` includes thoughts.

use serde_json::{Value, json};

use crate::json::Look;
use crate::meaning::Usage;
use crate::openai_chat::{self, UsageNames};

/// The same report as chat's under other names.
const NAMES: [(&str, &str); 6] = [
    ("input_tokens", "prompt_tokens"),
    ("output_tokens", "completion_tokens"),
    ("input_tokens_details", "prompt_tokens_details"),
    ("output_tokens_details", "completion_tokens_details"),
    ("cost", "cost"),
    ("service_tier", "service_tier"),
];

const OWN: UsageNames = UsageNames {
    prompt: "input_tokens",
    completion: "output_tokens",
    prompt_details: "input_tokens_details",
    completion_details: "output_tokens_details",
    dialects: false,
};

pub(crate) fn read<'v>(value: impl Look<'v>) -> Option<Usage> {
    openai_chat::parse_usage_named(value, &OWN)
}

pub(super) fn write(usage: &Usage) -> Value {
    let chat = openai_chat::render_usage(usage);
    let mut value = json!({});
    for (ours, theirs) in NAMES {
        if !chat[theirs].is_null() {
            value[ours] = chat[theirs].clone();
        }
    }
    value["total_tokens"] = chat["total_tokens"].clone();
    value
}
