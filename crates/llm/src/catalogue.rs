//! Models and what is known of them: a data file, each row with its source and date. Prices change; whoever runs a gate
//! overrides rows or replaces the file.

use serde::Deserialize;

use crate::Dialect;
use crate::json::Malformed;
use crate::price::{Above, Prices, Tariff};

/// What this build knows.
pub const BUILT_IN: &str = include_str!("../data/models.json");

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Sorted by name.
    models: Vec<Model>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub model: String,
    pub provider: String,
    #[serde(deserialize_with = "dialect")]
    pub dialect: Dialect,
    /// Tokens, prompt and answer together.
    pub context: u64,
    /// The most tokens of an answer, where the provider names a limit.
    pub output: Option<u64>,
    pub modalities: Vec<String>,
    pub capabilities: Vec<String>,
    prices: Prices,
    above: Option<Above>,
    pub source: String,
    /// When the row was true: `2025-08`.
    pub date: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    models: Vec<Model>,
}

impl Catalogue {
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("a test reads the file that is built in")
    }

    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let file: File = serde_json::from_str(text).map_err(|e| Malformed::new("", e.to_string()))?;
        if file.version != 1 {
            return Err(Malformed::new("version", "is not 1, the only one this build reads"));
        }
        let mut models = file.models;
        models.sort_by(|a, b| a.model.cmp(&b.model));
        if let Some(pair) = models.windows(2).find(|pair| pair[0].model == pair[1].model) {
            return Err(Malformed::new(format!("models.{}", pair[0].model), "is given twice"));
        }
        Ok(Self { models })
    }

    /// Rows of `other` stand for those of the same name.
    pub fn overridden(mut self, other: Self) -> Self {
        self.models.retain(|model| !other.models.iter().any(|new| new.model == model.model));
        self.models.extend(other.models);
        self.models.sort_by(|a, b| a.model.cmp(&b.model));
        self
    }

    /// By its name, or by the name without its date (`gpt-4o-2024-08-06`) or its maker (`openai/gpt-4o`).
    pub fn find(&self, name: &str) -> Option<&Model> {
        let bare = name.rsplit('/').next().unwrap_or(name);
        [name, bare].into_iter().find_map(|name| self.exact(name).or_else(|| self.exact(undated(name)?)))
    }

    pub fn models(&self) -> &[Model] {
        &self.models
    }

    fn exact(&self, name: &str) -> Option<&Model> {
        let at = self.models.binary_search_by(|model| model.model.as_str().cmp(name)).ok()?;
        self.models.get(at)
    }
}

impl Model {
    pub fn tariff(&self) -> Tariff {
        Tariff { prices: self.prices, above: self.above }
    }

    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }
}

/// Without `-2024-08-06`, `-20250929` or `-latest`.
fn undated(name: &str) -> Option<&str> {
    let digits = |text: &str, pattern: &[usize]| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() == pattern.len()
            && parts.iter().zip(pattern).all(|(part, n)| part.len() == *n && part.bytes().all(|b| b.is_ascii_digit()))
    };
    name.strip_suffix("-latest").or_else(|| {
        [(11, &[4, 2, 2][..]), (9, &[8][..])].into_iter().find_map(|(length, pattern)| {
            let (front, date) = name.split_at_checked(name.len().checked_sub(length)?)?;
            digits(date.strip_prefix('-')?, pattern).then_some(front)
        })
    })
}

fn dialect<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Dialect, D::Error> {
    let name = String::deserialize(from)?;
    let known = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no dialect")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meaning::{NanoUsd, Usage};

    #[test]
    fn the_built_in_file_is_sound_and_every_row_tells_its_source_and_date() {
        let catalogue = Catalogue::built_in();
        println!("catalogue: {} models", catalogue.models().len());
        for model in catalogue.models() {
            assert!(model.source.starts_with("https://") && model.date.len() == 7, "{}", model.model);
            assert!(model.context > 0 && model.prices.input > 0 && model.prices.output > 0, "{}", model.model);
            assert!(model.prices.cache_read.unwrap_or(0) <= model.prices.input, "{}", model.model);
            assert!(model.output.unwrap_or(1) <= model.context, "{}", model.model);
        }
    }

    #[test]
    fn a_model_is_found_by_its_dated_names_too() {
        let catalogue = Catalogue::built_in();
        for name in ["gpt-4o", "gpt-4o-2024-08-06", "openai/gpt-4o", "gpt-4o-latest"] {
            assert_eq!(catalogue.find(name).map(|model| model.model.as_str()), Some("gpt-4o"), "{name}");
        }
        assert!(catalogue.find("claude-sonnet-4-5-20250929").is_some_and(|model| model.can("tools")));
        for name in ["gpt-4o-mini-x", "", "é-20250929x", "-20250929", "unknown"] {
            assert!(catalogue.find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_row_of_ones_own_replaces_the_built_in_one() {
        let own = r#"{"version":1,"models":[{"model":"gpt-4o","provider":"us","dialect":"openai_chat","context":9,
            "modalities":["text"],"capabilities":[],"prices":{"input":1000000,"output":2000000},"source":"https://x","date":"2026-01"}]}"#;
        let catalogue = Catalogue::built_in().overridden(Catalogue::parse(own).unwrap());
        let usage = Usage { input: 2, output: 1, ..Usage::default() };
        assert_eq!(catalogue.find("gpt-4o").unwrap().tariff().cost(&usage), NanoUsd(4_000));
        assert!(Catalogue::parse(&own.replace("\"version\":1", "\"version\":2")).is_err());
        assert!(Catalogue::parse(&own.replace("\"context\":9", "\"contxt\":9")).is_err());
    }
}
