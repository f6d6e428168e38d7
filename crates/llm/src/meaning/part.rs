//! What a message is made of.

use serde_json::{Map, Value};

use crate::Dialect;
use crate::signature::Signature;

#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub body: Body,
    /// "Everything up to here is worth caching."
    pub cache: Option<CacheHint>,
    /// Fields of this part that only the dialect it came from knows.
    pub extras: Map<String, Value>,
}

impl Part {
    pub fn text(text: impl Into<String>) -> Self {
        Body::Text(text.into()).into()
    }

    pub fn cached(mut self, cache: Option<CacheHint>) -> Self {
        self.cache = cache;
        self
    }

    /// Text, or a document given as text.
    pub fn as_plain(&self) -> Option<&str> {
        match &self.body {
            Body::Text(text) | Body::Media(Media { source: Source::Plain { text, .. }, .. }) => Some(text),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.body {
            Body::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<Body> for Part {
    fn from(body: Body) -> Self {
        Self { body, cache: None, extras: Map::new() }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Text(String),
    Media(Media),
    ToolCall(ToolCall),
    ToolResult(ToolResult),
    /// Thoughts, in the open or only summed up; replayable to their maker if signed.
    Reasoning {
        text: String,
        signature: Option<Signature>,
    },
    /// Thoughts that only their maker can read.
    Redacted(Signature),
    Refusal(String),
    /// A block that only one dialect knows, as it wrote it.
    Foreign {
        dialect: Dialect,
        value: Value,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    pub kind: MediaKind,
    pub source: Source,
    pub name: Option<String>,
    /// OpenAI's `detail` of images.
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    Image,
    Audio,
    Video,
    Document,
}

impl MediaKind {
    pub fn of_type(media_type: &str) -> Self {
        match media_type.split('/').next() {
            Some("image") => Self::Image,
            Some("audio") => Self::Audio,
            Some("video") => Self::Video,
            _ => Self::Document,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Base64 stays base64: every dialect writes it so, nobody needs to look inside.
    Base64 {
        media_type: String,
        data: String,
    },
    Url {
        url: String,
        media_type: Option<String>,
    },
    /// A document given as plain text.
    Plain {
        media_type: String,
        text: String,
    },
    /// A file stored at one provider.
    File {
        dialect: Dialect,
        id: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// JSON text of an object, as far as it arrived.
    pub arguments: String,
    /// Gemini wants its thoughts back with the call.
    pub signature: Option<Signature>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    pub id: String,
    /// Gemini names the function again; others only the call's id.
    pub name: Option<String>,
    pub content: Vec<Part>,
    pub is_error: bool,
}

impl ToolResult {
    /// What it says; a text file is text.
    pub fn texts(&self) -> Vec<&str> {
        self.content.iter().filter_map(Part::as_plain).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheHint {
    Minutes5,
    Hour,
}
