//! Estimates of tokens against what real providers told: right in the middle, and never far off for most.

use std::collections::BTreeMap;

use tidegate_llm::meaning::{Answer, Usage};
use tidegate_llm::peek::peek;
#[cfg(feature = "tokenizer")]
use tidegate_llm::tokens::{self, Encoding, Said};
use tidegate_llm::{Site, estimate};

use crate::support::{Case, collect, decode, recordings};

type Ratios = BTreeMap<(&'static str, &'static str), Vec<f64>>;

#[test]
fn estimates_are_right_in_the_middle_of_what_providers_told() {
    let mut ratios = Ratios::new();
    for case in recordings("estimates").iter().filter(|case| case.status == 200) {
        let Some((answer, usage)) = told(case) else { continue };
        let (name, text) = (case.dialect.name(), answer.text());
        if usage.reasoning == 0 && usage.output > 30 && answer.parts.len() == 1 && !text.is_empty() {
            let estimate = estimate::answer(case.dialect, text.len() as u64);
            ratios.entry(("answer", name)).or_default().push(estimate as f64 / usage.output as f64);
        }
        let Some(request) = case.request.as_ref().and_then(|request| serde_json::to_vec(request).ok()) else {
            continue;
        };
        let Ok(seen) = peek(case.dialect, &request, Site { model: Some("m"), stream: case.stream }) else { continue };
        // What a provider's own tools fetched stands in no prompt.
        if !seen.has_tools && !seen.reads_more && seen.media() == 0 && usage.prompt() > 30 {
            let estimate = estimate::prompt(case.dialect, seen.prompt_bytes as u64, false);
            ratios.entry(("prompt", name)).or_default().push(estimate as f64 / usage.prompt() as f64);
        }
    }
    for ((what, dialect), mut all) in ratios {
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
        println!(
            "{what} {dialect}: {} cases, {:.2} {:.2} {:.2} of what was told",
            all.len(),
            at(0.25),
            at(0.5),
            at(0.75)
        );
        if all.len() >= 10 {
            assert!((0.6..=1.6).contains(&at(0.5)), "{what} {dialect}: {:.2} of what was told", at(0.5));
        }
    }
}

/// What models of OpenAI's were told and said, counted as they count.
#[test]
#[cfg(feature = "tokenizer")]
fn counts_are_what_providers_told_of_models_whose_encoding_is_known() {
    let (mut ratios, mut beyond) = (Ratios::new(), 0);
    for case in recordings("counts").iter().filter(|case| case.status == 200) {
        let Some((answer, usage)) = told(case) else { continue };
        let Some(encoding) = Encoding::of(&answer.model) else { continue };
        let mut said = Said::default();
        said.text(&answer.text());
        let only_text = answer.parts.len() == 1 && !answer.text().is_empty();
        if only_text && usage.reasoning == 0 && usage.output > 30 {
            ratios
                .entry(("answer", encoding.name()))
                .or_default()
                .push(said.count(encoding) as f64 / usage.output as f64);
        }
        let Some(request) = case.request.as_ref().and_then(|request| serde_json::to_vec(request).ok()) else {
            continue;
        };
        let site = Site { model: Some("m"), stream: case.stream };
        let Ok(seen) = peek(case.dialect, &request, site) else { continue };
        let Ok(counted) = tokens::prompt(case.dialect, &request, site, encoding) else { continue };
        // Several models work on such a call, and each reads it.
        let works_beside = String::from_utf8_lossy(&request).contains(r#""mode":"pro""#);
        if works_beside || !counted.surely || seen.reads_more || usage.prompt() == 0 {
            continue;
        }
        if counted.most + if seen.has_tools { 1_024 } else { 0 } < usage.prompt() {
            println!(
                "{}: {counted:?}, told {} of {}: {:.1500}",
                case.name,
                usage.prompt(),
                answer.model,
                String::from_utf8_lossy(&request)
            );
            beyond += 1;
        }
        let what = if seen.has_tools { "prompt with tools" } else { "prompt" };
        ratios.entry((what, encoding.name())).or_default().push(counted.tokens as f64 / usage.prompt() as f64);
    }
    for ((what, encoding), mut all) in ratios {
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
        println!(
            "{what} {encoding}: {} cases, {:.3} {:.3} {:.3} {:.3} {:.3} of what was told",
            all.len(),
            at(0.0),
            at(0.1),
            at(0.5),
            at(0.9),
            at(1.0)
        );
        if all.len() >= 10 && what != "prompt with tools" {
            assert!((0.97..=1.03).contains(&at(0.5)), "{what} {encoding}: {:.3} of what was told", at(0.5));
        }
    }
    assert_eq!(beyond, 0, "no prompt has more tokens than its bound");
}

fn told(case: &Case) -> Option<(Answer, Usage)> {
    let answer = match case.stream {
        true => collect(case.dialect, &decode(case.dialect, &case.body, usize::MAX))?.ok()?,
        false => case.dialect.parse_answer(&case.body).ok()?,
    };
    let usage = answer.usage?;
    Some((answer, usage))
}
