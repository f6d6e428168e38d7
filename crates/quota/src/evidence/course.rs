//! What was in force when, for the judge of kinds that are no sliding windows: a limit's rules as nodes learnt of them, a key's
//! own maximum in their place, and what an operator's grant adds while it stands.
//!
//! A record says when a node learnt of something. What is replaced by it may bind for D more, and a node that has just started
//! may learn of it D late: so much is the judge lenient, and no more.

use tidegate_model::{Nanos, Permits};

use super::Rule;
use crate::protocol::{LEASE_TTL, Rate};

/// A rule as a node learnt of it.
pub(super) type RuleLearnt = (Nanos, Permits, Rule);

/// What a key has of its own in place of its limit's; nothing: no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Own {
    Max(Permits),
    Rate(Rate),
}

/// What a grant adds from here to there.
pub(super) type Standing = (Nanos, Nanos, Permits);

/// Between two of its points nothing changes.
#[derive(Debug, Default)]
pub(super) struct Course {
    points: Vec<Nanos>,
    /// The largest maximum at each point; a span has both of its ends.
    at: Vec<Permits>,
    /// The largest maximum and the fastest rate from each point to the next.
    after: Vec<(Permits, Rate)>,
    /// All rates that were ever in force.
    pub(super) rates: Vec<Rate>,
}

struct Span {
    since: Nanos,
    until: Nanos,
    max: Permits,
    rate: Rate,
}

const NO_RATE: Rate = Rate { permits: 0, per: Nanos(1) };

impl Course {
    /// `learnt` and `own` in the order of time.
    pub(super) fn new(learnt: &[RuleLearnt], own: &[(Nanos, Own)], standing: &[Standing]) -> Self {
        let spans = spans(&effective(learnt, own));
        let ends = spans.iter().flat_map(|span| [span.since, span.until]);
        let mut points: Vec<_> = ends.chain(standing.iter().flat_map(|(since, until, _)| [*since, *until])).collect();
        points.sort_unstable();
        points.dedup();
        let beside = |holds: &dyn Fn(Nanos, Nanos) -> bool| {
            let held = standing.iter().filter(|(since, until, _)| holds(*since, *until));
            held.fold(Permits::ZERO, |sum, (_, _, extra)| sum.saturating_add(*extra))
        };
        let highest = |holds: &dyn Fn(Nanos, Nanos) -> bool| {
            let held = spans.iter().filter(|span| holds(span.since, span.until));
            let (max, rate) = held.fold((None, NO_RATE), |(max, rate), span| {
                (max.max(Some(span.max)), if span.rate.slower(rate) == rate { span.rate } else { rate })
            });
            (max.map_or(Permits::ZERO, |max: Permits| max.saturating_add(beside(holds))), rate)
        };
        let at = points.iter().map(|point| highest(&|since, until| since <= *point && *point <= until).0).collect();
        let after = points.iter().map(|point| highest(&|since, until| since <= *point && *point < until)).collect();
        let mut rates: Vec<_> = spans.iter().map(|span| span.rate).collect();
        rates.dedup();
        Self { points, at, after, rates }
    }

    /// The largest maximum that may be in force then.
    pub(super) fn max_at(&self, at: Nanos) -> Permits {
        match self.points.binary_search(&at) {
            Ok(point) => self.at[point],
            Err(next) => next.checked_sub(1).map_or(Permits::ZERO, |before| self.after[before].0),
        }
    }

    /// The largest maximum that may be in force between these.
    pub(super) fn largest(&self, from: Nanos, to: Nanos) -> Permits {
        let (first, last) =
            (self.points.partition_point(|point| *point < from), self.points.partition_point(|point| *point <= to));
        let inside = self.at.get(first..last).unwrap_or_default().iter().copied();
        inside.fold(self.max_at(from).max(self.max_at(to)), Permits::max)
    }

    /// The next point from `nth` on that is before `to`, and what holds after it.
    pub(super) fn next_before(&self, nth: usize, to: Nanos) -> Option<(Nanos, Permits, Rate)> {
        let point = self.points.get(nth).copied().filter(|point| *point < to)?;
        Some((point, self.after[nth].0, self.after[nth].1))
    }
}

/// The maximum that binds a key, and the rate: its own ones while it has them.
fn effective(learnt: &[RuleLearnt], own: &[(Nanos, Own)]) -> Vec<(Nanos, Permits, Rate)> {
    let of_limit = learnt.iter().map(|(at, max, rule)| (*at, Some((*max, rule.rate())), None));
    let mut events: Vec<_> = of_limit.chain(own.iter().map(|(at, own)| (*at, None, Some(*own)))).collect();
    events.sort_unstable();
    let (mut common, mut mine) = ((Permits::ZERO, NO_RATE), (Permits::ZERO, NO_RATE));
    let news = events.into_iter().map(|(at, of_limit, of_key)| {
        common = of_limit.unwrap_or(common);
        match of_key {
            Some(Own::Max(max)) => mine.0 = max,
            Some(Own::Rate(rate)) => mine.1 = rate,
            None => {}
        }
        let max = if mine.0 == Permits::ZERO { common.0 } else { mine.0 };
        (at, max, if mine.1.permits == 0 { common.1 } else { mine.1 })
    });
    news.collect()
}

/// Each from D before it was learnt to D after something else was.
fn spans(learnt: &[(Nanos, Permits, Rate)]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut until = Nanos::MAX;
    for (nth, (since, max, rate)) in learnt.iter().enumerate().rev() {
        let early = since.saturating_sub(LEASE_TTL);
        if let Some(next) = spans.last_mut().filter(|next| (next.max, next.rate) == (*max, *rate)) {
            next.since = early;
            continue;
        }
        if let Some((later, ..)) = learnt.get(nth + 1) {
            until = later.saturating_add(LEASE_TTL);
        }
        spans.push(Span { since: early, until, max: *max, rate: *rate });
    }
    spans
}
