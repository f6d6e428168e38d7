//! What models cost and can do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProviderKind;
use crate::units::Money;

/// One model at one kind of provider. It stands for the built-in row of the same names; what it leaves out, that one still
/// says. Published like everything else: all nodes know it at once, and no binary is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CatalogueRow {
    /// The provider's name for it.
    pub model: String,
    /// The kind of provider. Default: any, where no row of the kind itself says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProviderKind")]
    pub provider: Option<ProviderKind>,
    /// The most tokens, prompt and answer together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub context: Option<u64>,
    /// The most tokens of a prompt, where that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_input: Option<u64>,
    /// The most tokens of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_output: Option<u64>,
    /// What it reads: `text`, `image`, `audio`, `video`, `pdf`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub takes: Vec<String>,
    /// What it writes: `text`, `image`, `audio`, `embedding`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gives: Vec<String>,
    /// `tools`, `vision`, `json_schema`, `reasoning`, `prompt_cache`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub can: Vec<String>,
    /// What it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<PriceRule>,
    /// Where that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When it was read: `2026-11-20`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
}

/// Dollars for a million tokens, as `2.50`, up to 6 decimals. What has no price of its own costs as `input` if it went in
/// and as `output` if it came out. 0 is free of charge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceRule {
    /// Prompt text that no cache knew.
    pub input: Money,
    /// Answer text.
    pub output: Money,
    /// Read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Money>,
    /// Written to a cache for five minutes, or however long the provider keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<Money>,
    /// Written to a cache for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Money>,
    /// Sound of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_in: Option<Money>,
    /// Images of the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_in: Option<Money>,
    /// Thoughts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Money>,
    /// Sound of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_out: Option<Money>,
    /// Images of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_out: Option<Money>,
    /// Of calls with longer prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<AboveRule>,
    /// Of calls that the provider says it served so. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flex: Option<Box<PriceRule>>,
    /// Of calls that the provider says it served so. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Box<PriceRule>>,
    /// Of calls that the provider says it served so. Default: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Box<PriceRule>>,
}

/// Other prices for longer prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AboveRule {
    /// Tokens of the whole prompt, cached ones included: these prices hold for calls with more.
    #[schemars(range(min = 1))]
    pub prompt: u64,
    /// Prices of classes only.
    pub price: Box<PriceRule>,
}

impl CatalogueRow {
    /// Each is in the list once.
    pub(crate) fn key(&self) -> String {
        let kind = self.provider.map(|kind| crate::compile::kind_of(kind).name());
        format!("{}/{}", kind.unwrap_or("*"), self.model)
    }
}
