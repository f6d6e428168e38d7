//! What is kept of calls of language models: answers that are given again, and bodies that are logged.

use std::sync::Arc;

use regex::Regex;

use crate::cache::Cache;

/// Whole answers that are given again to whoever asks exactly the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// How long, for whom, and how large: the rules of the tiers that keep them.
    pub store: Arc<Cache>,
    /// Ends of answers that are kept: `stop`, `tool_calls`, `length`, `content_filter`.
    pub finish: Vec<&'static str>,
    /// Only calls without temperature, or with a seed.
    pub deterministic: bool,
}

/// Which bodies of calls are logged, and what of them is not.
#[derive(Debug, Clone)]
pub struct Bodies {
    /// Bytes of each, as logged.
    pub max: usize,
    pub calls: bool,
    pub answers: bool,
    /// Members that are left out, by their paths.
    pub without: Vec<Vec<Step>>,
    /// Text that is left out.
    pub patterns: Vec<Regex>,
}

/// A step into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of this name, or the item of this number.
    Named(Box<str>),
    /// Any member or item.
    Any,
}
