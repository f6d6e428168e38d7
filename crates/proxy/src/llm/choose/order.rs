//! The order of a model's deployments: by priority, and among equals as the strategy says.

use std::time::Duration;

use tidegate_policy::{Model, Strategy};

use super::{Candidate, Chooser, sticky};

/// Of whom it is not known, while it has calls already: so that not all calls try it at once.
const UNKNOWN: Duration = Duration::from_secs(1);

/// `draw`: any number.
pub(super) fn order<'a>(
    chooser: &Chooser<'_, 'a>,
    model: &'a Model,
    mut able: Vec<Candidate<'a>>,
    draw: &mut impl FnMut() -> u64,
) -> Vec<Candidate<'a>> {
    if able.len() < 2 {
        return able;
    }
    let mut ordered = Vec::with_capacity(able.len());
    while !able.is_empty() {
        let priority = able[0].deployment.priority;
        let end = able.iter().position(|next| next.deployment.priority != priority).unwrap_or(able.len());
        let rest = able.split_off(end);
        ordered.extend(equals(chooser, model, std::mem::replace(&mut able, rest), draw));
    }
    ordered
}

fn equals<'a>(
    chooser: &Chooser<'_, 'a>,
    model: &'a Model,
    equals: Vec<Candidate<'a>>,
    draw: &mut impl FnMut() -> u64,
) -> Vec<Candidate<'a>> {
    match &model.routing.strategy {
        Strategy::Priority => equals,
        Strategy::Weighted => drawn(equals, draw),
        Strategy::Cheapest => {
            let mut drawn = drawn(equals, draw);
            // Whose price nobody knows comes last.
            drawn.sort_by_key(|candidate| (candidate.fit.price.is_none(), candidate.fit.price));
            drawn
        }
        Strategy::Fastest => {
            let (stream, tokens) = (chooser.heard.peek.stream, chooser.needs.answer());
            fastest(drawn(equals, draw), |candidate| {
                let calls = candidate.known.in_flight();
                let expected = candidate.known.expected(stream, tokens);
                let expected = expected.unwrap_or(if calls == 0 { Duration::ZERO } else { UNKNOWN });
                expected.saturating_mul(u32::try_from(calls.saturating_add(1)).unwrap_or(u32::MAX))
            })
        }
        Strategy::Sticky(rules) => match sticky::key(chooser, rules) {
            Some(key) => sticky::ordered(equals, key, rules.load),
            None => drawn(equals, draw),
        },
    }
}

/// By weight; those of weight 0 at last.
fn drawn<'a>(mut left: Vec<Candidate<'a>>, draw: &mut impl FnMut() -> u64) -> Vec<Candidate<'a>> {
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let total: u64 = left.iter().map(|candidate| u64::from(candidate.deployment.weight)).sum();
        let mut at = draw().checked_rem(total).unwrap_or(0);
        let found = left.iter().position(|candidate| {
            let weight = u64::from(candidate.deployment.weight);
            let found = at < weight;
            at = at.saturating_sub(weight);
            found
        });
        order.push(left.remove(found.unwrap_or(0)));
    }
    order
}

/// The better of the first two; before them whoever is not known and has no call, so that it becomes known. The others by
/// what they are expected to take.
fn fastest<'a>(mut drawn: Vec<Candidate<'a>>, expected: impl Fn(&Candidate<'a>) -> Duration) -> Vec<Candidate<'a>> {
    let mut rest = drawn.split_off(drawn.len().min(2));
    drawn.sort_by_key(&expected);
    rest.sort_by_key(&expected);
    drawn.extend(rest);
    if let Some(at) =
        drawn.iter().position(|candidate| expected(candidate).is_zero() && candidate.deployment.weight > 0)
    {
        let unknown = drawn.remove(at);
        drawn.insert(0, unknown);
    }
    drawn
}
