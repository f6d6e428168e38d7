//! What a model said, and why it stopped.

use serde_json::{Map, Value};

use super::{Body, Part, Usage};
use crate::Dialect;

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Whose words `extras` are.
    pub dialect: Dialect,
    pub id: String,
    pub model: String,
    /// Unix seconds, where the provider tells.
    pub created: Option<u64>,
    pub parts: Vec<Part>,
    pub stop: Stop,
    pub usage: Option<Usage>,
    pub extras: Map<String, Value>,
}

impl Answer {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            id: String::new(),
            model: String::new(),
            created: None,
            parts: Vec::new(),
            stop: Stop::EndTurn,
            usage: None,
            extras: Map::new(),
        }
    }

    /// All text, in order.
    pub fn text(&self) -> String {
        self.parts.iter().filter_map(Part::as_text).collect()
    }

    pub fn has_tool_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.body, Body::ToolCall(_)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    EndTurn,
    MaxTokens,
    ToolUse,
    /// Which one, where the provider tells.
    StopSequence(Option<String>),
    /// A filter cut in: the provider's, or a guardrail.
    ContentFilter,
    /// The model said no.
    Refusal,
    /// A long turn was paused; sending it back continues it.
    Pause,
    ContextExceeded,
    /// The model wrote a call that nobody can read.
    MalformedCall,
    Other(String),
}

/// What every dialect can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gist {
    Done,
    Length,
    Tools,
    Filtered,
}

impl Stop {
    pub fn gist(&self) -> Gist {
        match self {
            Self::EndTurn | Self::StopSequence(_) | Self::Pause | Self::Other(_) => Gist::Done,
            Self::MaxTokens | Self::ContextExceeded => Gist::Length,
            Self::ToolUse => Gist::Tools,
            // Nobody else has a word for a call that cannot be read; an answer that went well it is not.
            Self::ContentFilter | Self::Refusal | Self::MalformedCall => Gist::Filtered,
        }
    }
}
