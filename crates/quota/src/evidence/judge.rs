//! The judge: every window of every key against the maximum that was in force. Total, whatever the records say: sums are
//! exact, and no stamp, cost or window makes it wrap.

use std::collections::{BTreeMap, VecDeque};

use tidegate_model::{LimitId, Nanos, Permits};

use super::orders::Excuses;
use super::{Evidence, Learnt, Rule};
use crate::protocol::LEASE_TTL;

/// What the judge found of one limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub limit: LimitId,
    /// Empty if no file names it.
    pub name: String,
    pub max: Permits,
    /// `None`: a sliding window.
    pub rule: Option<Rule>,
    /// The window; the time in which a bucket's rate brings what it says.
    pub window: Nanos,
    pub permits: u64,
    /// Costs of all permits of the busiest key, and the time from its first to its last.
    pub busiest: (Permits, Nanos),
    /// The fullest window of any key; the deepest that a bucket was drawn; the most at a time.
    pub worst: Permits,
    /// `worst` over the maximum in force, the largest over all windows: above 1.0 the promise is broken.
    pub worst_ratio: f64,
    /// What calls used beyond what they had reserved and what was at hand: nobody was admitted for it, and later grants pay.
    pub debt: Permits,
}

impl Evidence {
    /// Tests every window of every key.
    #[must_use]
    pub fn judge(mut self) -> Vec<Finding> {
        let mut findings: BTreeMap<LimitId, Finding> = BTreeMap::new();
        let mut histories: BTreeMap<LimitId, Vec<Force>> = BTreeMap::new();
        for (limit, learnt) in &mut self.policies {
            learnt.sort_unstable();
            histories.insert(*limit, forces(learnt));
        }
        let debts = self.others.debts();
        let mut others = self.others.judge(&mut self.permits, &self.names, &self.orders);
        for (key, mut permits) in self.permits {
            permits.sort_unstable();
            let last = self.policies.get(&key.limit).and_then(|learnt| learnt.last());
            let (max, window) = last.map_or((Permits::ZERO, Nanos::ZERO), |(_, max, window)| (*max, *window));
            let history = histories.get(&key.limit).map_or(&[][..], Vec::as_slice);
            let learnt = self.policies.get(&key.limit).map_or(&[][..], Vec::as_slice);
            let own = self.orders.learnt(key, learnt).map(|learnt| forces(&learnt));
            let history = own.as_deref().unwrap_or(history);
            let (worst, worst_ratio) = worst_window(&permits, history, window, self.orders.of(key));
            let total = permits.iter().fold(Permits::ZERO, |sum, (_, cost)| sum.saturating_add(*cost));
            let span = permits.last().expect("keys have permits").0.saturating_sub(permits[0].0);
            let finding = findings.entry(key.limit).or_insert_with(|| Finding {
                limit: key.limit,
                name: self.names.get(&key.limit).cloned().unwrap_or_default(),
                max,
                rule: None,
                window,
                permits: 0,
                busiest: (Permits::ZERO, Nanos::ZERO),
                worst: Permits::ZERO,
                worst_ratio: 0.0,
                debt: Permits::ZERO,
            });
            finding.permits += permits.len() as u64;
            finding.worst = finding.worst.max(worst);
            finding.worst_ratio = finding.worst_ratio.max(worst_ratio);
            if total > finding.busiest.0 {
                finding.busiest = (total, span);
            }
        }
        others.extend(findings.into_values());
        others.sort_by_key(|finding| finding.limit);
        for finding in &mut others {
            let debt = debts.get(&finding.limit).copied().unwrap_or(0);
            finding.debt = Permits(u64::try_from(debt).unwrap_or(u64::MAX));
        }
        others
    }
}

/// The fullest (x, x + window], what a reset forgave left out, and the largest ratio of any such window to the maximum that was in force.
fn worst_window(
    permits: &[(Nanos, Permits)],
    history: &[Force],
    window: Nanos,
    mut excuses: Excuses,
) -> (Permits, f64) {
    // Wide enough for 2⁶⁴ permits of any cost: a sum that saturated could come back too small when the first ones leave.
    let (mut inside, mut sum) = (VecDeque::new(), 0_u128);
    let (mut worst, mut worst_ratio) = (0, 0.0_f64);
    for (at, cost) in permits {
        inside.push_back((*at, *cost));
        sum += u128::from(cost.0);
        while let Some((first, left)) = inside.front().copied() {
            if at.saturating_sub(first) < window {
                break;
            }
            inside.pop_front();
            sum -= u128::from(left.0);
        }
        let max = in_force(history, at.saturating_sub(window), *at);
        excuses.pass(*at, window);
        while sum > u128::from(max.0)
            && let Some(until) = excuses.reset(*at)
        {
            inside.retain(|(taken, _): &(Nanos, Permits)| until < *taken || taken == at);
            sum = inside.iter().map(|(_, cost)| u128::from(cost.0)).sum();
        }
        worst = worst.max(sum);
        let rest = excuses.rest(sum, max, *at);
        worst_ratio = worst_ratio.max(if max == Permits::ZERO { f64::INFINITY } else { rest as f64 / max.0 as f64 });
    }
    (Permits(u64::try_from(worst).unwrap_or(u64::MAX)), worst_ratio)
}

/// A maximum and the time it may have been in force.
struct Force {
    since: Nanos,
    until: Nanos,
    max: Permits,
}

/// A lowered maximum binds within D; a node that starts learns an old one late.
fn forces(learnt: &[Learnt]) -> Vec<Force> {
    let mut forces: Vec<Force> = Vec::with_capacity(learnt.len());
    let mut until = Nanos::MAX;
    for (at, (since, max, _)) in learnt.iter().enumerate().rev() {
        if let Some((later, other, _)) = learnt.get(at + 1)
            && other != max
        {
            until = later.saturating_add(LEASE_TTL);
        }
        forces.push(Force { since: *since, until, max: *max });
    }
    forces
}

/// The largest maximum between `from` and `to`.
fn in_force(history: &[Force], from: Nanos, to: Nanos) -> Permits {
    let to = to.saturating_add(LEASE_TTL);
    let held = history.iter().filter(|force| force.since <= to && force.until >= from);
    held.map(|force| force.max).max().unwrap_or_default()
}
