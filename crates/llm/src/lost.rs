//! What a translation could not carry: named in the caller's words, for a 400 or for a response header, as the route
//! chooses. Never lost silently.

use serde_json::{Map, Value};

use crate::Dialect;
use crate::json::Malformed;
use crate::meaning::{Body, Media, Message};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub path: String,
    pub reason: &'static str,
    pub weight: Weight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// The answer is the same without it: cache hints, ids, telemetry labels.
    Hint,
    /// The answer may differ.
    Meaning,
}

/// Bounded: a request of a million unknown fields is told with its first ones and a count.
#[derive(Clone, Debug)]
pub struct Losses {
    dialect: Dialect,
    list: Vec<Lost>,
    more: usize,
}

const MOST: usize = 64;
const LONGEST_HEADER: usize = 2_048;

impl Losses {
    /// `dialect`: the one that the caller wrote.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, list: Vec::new(), more: 0 }
    }

    pub fn list(&self) -> &[Lost] {
        &self.list
    }

    /// How many were not even listed.
    pub fn more(&self) -> usize {
        self.more
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// For routes that reject: the first that changes what the answer means.
    pub fn reject(&self) -> Result<(), Malformed> {
        match self.list.iter().find(|lost| lost.weight == Weight::Meaning) {
            Some(lost) => Err(Malformed::new(lost.path.clone(), format!("cannot be translated: {}", lost.reason))),
            None => Ok(()),
        }
    }

    /// For the response header: `temperature;reason="…", top_k;reason="…"` without the reasons, which may be long.
    pub fn header(&self) -> String {
        let mut names: Vec<&str> = self.list.iter().map(|lost| lost.path.as_str()).collect();
        names.dedup();
        let mut header = names.join(", ");
        header.retain(|c| c.is_ascii_graphic() || c == ' ');
        // Names are the caller's own and may be long.
        header.truncate(LONGEST_HEADER);
        if self.more > 0 {
            header.push_str(&format!(", and {} more", self.more));
        }
        header
    }

    pub(crate) fn meaning(&mut self, path: impl Into<String>, reason: &'static str) {
        self.add(path.into(), reason, Weight::Meaning);
    }

    pub(crate) fn hint(&mut self, path: impl Into<String>, reason: &'static str) {
        self.add(path.into(), reason, Weight::Hint);
    }

    /// A field of the call, which each dialect calls its own way.
    pub(crate) fn field(&mut self, name: &'static str, reason: &'static str) {
        self.meaning(called(self.dialect, name), reason);
    }

    /// Of the schema of an answer, as the caller wrote it.
    pub(crate) fn schema_path(&self) -> &'static str {
        called(self.dialect, "schema")
    }

    pub(crate) fn soft_field(&mut self, name: &'static str, reason: &'static str) {
        self.hint(called(self.dialect, name), reason);
    }

    /// Fields that only the caller's dialect knows.
    pub(crate) fn extras(&mut self, under: &str, fields: &Map<String, Value>) {
        // What is left of these is named field by field.
        const HOLDERS: [&str; 6] =
            ["generationConfig", "toolConfig", "text", "reasoning", "output_config", "additionalModelRequestFields"];
        for (name, value) in fields {
            let path = if under.is_empty() { name.clone() } else { format!("{under}.{name}") };
            if let (true, true, Some(inner)) = (under.is_empty(), HOLDERS.contains(&&**name), value.as_object()) {
                self.extras(&path, inner);
                continue;
            }
            let weight = if is_hint(name, value) { Weight::Hint } else { Weight::Meaning };
            self.add(path, "only the caller's dialect knows it", weight);
        }
    }

    /// What a message holds besides its parts, and what only OpenAI's dialects know of pictures.
    pub(crate) fn message(&mut self, message: &Message, openai: bool) {
        if !message.extras.is_empty() {
            self.extras(&self.place(message.origin, None), &message.extras);
        }
        if message.name.is_some() {
            self.hint(self.place(message.origin, None) + ".name", "the provider is not told who speaks");
        }
        for (i, part) in message.parts.iter().enumerate().filter(|_| !openai) {
            if let Body::Media(Media { detail: Some(detail), .. }) = &part.body
                && detail != "auto"
            {
                self.hint(self.place(message.origin, Some(i)) + ".detail", "the provider decides how closely to look");
            }
        }
    }

    /// The path of a message, or of one of its parts.
    pub(crate) fn place(&self, message: usize, part: Option<usize>) -> String {
        let (list, parts) = match self.dialect {
            Dialect::Gemini => ("contents", "parts"),
            Dialect::OpenAiResponses => ("input", "content"),
            _ => ("messages", "content"),
        };
        match part {
            Some(part) => format!("{list}[{message}].{parts}[{part}]"),
            None => format!("{list}[{message}]"),
        }
    }

    fn add(&mut self, path: String, reason: &'static str, weight: Weight) {
        if self.list.len() < MOST {
            self.list.push(Lost { path, reason, weight });
        } else {
            self.more += 1;
        }
    }
}

