//! Models and what is known of them: a data file, each row with its source and date. Prices change; whoever runs a gate
//! overrides rows in the document, without a new binary.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;

use crate::Dialect;
use crate::json::Malformed;
use crate::price::{Above, Prices, Rates, Tariff};

/// What this build knows.
pub const BUILT_IN: &str = include_str!("../data/models.json");
/// The format of the file.
const VERSION: u32 = 2;

#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// When the built-in rows were written: `2026-11-20`.
    release: String,
    /// Sorted by provider and model, each once.
    models: Vec<Arc<Model>>,
}

/// One model at one kind of provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The kind of provider, as documents name it: `openai`. Empty: any, where no row of its own says more.
    pub provider: String,
    /// The provider's name for it.
    pub model: String,
    pub dialect: Option<Dialect>,
    /// The most tokens, prompt and answer together.
    pub context: Option<u64>,
    /// The most tokens of a prompt, where that is less.
    pub input: Option<u64>,
    /// The most tokens of an answer, where the provider names a limit.
    pub output: Option<u64>,
    /// What it reads and writes: `text`, `image`, `audio`, `video`, `pdf`, `embedding`.
    pub takes: Vec<String>,
    pub gives: Vec<String>,
    /// `tools`, `vision`, `json_schema`, `reasoning`, `prompt_cache`.
    pub can: Vec<String>,
    /// `None`: nobody said what it costs.
    pub tariff: Option<Arc<Tariff>>,
    /// Two tables that were made apart told the same prices when the row was written.
    pub agreed: bool,
    /// The provider no longer serves it from this day on.
    pub until: Option<String>,
    /// Where the provider tells its prices.
    pub source: String,
    /// When the row was true: `2026-11-20`.
    pub date: String,
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    provider: String,
    model: String,
    #[serde(deserialize_with = "dialect")]
    dialect: Dialect,
    context: u64,
    input: Option<u64>,
    output: Option<u64>,
    takes: Vec<String>,
    gives: Vec<String>,
    can: Vec<String>,
    prices: Prices,
    above: Option<Above>,
    #[serde(default)]
    tiers: Tiers,
    agreed: bool,
    until: Option<String>,
    source: String,
    date: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tiers {
    flex: Option<Rates>,
    priority: Option<Rates>,
    batch: Option<Rates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    release: String,
    models: Vec<Row>,
}

impl Catalogue {
    /// Read once, when it is first asked for.
    pub fn built_in() -> &'static Self {
        static READ: OnceLock<Catalogue> = OnceLock::new();
        READ.get_or_init(|| Self::parse(BUILT_IN).expect("a test reads the file that is built in"))
    }

    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let file: File = serde_json::from_str(text).map_err(|e| Malformed::new("", e.to_string()))?;
        if file.version != VERSION {
            return Err(Malformed::new("version", format!("is not {VERSION}, the only one this build reads")));
        }
        let mut models: Vec<_> = file.models.into_iter().map(|row| Arc::new(Model::from(row))).collect();
        models.sort_by(|a, b| a.key().cmp(&b.key()));
        if let Some(pair) = models.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            return Err(Malformed::new(format!("models.{}", pair[0].model), "is given twice"));
        }
        Ok(Self { release: file.release, models })
    }

    /// These rows stand for those of the same provider and model; what they do not say, the others still do.
    #[must_use]
    pub fn overridden(&self, rows: Vec<Model>) -> Self {
        let mut models = self.models.clone();
        for row in rows {
            match models.binary_search_by(|known| known.key().cmp(&row.key())) {
                Ok(at) => models[at] = Arc::new(row.over(&models[at])),
                Err(at) => models.insert(at, Arc::new(row)),
            }
        }
        Self { release: self.release.clone(), models }
    }

    /// By its name at a kind of provider, or by its name without a date (`gpt-4o-2024-08-06`). Rows of any provider come
    /// last.
    pub fn find(&self, provider: &str, name: &str) -> Option<&Arc<Model>> {
        [provider, ""]
            .into_iter()
            .find_map(|provider| self.exact(provider, name).or_else(|| self.exact(provider, undated(name)?)))
    }

    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    pub fn release(&self) -> &str {
        &self.release
    }

    fn exact(&self, provider: &str, name: &str) -> Option<&Arc<Model>> {
        let at = self.models.binary_search_by(|model| model.key().cmp(&(provider, name))).ok()?;
        self.models.get(at)
    }
}

