//! What must be known of a model to write a call for it. The catalogue knows better than a name: override what differs.

use crate::Dialect;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The provider's name for the model.
    pub model: String,
    /// What Anthropic gets as `max_tokens` if the caller named none.
    pub max_output: u64,
    /// More than this it refuses.
    pub most_output: u64,
    /// Rejects temperature and penalties, wants `max_completion_tokens`.
    pub reasoning_only: bool,
    /// Wants its thoughts back as `reasoning_content` and takes `reasoning_effort` (DeepSeek, Qwen, GLM, Kimi…).
    pub open_thoughts: bool,
    /// How it is told to think, or not to.
    pub switch: Switch,
    /// Takes a schema of an answer that is no object.
    pub any_schema: bool,
    /// Anthropic: thinks adaptively, told by effort; else by budget.
    pub adaptive: bool,
    /// Gemini 3: told by level; else by budget.
    pub levels: bool,
    /// Gemini before 2.5: knows only its own part of JSON Schema.
    pub old_schema: bool,
}

/// In the chat dialect, where each provider has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// `reasoning_effort`.
    #[default]
    Effort,
    /// OpenRouter: `reasoning`, with an effort or a budget.
    Reasoning,
    /// DeepSeek: `thinking`, on or off, beside `reasoning_effort`.
    Thinking,
    /// Qwen: `enable_thinking` and `thinking_budget`.
    EnableThinking,
}

impl Target {
    /// From the name alone.
    pub fn guess(dialect: Dialect, model: &str) -> Self {
        let name = model.rsplit('/').next().unwrap_or(model);
        let claude = dialect == Dialect::Anthropic || name.contains("claude");
        Self {
            model: model.to_owned(),
            max_output: if name.contains("claude-3") { 4_096 } else { 8_192 },
            most_output: u64::MAX,
            reasoning_only: is_reasoning(name),
            open_thoughts: OPEN_THOUGHTS.iter().any(|part| name.contains(part)),
            switch: Switch::default(),
            any_schema: false,
            adaptive: claude && ADAPTIVE.iter().any(|part| name.contains(part)),
            levels: name.starts_with("gemini-3"),
            old_schema: name.starts_with("gemini-1") || name.starts_with("gemini-2.0"),
        }
    }
}

const OPEN_THOUGHTS: [&str; 8] = ["deepseek", "qwen", "qwq", "glm", "kimi", "minimax", "gpt-oss", "grok"];

const ADAPTIVE: [&str; 7] = ["opus-4-6", "opus-4-7", "opus-4-8", "sonnet-4-6", "opus-5", "sonnet-5", "claude-fable"];

fn is_reasoning(name: &str) -> bool {
    let o_series = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    o_series || name.starts_with("gpt-5") && !name.contains("chat") || name.starts_with("codex-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_15_reasoning_models_are_told_by_their_names() {
        for name in ["o1", "o3-mini", "o4-mini-2025-04-16", "gpt-5", "gpt-5.2-pro", "openai/gpt-5-mini"] {
            assert!(Target::guess(Dialect::OpenAiChat, name).reasoning_only, "{name}");
        }
        for name in ["gpt-4o", "gpt-5-chat-latest", "openchat", "olmo-2", "gpt-4.1-nano"] {
            assert!(!Target::guess(Dialect::OpenAiChat, name).reasoning_only, "{name}");
        }
    }
}
