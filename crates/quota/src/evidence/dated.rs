//! The judge of calendar windows and budgets: the sum of each window, by tag, against the maximum that was in force when its
//! permits were taken, what the one before left, and grants, each used up once.

use std::collections::BTreeMap;

use tidegate_model::{Nanos, Permits};

use super::Rule;
use super::course::{Course, RuleLearnt};
use super::orders::Excuses;
use super::others::{Judged, ratio};

/// When, how much, and of which window.
pub(super) type Tagged = (Nanos, Permits, u32);

/// What one window's permits come to.
struct Sum {
    worst: u128,
    ratio: f64,
}

/// One verdict for each window of a key.
pub(super) fn judge(permits: &[Tagged], learnt: &[RuleLearnt], course: &Course, excuses: &mut Excuses) -> Vec<Judged> {
    let mut windows: BTreeMap<u32, Vec<(Nanos, Permits)>> = BTreeMap::new();
    for (at, cost, window) in permits {
        windows.entry(*window).or_default().push((*at, *cost));
    }
    windows.values_mut().for_each(|permits| permits.sort_unstable());
    let begins: Vec<(u32, Nanos)> = windows.iter().map(|(window, permits)| (*window, permits[0].0)).collect();
    // Of windows before the first one nothing is known.
    let mut carried = carry(learnt, Nanos::MAX);
    let mut verdicts = Vec::with_capacity(windows.len());
    for (nth, (number, permits)) in windows.iter().enumerate() {
        let (next, ends) = begins.get(nth + 1).copied().unwrap_or((*number, Nanos::MAX));
        let resets = excuses.resets_until(ends);
        let Sum { worst, ratio } = sum(permits, course, carried, resets.clone(), excuses);
        let total = costs(permits, None);
        verdicts.push(Judged::new(permits.len() as u64, worst, ratio, total, Nanos::ZERO));
        let left = u128::from(course.largest(permits[0].0, ends).0) + carried;
        let left = left.saturating_sub(costs(permits, resets.last().map(|(_, until)| *until)));
        let most = carry(learnt, begins.get(nth + 2).map_or(Nanos::MAX, |(_, at)| *at));
        carried = if follows(learnt, *number, next) { most.min(left) } else { most };
    }
    verdicts
}

/// A window at each permit of it, against what was in force then.
fn sum(
    permits: &[(Nanos, Permits)],
    course: &Course,
    carried: u128,
    mut resets: Vec<(Nanos, Nanos)>,
    excuses: &mut Excuses,
) -> Sum {
    resets.reverse();
    let (mut sum, mut granted, mut worst, mut worst_ratio) = (0_u128, 0_u128, 0, 0.0_f64);
    for (nth, (at, cost)) in permits.iter().enumerate() {
        sum += u128::from(cost.0);
        let most = u128::from(course.max_at(*at).0) + carried;
        while sum > most + granted
            && let Some((_, until)) = resets.pop_if(|(from, _)| *from <= *at)
        {
            // What was taken until then is forgiven, this one apart.
            sum = u128::from(cost.0) + costs(&permits[..nth], Some(until));
            granted = 0;
        }
        granted += excuses.draw(*at, sum.saturating_sub(most + granted));
        let rest = sum.saturating_sub(granted);
        worst = worst.max(rest);
        worst_ratio = worst_ratio.max(ratio(rest, most));
    }
    Sum { worst, ratio: worst_ratio }
}

/// What was taken after this moment, if it is one.
fn costs(permits: &[(Nanos, Permits)], after: Option<Nanos>) -> u128 {
    let counted = permits.iter().filter(|(at, _)| after.is_none_or(|after| after < *at));
    counted.map(|(_, cost)| u128::from(cost.0)).sum()
}

/// The most that may be carried over by then.
fn carry(learnt: &[RuleLearnt], by: Nanos) -> u128 {
    let carries = learnt.iter().filter(|(since, ..)| *since <= by).map(|(_, _, rule)| match rule {
        Rule::Dated { carry, .. } => u128::from(carry.0),
        _ => 0,
    });
    carries.max().unwrap_or(0)
}

/// Is this the next window, or was there one in between that nobody took from? Windows are numbered by the minutes that they
/// begin in, and none is half as long again as another one.
fn follows(learnt: &[RuleLearnt], number: u32, next: u32) -> bool {
    let lasts = learnt.iter().rev().find_map(|(_, _, rule)| match rule {
        Rule::Dated { period, .. } => Some(*period),
        _ => None,
    });
    let minutes = u128::from(next.saturating_sub(number));
    lasts.is_some_and(|lasts| minutes * u128::from(Nanos::from_secs(60).0) * 10 <= u128::from(lasts.0) * 14)
}
