//! A document's text as a tree in which everything knows its line. YAML and JSON become the same tree; folders of files
//! become one. Knows nothing about what the fields mean.

use crate::problem::{Problem, Severity};

mod json;
mod merge;
mod yaml;

pub(crate) use merge::merge;

/// More values than this in one document (aliases expanded) are refused: an alias bomb.
const MAX_NODES: usize = 2_000_000;
/// Deeper nesting is refused, so that walking a tree needs little stack.
const MAX_DEPTH: usize = 48;

/// Where a value begins: the file's number among the sources, line and column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    pub(crate) file: u32,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Scalar {
        text: String,
        /// Without quotes: `5` may be a number.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) mark: Mark,
    pub(crate) text: String,
}

impl Node {
    pub(crate) fn field(&self, name: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }
}

/// The text cannot be read at all.
pub(crate) struct Unreadable {
    pub(crate) mark: Mark,
    pub(crate) reason: String,
    hint: Option<&'static str>,
}

impl Unreadable {
    fn new(mark: Mark, reason: impl Into<String>) -> Self {
        Self { mark, reason: reason.into(), hint: None }
    }

    fn hinted(self, hint: Option<&'static str>) -> Self {
        Self { hint, ..self }
    }

    pub(crate) fn problem(self, file: Option<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            path: String::new(),
            file,
            line: Some(self.mark.line.max(1)),
            column: Some(self.mark.column.max(1)),
            reason: self.reason,
            hint: self.hint.map(str::to_owned),
        }
    }
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// JSON when it begins like an object and reads as one; otherwise YAML.
    #[default]
    Auto,
    Yaml,
    Json,
}

pub(crate) fn read(bytes: &[u8], format: Format, file: u32) -> Result<Node, Unreadable> {
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to(), file))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match format {
        Format::Json => json::read(text, file),
        Format::Yaml => yaml::read(text, file),
        Format::Auto if text.trim_start().starts_with('{') => json::read(text, file).or_else(|as_json| {
            // `{a: b}` is YAML. When it is neither, the JSON reader's complaint fits better what was meant.
            yaml::read(text, file).map_err(|_| as_json)
        }),
        Format::Auto => yaml::read(text, file),
    }
}

fn not_utf8(bytes: &[u8], at: usize, file: u32) -> Unreadable {
    let before = &bytes[..at];
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Unreadable::new(Mark { file, line: count(line), column: count(column) }, "the text is not UTF-8")
}