impl Model {
    /// Of which only the names are known.
    pub fn named(provider: &str, model: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            model: model.to_owned(),
            dialect: None,
            context: None,
            input: None,
            output: None,
            takes: Vec::new(),
            gives: Vec::new(),
            can: Vec::new(),
            tariff: None,
            agreed: false,
            until: None,
            source: String::new(),
            date: String::new(),
        }
    }

    pub fn can(&self, capability: &str) -> bool {
        self.can.iter().any(|known| known == capability)
    }

    /// The most tokens of a prompt.
    pub fn longest_prompt(&self) -> Option<u64> {
        self.input.or(self.context)
    }

    fn key(&self) -> (&str, &str) {
        (&self.provider, &self.model)
    }

    fn over(self, known: &Self) -> Self {
        let list = |own: Vec<String>, known: &Vec<String>| if own.is_empty() { known.clone() } else { own };
        let text = |own: String, known: &String| if own.is_empty() { known.clone() } else { own };
        Self {
            // A price of one's own is as old as one says, and nobody agreed to it.
            agreed: self.tariff.is_none() && known.agreed,
            date: if self.tariff.is_some() { self.date } else { text(self.date, &known.date) },
            source: if self.tariff.is_some() { self.source } else { text(self.source, &known.source) },
            dialect: self.dialect.or(known.dialect),
            context: self.context.or(known.context),
            input: self.input.or(known.input.filter(|_| self.context.is_none())),
            output: self.output.or(known.output),
            takes: list(self.takes, &known.takes),
            gives: list(self.gives, &known.gives),
            can: list(self.can, &known.can),
            tariff: self.tariff.or_else(|| known.tariff.clone()),
            until: self.until.or_else(|| known.until.clone()),
            provider: self.provider,
            model: self.model,
        }
    }
}

impl From<Row> for Model {
    fn from(row: Row) -> Self {
        let Tiers { flex, priority, batch } = row.tiers;
        let standard = Rates { prices: row.prices, above: row.above };
        Self {
            provider: row.provider,
            model: row.model,
            dialect: Some(row.dialect),
            context: Some(row.context),
            input: row.input,
            output: row.output,
            takes: row.takes,
            gives: row.gives,
            can: row.can,
            tariff: Some(Arc::new(Tariff { standard, flex, priority, batch })),
            agreed: row.agreed,
            until: row.until,
            source: row.source,
            date: row.date,
        }
    }
}

/// Without `-2024-08-06`, `-20250929`, `@20250929` or `-latest`.
fn undated(name: &str) -> Option<&str> {
    let digits = |text: &str, pattern: &[usize]| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() == pattern.len()
            && parts.iter().zip(pattern).all(|(part, n)| part.len() == *n && part.bytes().all(|b| b.is_ascii_digit()))
    };
    name.strip_suffix("-latest").or_else(|| {
        [(11, &[4, 2, 2][..]), (9, &[8][..])].into_iter().find_map(|(length, pattern)| {
            let (front, date) = name.split_at_checked(name.len().checked_sub(length)?)?;
            digits(date.strip_prefix(['-', '@'])?, pattern).then_some(front)
        })
    })
}

fn dialect<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Dialect, D::Error> {
    let name = String::deserialize(from)?;
    let known = Dialect::ALL.into_iter().find(|dialect| dialect.name() == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no dialect")))
}

#[cfg(test)]
mod tests;
