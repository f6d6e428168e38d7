//! What a call costs.

use http::HeaderName;
use tidegate_model::Permits;
use tidegate_policy::defaults::MOST_COST;
use tidegate_policy::{Beyond, Cost, Terms, Unpriced};

use super::super::Report;
use super::kind::{MAX_MONEY, amount};
use crate::document::{BeyondRule, CostRule, CostSource, UnpricedRule};
use crate::path::Path;

pub(super) fn compile(rule: Option<&CostRule>, path: &Path<'_>, report: &Report<'_>) -> (Cost, Terms) {
    let Some(rule) = rule else { return (Cost::ONE, Terms::default()) };
    let CostRule { weight, from, estimate, unpriced, at_most, beyond } = rule;
    if unpriced.is_some() && *from != Some(CostSource::Money) {
        report.error(&path.field("unpriced"), "only `from: money` asks for prices");
    }
    let terms = terms(*at_most, *beyond, rule, path, report);
    let cost = match (weight, from) {
        (Some(weight), None) => {
            if estimate.is_some() {
                report.error(&path.field("estimate"), "a weight is known, there is nothing to estimate");
            }
            Cost::Fixed(at_once(*weight, &path.field("weight"), report))
        }
        (None, Some(source)) => {
            let known = estimate.map(|estimate| at_once(estimate, &path.field("estimate"), report));
            taken_from(source, known, *unpriced, path, report)
        }
        _ => {
            let hint = "write `weight: 5`, or `from: response_bytes` with an `estimate`";
            report.hinted(path, "a cost is either a `weight` or taken `from` something", hint);
            Cost::ONE
        }
    };
    (cost, terms)
}

fn taken_from(
    source: &CostSource,
    known: Option<Permits>,
    unpriced: Option<UnpricedRule>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Cost {
    let estimate = known.unwrap_or(Permits(1));
    match source {
        CostSource::Tokens => Cost::Tokens { estimate: known },
        CostSource::Money => {
            if known.is_some() {
                let hint = "leave it out, and bound what a call can cost with the model's `max_output`";
                report.hinted(&path.field("estimate"), "what a call can cost is known from its prices", hint);
            }
            let free = unpriced == Some(UnpricedRule::Free);
            Cost::Money { unpriced: if free { Unpriced::Free } else { Unpriced::Refuse } }
        }
        CostSource::RequestBytes => Cost::RequestBytes { estimate },
        CostSource::ResponseBytes => Cost::ResponseBytes { estimate },
        CostSource::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => Cost::Header { name, estimate },
            Err(_) => {
                let reason = format!("`{}` is not a header name", crate::decode::short(name));
                report.error(&path.field("from"), reason);
                Cost::ONE
            }
        },
    }
}

fn terms(
    at_most: Option<u64>,
    beyond: Option<BeyondRule>,
    rule: &CostRule,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Terms {
    let bound = path.field("at_most");
    if at_most.is_some() && rule.from.is_none() {
        report.error(&bound, "a weight is known, there is nothing to bound");
    }
    if let (Some(most), Some(estimate)) = (at_most, rule.estimate)
        && most < estimate
    {
        report.hinted(&bound, "it is less than the `estimate`, which is reserved", "write at least the estimate");
    }
    match (beyond, &rule.from) {
        (Some(_), None) => report.error(&path.field("beyond"), "a weight is known, nothing comes beyond it"),
        (Some(BeyondRule::Cut), Some(CostSource::Header(_))) => {
            let hint = "leave it out; bound what one call counts for with `at_most`";
            report.hinted(&path.field("beyond"), "what the header tells is used when it is told", hint);
        }
        _ => {}
    }
    let beyond = match beyond {
        Some(BeyondRule::Cut) => Beyond::Cut,
        Some(BeyondRule::Finish) | None => Beyond::Finish,
    };
    Terms { at_most: at_most.map(|most| amount(most, MAX_MONEY, &bound, report)), beyond }
}

/// What a node takes at once.
fn at_once(cost: u64, path: &Path<'_>, report: &Report<'_>) -> Permits {
    if cost > MOST_COST.0 {
        let hint = "count in larger units, and write every amount of the limit in them";
        report.hinted(path, format!("a call costs at most {MOST_COST} at once"), hint);
        return MOST_COST;
    }
    amount(cost, MOST_COST.0, path, report)
}