/// Fields that steer bookkeeping, caching or speed, not the answer; and fields that ask for what happens anyway.
fn is_hint(name: &str, value: &Value) -> bool {
    const HINTS: [&str; 27] = [
        "annotations",
        "background",
        "betas",
        "cache_control",
        "caller",
        "context",
        "id",
        "index",
        "labels",
        "inference_geo",
        "logprobs",
        "metadata",
        "obfuscation",
        "performanceConfig",
        "phase",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "requestMetadata",
        "safety_identifier",
        "service_tier",
        "status",
        "store",
        "stream_options",
        "tool_use_id",
        "top_logprobs",
        "type",
    ];
    if name == "logprobs" || name == "top_logprobs" {
        return value.as_bool() == Some(false) || value.as_u64() == Some(0);
    }
    name == "background" && value.as_bool() == Some(false)
        || name == "truncation" && value == "disabled"
        || name == "citations" && value["enabled"] == false
        || name != "background" && HINTS.contains(&name)
        || matches!(value, Value::Array(list) if list.is_empty())
        || matches!(value, Value::Object(map) if map.is_empty())
}

/// The caller's name for a field of the call.
fn called(dialect: Dialect, name: &'static str) -> &'static str {
    use Dialect::{Bedrock, Cohere, Gemini, OpenAiResponses};
    match (dialect, name) {
        (Cohere, "top_p") => "p",
        (Cohere, "top_k") => "k",
        (Cohere, "stop") => "stop_sequences",
        (Cohere, "format") => "response_format",
        (Cohere, "schema") => "response_format.json_schema",
        (Gemini, "temperature") => "generationConfig.temperature",
        (Gemini, "top_p") => "generationConfig.topP",
        (Gemini, "top_k") => "generationConfig.topK",
        (Gemini, "seed") => "generationConfig.seed",
        (Gemini, "n") => "generationConfig.candidateCount",
        (Gemini, "frequency_penalty") => "generationConfig.frequencyPenalty",
        (Gemini, "presence_penalty") => "generationConfig.presencePenalty",
        (Gemini, "schema") => "generationConfig.responseSchema",
        (Gemini, "format") => "generationConfig.responseSchema",
        (Gemini, "thinking") => "generationConfig.thinkingConfig",
        (Gemini, "stop") => "generationConfig.stopSequences",
        (Gemini, "tool_choice") => "toolConfig.functionCallingConfig",
        (Bedrock, "temperature") => "inferenceConfig.temperature",
        (Bedrock, "top_p") => "inferenceConfig.topP",
        (Bedrock, "top_k") => "additionalModelRequestFields.top_k",
        (Bedrock, "schema") => "outputConfig.textFormat.structure.jsonSchema.schema",
        (Bedrock, "format") => "outputConfig.textFormat",
        (Bedrock, "thinking") => "additionalModelRequestFields.thinking",
        (Bedrock, "stop") => "inferenceConfig.stopSequences",
        (Bedrock, "tool_choice") => "toolConfig.toolChoice",
        (Bedrock, "metadata") => "requestMetadata",
        (Dialect::Anthropic, "stop") => "stop_sequences",
        (Dialect::Anthropic, "schema") => "output_config.format.schema",
        (Dialect::Anthropic, "format") => "output_config.format",
        (Dialect::Anthropic, "parallel_tool_calls") => "tool_choice.disable_parallel_tool_use",
        (Dialect::Anthropic, "user") => "metadata.user_id",
        (OpenAiResponses, "schema") => "text.format.schema",
        (OpenAiResponses, "format") => "text.format",
        (OpenAiResponses, "thinking") => "reasoning",
        (Dialect::OpenAiChat, "schema") => "response_format.json_schema.schema",
        (Dialect::OpenAiChat, "format") => "response_format",
        (Dialect::OpenAiChat, "thinking") => "reasoning_effort",
        (_, name) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_unknown_fields_are_told_briefly() {
        let mut losses = Losses::new(Dialect::OpenAiChat);
        for i in 0..1_000 {
            losses.meaning(format!("{}é{i}", "x".repeat(100)), "unknown");
        }
        assert_eq!((losses.list().len(), losses.more()), (MOST, 1_000 - MOST));
        assert!(losses.header().len() < LONGEST_HEADER + 20 && losses.header().is_ascii());
        assert!(losses.reject().is_err());
    }
}
