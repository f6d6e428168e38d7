use super::*;
use crate::meaning::{NanoUsd, Tier, Usage};

/// Dearer than any model that anybody offers: $2,000 for a million tokens. What is more is a slip of the pen.
const INSANE: u64 = 2_000_000_000;

fn rates(tariff: &Tariff) -> impl Iterator<Item = Prices> {
    let tiers = [Some(tariff.standard), tariff.flex, tariff.priority, tariff.batch];
    tiers.into_iter().flatten().flat_map(|rates| [Some(rates.prices), rates.above.map(|above| above.prices)]).flatten()
}

#[test]
fn the_built_in_file_is_sound_and_every_row_tells_its_source_and_date() {
    let text = BUILT_IN.lines().filter(|line| line.starts_with("{\""));
    let rows: Vec<Row> =
        text.map(|line| serde_json::from_str(line.trim_end_matches(',')).expect("a row is a line")).collect();
    let mut keys: Vec<_> = rows.iter().map(|row| (row.provider.clone(), row.model.clone())).collect();
    let sorted = keys.clone();
    keys.sort();
    assert_eq!(keys, sorted, "the file is sorted: two edits of it merge");
    let catalogue = Catalogue::built_in();
    assert_eq!(catalogue.models().len(), rows.len());
    for model in catalogue.models() {
        let name = format!("{} {}", model.provider, model.model);
        assert!(model.source.starts_with("https://"), "{name}");
        assert!(model.date.len() == 10 && *model.date <= *catalogue.release, "{name}");
        assert!(model.context.unwrap() > 0 && model.output.unwrap_or(1) <= model.context.unwrap(), "{name}");
        assert!(model.longest_prompt() <= model.context, "{name}");
        assert!(!model.takes.is_empty() && !model.gives.is_empty(), "{name}");
        assert!(model.until.as_ref().is_none_or(|until| until.len() == 10), "{name}");
        let embeds = model.gives == ["embedding"];
        for prices in rates(model.tariff.as_ref().unwrap()) {
            assert!(prices.input > 0 && prices.input < INSANE, "{name}");
            assert!((prices.output > 0 || embeds) && prices.output < INSANE, "{name}");
            assert!(prices.cache_read.unwrap_or(0) <= prices.input, "{name}: a cache that costs more than none");
            assert!(prices.cache_write_5m.unwrap_or(0) <= 2 * prices.input, "{name}");
        }
    }
}

#[test]
fn at_least_a_hundred_models_are_offered_on_the_day_of_the_release() {
    let catalogue = Catalogue::built_in();
    let offered = |model: &&Arc<Model>| model.until.as_ref().is_none_or(|until| *until > catalogue.release);
    let offered: Vec<_> = catalogue.models().iter().filter(offered).collect();
    let agreed = offered.iter().filter(|model| model.agreed).count();
    println!("catalogue {}: {} models offered, of {agreed} two tables agree", catalogue.release(), offered.len());
    assert!(offered.len() >= 100 && agreed >= 100);
}

#[test]
fn line_17_a_row_has_tiers_of_service_and_prices_of_long_prompts() {
    let pro = Catalogue::built_in().find("gemini", "gemini-2.5-pro").unwrap().tariff.clone().unwrap();
    let cost = |input, tier| pro.cost(&Usage { input, tier, ..Usage::default() });
    assert_eq!(cost(200_000, Tier::Standard), NanoUsd(250_000_000), "$1.25 for a million");
    assert_eq!(cost(200_001, Tier::Standard), NanoUsd(200_001 * 2_500), "$2.50 beyond 200,000");
    assert_eq!(cost(1_000_000, Tier::Priority), NanoUsd(4_500_000_000));
    assert_eq!(cost(1_000, Tier::Flex), NanoUsd(625_000));
}

#[test]
fn a_model_is_found_at_its_provider_and_by_its_dated_names_too() {
    let catalogue = Catalogue::built_in();
    for name in ["gpt-5.4", "gpt-5.4-latest", "gpt-5.4-2030-01-02"] {
        assert_eq!(catalogue.find("openai", name).map(|model| model.model.as_str()), Some("gpt-5.4"), "{name}");
    }
    assert!(catalogue.find("anthropic", "claude-sonnet-4-5-20250929").is_some_and(|model| model.can("tools")));
    assert!(catalogue.find("vllm", "gpt-5.4").is_none(), "one's own machine is not billed by OpenAI's list");
    for name in ["gpt-4o-mini-x", "", "é-20250929x", "-20250929", "unknown"] {
        assert!(catalogue.find("openai", name).is_none(), "{name}");
    }
}

#[test]
fn a_row_of_ones_own_replaces_what_it_says_of_the_built_in_one() {
    let prices = Prices { input: 1_000_000, output: 2_000_000, ..Prices::default() };
    let tariff = Tariff { standard: Rates { prices, above: None }, ..Tariff::default() };
    let own = Model { tariff: Some(Arc::new(tariff)), date: "2027-01-01".into(), ..Model::named("openai", "gpt-4o") };
    let any = Model { context: Some(9), ..Model::named("", "llama") };
    let catalogue = Catalogue::built_in().overridden(vec![own, any]);
    let found = catalogue.find("openai", "gpt-4o-2024-08-06").unwrap();
    assert_eq!(found.model, "gpt-4o-2024-08-06", "an exact row is worth more");
    let found = catalogue.find("openai", "gpt-4o").unwrap();
    let usage = Usage { input: 2, output: 1, ..Usage::default() };
    assert_eq!(found.tariff.as_ref().unwrap().cost(&usage), NanoUsd(4_000));
    assert_eq!((found.context, found.date.as_str(), found.agreed), (Some(128_000), "2027-01-01", false));
    assert_eq!(catalogue.find("vllm", "llama").unwrap().context, Some(9));
    assert!(Catalogue::parse(&BUILT_IN.replacen("\"version\": 2", "\"version\": 3", 1)).is_err());
    assert!(Catalogue::parse(&BUILT_IN.replacen("\"context\"", "\"contxt\"", 1)).is_err());
}
