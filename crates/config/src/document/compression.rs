//! What is compressed on its way to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Size;

/// Answers are compressed for clients that ask for it (`Accept-Encoding`). `compression: {}` is a start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CompressionRule {
    /// What is offered: a client that likes several equally gets the first. Empty: nothing is compressed. Default: [zstd, br, gzip].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithms: Option<Vec<Algorithm>>,
    /// A body that is known to be shorter stays as it is. Default: 1KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_size: Option<Size>,
    /// Media types: `application/json`, `text/*`, `application/*+json`. `text/event-stream` only where it is named itself; its
    /// events are flushed one by one. Default: text, JSON, XML, JavaScript, WebAssembly, SVG and fonts that are not compressed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Algorithm {
    Zstd,
    Br,
    Gzip,
}
