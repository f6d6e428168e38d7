//! What models cost and can do: the built-in catalogue, and what the document says otherwise.

use std::collections::HashSet;
use std::sync::Arc;

use tidegate_llm::catalogue::{Catalogue, Model};
use tidegate_llm::price::{Above, Prices, Rates, Tariff};
use tidegate_policy::{Facts, Known, ProviderKind};

use super::{Report, llm};
use crate::decode::short;
use crate::document::{AboveRule, CatalogueRow, PriceRule};
use crate::path::Path;
use crate::units::Money;

const MAX_ROWS: usize = 10_000;
const MAX_NAME: usize = 256;
const MAX_WORDS: usize = 32;
/// Dollars for a million tokens. Nobody asks for so much.
const DEAREST: u64 = 1_000_000;

pub(super) fn compile(rows: &[CatalogueRow], report: &Report<'_>) -> Arc<Catalogue> {
    let list = Path::Root.field("catalogue");
    if rows.len() > MAX_ROWS {
        report.error(&list, format!("at most {MAX_ROWS} rows"));
    }
    let mut seen = HashSet::new();
    let mut models = Vec::new();
    for (i, row) in rows.iter().enumerate().take(MAX_ROWS) {
        let path = list.item(i);
        if !seen.insert(row.key()) {
            report.hinted(&path, format!("`{}` has a row already", short(&row.key())), "make them one");
        }
        models.push(one(row, &path, report));
    }
    Arc::new(Catalogue::built_in().overridden(models))
}

fn one(row: &CatalogueRow, path: &Path<'_>, report: &Report<'_>) -> Model {
    let CatalogueRow { model, provider, context, max_input, max_output, takes, gives, can, price, source, date } = row;
    if model.is_empty() || model.len() > MAX_NAME || model.contains(char::is_control) {
        report.error(&path.field("model"), "1 to 256 characters, none of them a control character");
    }
    for (value, field) in [(context, "context"), (max_input, "max_input"), (max_output, "max_output")] {
        if *value == Some(0) {
            report.error(&path.field(field), "at least 1");
        }
    }
    for (words, field) in [(takes, "takes"), (gives, "gives"), (can, "can")] {
        if words.len() > MAX_WORDS || words.iter().any(|word| word.is_empty() || word.len() > MAX_WORDS) {
            report.error(&path.field(field), format!("at most {MAX_WORDS} words of 1 to {MAX_WORDS} bytes"));
        }
    }
    Model {
        context: *context,
        input: *max_input,
        output: *max_output,
        takes: takes.clone(),
        gives: gives.clone(),
        can: can.clone(),
        tariff: price.as_ref().and_then(|price| tariff(price, &path.field("price"), report)).map(Arc::new),
        source: source.clone().unwrap_or_default(),
        date: date.clone().unwrap_or_default(),
        ..Model::named(provider.map_or("", |kind| llm::kind(kind).name()), model)
    }
}

/// What is known of a deployment. `name`: what its provider calls the model, unless callers say.
pub(super) fn facts(
    (price, like): (Option<&PriceRule>, Option<&str>),
    name: Option<&str>,
    kind: ProviderKind,
    catalogue: &Arc<Catalogue>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Facts {
    let price = price.and_then(|price| tariff(price, &path.field("price"), report)).map(Arc::new);
    let known = match (like, name) {
        (Some(like), _) => Known::Row(alike(like, kind, catalogue, path, report)),
        (None, Some(name)) => Known::Row(catalogue.find(kind.name(), name).cloned()),
        (None, None) => Known::ByName(Arc::clone(catalogue)),
    };
    Facts { price, known }
}

fn alike(
    like: &str,
    kind: ProviderKind,
    catalogue: &Catalogue,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Arc<Model>> {
    let (of, name) = like.split_once('/').unwrap_or((kind.name(), like));
    let found = catalogue.find(of, name).or_else(|| catalogue.find(kind.name(), like));
    if found.is_none() {
        let reason = format!("the catalogue has no model `{}`", short(like));
        report.hinted(&path.field("like"), reason, "write `openai/gpt-4o`; `tidegate catalogue ls` lists them");
    }
    found.cloned()
}

fn tariff(rule: &PriceRule, path: &Path<'_>, report: &Report<'_>) -> Option<Tariff> {
    let standard = rates(rule, path, report)?;
    let tier = |of: &Option<Box<PriceRule>>, name| {
        let (rule, path) = (of.as_deref()?, path.field(name));
        if rule.flex.is_some() || rule.priority.is_some() || rule.batch.is_some() {
            report.error(&path, "a tier has no tiers");
        }
        rates(rule, &path, report)
    };
    let (flex, priority) = (tier(&rule.flex, "flex"), tier(&rule.priority, "priority"));
    Some(Tariff { standard, flex, priority, batch: tier(&rule.batch, "batch") })
}

fn rates(rule: &PriceRule, path: &Path<'_>, report: &Report<'_>) -> Option<Rates> {
    let above = rule.above.as_ref().and_then(|AboveRule { prompt, price }| {
        let path = path.field("above");
        if *prompt == 0 {
            report.error(&path.field("prompt"), "at least 1");
        }
        let path = path.field("price");
        if price.above.is_some() || price.flex.is_some() || price.priority.is_some() || price.batch.is_some() {
            report.error(&path, "only prices of classes: tiers of service have an `above` of their own");
        }
        Some(Above { prompt: *prompt, prices: prices(price, &path, report)? })
    });
    Some(Rates { prices: prices(rule, path, report)?, above })
}

fn prices(rule: &PriceRule, path: &Path<'_>, report: &Report<'_>) -> Option<Prices> {
    let PriceRule {
        input,
        output,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        audio_in,
        image_in,
        reasoning,
        audio_out,
        image_out,
        above: _,
        flex: _,
        priority: _,
        batch: _,
    } = rule;
    let micro = |money: &Money, field| {
        let sane = money.0 <= DEAREST * 1_000_000_000 && money.0.is_multiple_of(1_000);
        if !sane {
            let reason = format!("at most {DEAREST} dollars for a million tokens, with up to 6 decimals");
            report.hinted(&path.field(field), reason, "write `2.50`");
        }
        sane.then_some(money.0 / 1_000)
    };
    let maybe = |money: &Option<Money>, field| money.as_ref().and_then(|money| micro(money, field));
    let (input, output) = (micro(input, "input"), micro(output, "output"));
    Some(Prices {
        input: input?,
        output: output?,
        cache_read: maybe(cache_read, "cache_read"),
        cache_write_5m: maybe(cache_write_5m, "cache_write_5m"),
        cache_write_1h: maybe(cache_write_1h, "cache_write_1h"),
        audio_in: maybe(audio_in, "audio_in"),
        image_in: maybe(image_in, "image_in"),
        reasoning: maybe(reasoning, "reasoning"),
        audio_out: maybe(audio_out, "audio_out"),
        image_out: maybe(image_out, "image_out"),
    })
}
