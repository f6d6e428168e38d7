//! serde's errors, in the words of a document's author, with the place where they arose.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::address;
use crate::problem::did_you_mean;
use crate::tree::{Mark, Node};

#[derive(Debug, Default)]
pub(super) struct Fault {
    pub(super) reason: String,
    pub(super) hint: Option<String>,
    /// The innermost value that was being read.
    pub(super) node: Option<usize>,
    pub(super) mark: Option<Mark>,
    pub(super) missing: Option<&'static str>,
    /// It only follows from something that was said already.
    pub(super) consequence: bool,
}

impl Fault {
    /// The first to know the place says it.
    pub(super) fn at(mut self, node: &Node) -> Self {
        if self.node.is_none() {
            self.node = Some(address(node));
            self.mark = Some(node.mark);
        }
        self
    }
}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // Our own types put a hint behind a line end.
        let text = message.to_string();
        let (reason, hint) = text.split_once('\n').map_or((text.as_str(), None), |(reason, hint)| (reason, Some(hint)));
        Self { reason: reason.to_owned(), hint: hint.map(str::to_owned), ..Self::default() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Str(text) => format!("the text `{}`", short(text)),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a map".to_owned(),
            other => other.to_string(),
        };
        let expected = expected.to_string();
        let expected = match expected.strip_prefix("struct ") {
            Some(_) => "a map with fields",
            None => match &*expected {
                "a sequence" => "a list",
                "a string" => "a text",
                "u16" => "a whole number from 0 to 65535",
                "u32" => "a whole number from 0 to 4294967295",
                "u64" => "a whole number, not negative",
                "i32" => "a whole number",
                "a boolean" => "`true` or `false`",
                other => other,
            },
        };
        Self { reason: format!("expected {expected}, found {found}"), ..Self::default() }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let near = did_you_mean(variant, expected.iter().copied());
        let words = expected.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        Self { reason: format!("unknown word `{}`, expected {words}", short(variant)), hint: near, ..Self::default() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let near = did_you_mean(field, expected.iter().copied());
        Self { reason: format!("unknown field `{}`", short(field)), hint: near, ..Self::default() }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { reason: format!("`{field}` is missing"), missing: Some(field), ..Self::default() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

/// At most 40 characters of what somebody wrote.
pub(crate) fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
