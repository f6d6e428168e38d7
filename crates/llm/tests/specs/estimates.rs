//! Estimates of tokens against what real providers told: right in the middle, and never far off for most.

use std::collections::BTreeMap;

use tidegate_llm::meaning::{Answer, Usage};
use tidegate_llm::peek::peek;
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
        if !seen.has_tools && !seen.reads_more && seen.media(&request) == 0 && usage.prompt() > 30 {
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

fn told(case: &Case) -> Option<(Answer, Usage)> {
    let answer = match case.stream {
        true => collect(case.dialect, &decode(case.dialect, &case.body, usize::MAX))?.ok()?,
        false => case.dialect.parse_answer(&case.body).ok()?,
    };
    let usage = answer.usage?;
    Some((answer, usage))
}
