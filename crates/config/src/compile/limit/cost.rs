//! What a call costs.

use http::HeaderName;
use tidegate_model::Permits;
use tidegate_policy::{Cost, Unpriced};

use super::super::Report;
use super::kind::amount;
use crate::document::{CostRule, CostSource, UnpricedRule};
use crate::path::Path;

pub(super) fn compile(rule: Option<&CostRule>, path: &Path<'_>, report: &Report<'_>) -> Cost {
    let Some(CostRule { weight, from, estimate, unpriced }) = rule else { return Cost::ONE };
    if unpriced.is_some() && *from != Some(CostSource::Money) {
        report.error(&path.field("unpriced"), "only `from: money` asks for prices");
    }
    match (weight, from) {
        (Some(weight), None) => {
            if estimate.is_some() {
                report.error(&path.field("estimate"), "a weight is known, there is nothing to estimate");
            }
            Cost::Fixed(amount(*weight, &path.field("weight"), report))
        }
        (None, Some(source)) => {
            let known = estimate.map(|estimate| amount(estimate, &path.field("estimate"), report));
            let estimate = known.unwrap_or(Permits(1));
            match source {
                CostSource::Tokens => Cost::Tokens { estimate: known },
                CostSource::Money => {
                    if known.is_some() {
                        let hint = "leave it out, and bound what a call can cost with the model's `max_output`";
                        report.hinted(&path.field("estimate"), "what a call can cost is known from its prices", hint);
                    }
                    let free = *unpriced == Some(UnpricedRule::Free);
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
        _ => {
            let hint = "write `weight: 5`, or `from: response_bytes` with an `estimate`";
            report.hinted(path, "a cost is either a `weight` or taken `from` something", hint);
            Cost::ONE
        }
    }
}
