//! `tidegate catalogue`: what this build knows of models; what a document says of them stands in the document.

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_llm::catalogue::{Catalogue, Model};
use tidegate_llm::price::{Above, Prices};

use super::Output;
use super::exit::Exit;
use super::print::{self, csv};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List models, what they can and what they cost
    Ls(List),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this kind of provider, as `openai`
    #[arg(long, value_name = "KIND")]
    provider: Option<String>,
    /// Only models whose names hold this
    name: Option<String>,
}

const COLUMNS: [&str; 12] = [
    "provider",
    "model",
    "context",
    "output",
    "can",
    "input",
    "cache_read",
    "cache_write",
    "output_price",
    "until",
    "source",
    "date",
];

pub(super) fn run(verb: &Verb, output: Output) -> Exit {
    let Verb::Ls(List { provider, name }) = verb;
    let wanted = |model: &Model| {
        provider.as_ref().is_none_or(|kind| model.provider == *kind)
            && name.as_ref().is_none_or(|name| model.model.contains(name.as_str()))
    };
    let catalogue = Catalogue::built_in();
    let models: Vec<&Model> = catalogue.models().iter().map(|model| &**model).filter(|model| wanted(model)).collect();
    match output {
        Output::Json => print::json(&json!({
            "release": catalogue.release(),
            "models": models.iter().map(|model| as_json(model)).collect::<Vec<_>>(),
        })),
        Output::Csv => {
            csv(&COLUMNS.map(str::to_owned));
            models.iter().for_each(|model| csv(&row(model)));
        }
        Output::Table | Output::Yaml => {
            // Where it stands and since when is for programs: a line that wraps is no table.
            let rows = models.iter().map(|model| row(model)[..10].to_vec()).collect();
            print::table(&COLUMNS[..10], rows);
            let about = format!("\ncatalogue of {}; prices in dollars for a million tokens", catalogue.release());
            print::line(&about);
        }
    }
    Exit::Ok
}

fn prices(model: &Model) -> Prices {
    model.tariff.as_ref().map(|tariff| tariff.standard.prices).unwrap_or_default()
}

/// Micro-dollars as dollars.
fn dollars(micro: u64) -> String {
    let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn row(model: &Model) -> Vec<String> {
    let prices = prices(model);
    let maybe = |price: Option<u64>| price.map(dollars).unwrap_or_default();
    vec![
        model.provider.clone(),
        model.model.clone(),
        model.context.map(|tokens| tokens.to_string()).unwrap_or_default(),
        model.output.map(|tokens| tokens.to_string()).unwrap_or_default(),
        model.can.join(" "),
        dollars(prices.input),
        maybe(prices.cache_read),
        maybe(prices.cache_write_5m),
        dollars(prices.output),
        model.until.clone().unwrap_or_default(),
        model.source.clone(),
        model.date.clone(),
    ]
}

/// In the words of the document's `catalogue`.
fn as_json(model: &Model) -> serde_json::Value {
    let of = |prices: &Prices| {
        let maybe = |price: Option<u64>| price.map(dollars);
        let mut told = json!({"input": dollars(prices.input), "output": dollars(prices.output)});
        let classes = [
            ("cache_read", prices.cache_read),
            ("cache_write_5m", prices.cache_write_5m),
            ("cache_write_1h", prices.cache_write_1h),
            ("audio_in", prices.audio_in),
            ("image_in", prices.image_in),
            ("reasoning", prices.reasoning),
            ("audio_out", prices.audio_out),
            ("image_out", prices.image_out),
        ];
        for (name, price) in classes {
            if let Some(price) = maybe(price) {
                told[name] = price.into();
            }
        }
        told
    };
    let mut price = of(&prices(model));
    if let Some(tariff) = &model.tariff {
        let long =
            |above: Option<Above>| above.map(|above| json!({"prompt": above.prompt, "price": of(&above.prices)}));
        if let Some(above) = long(tariff.standard.above) {
            price["above"] = above;
        }
        for (name, tier) in [("flex", tariff.flex), ("priority", tariff.priority), ("batch", tariff.batch)] {
            if let Some(rates) = tier {
                price[name] = of(&rates.prices);
                if let Some(above) = long(rates.above) {
                    price[name]["above"] = above;
                }
            }
        }
    }
    json!({
        "provider": model.provider, "model": model.model, "context": model.context, "max_input": model.input,
        "max_output": model.output, "takes": model.takes, "gives": model.gives, "can": model.can, "price": price,
        "source": model.source, "date": model.date,
    })
}
