//! The judge of buckets: the bucket as it would be if all nodes took from it in person, at the burst and the rate that were in
//! force at each instant. A raised burst is there at once, a lowered one cuts off what is above it.

use tidegate_model::{Nanos, Permits};

use super::course::Course;
use super::orders::Excuses;
use super::others::{Judged, ratio};
use crate::protocol::Rate;

/// Parts of a permit, if no smaller number is a multiple of all rates' times.
const FINEST: u64 = 1 << 48;

/// How empty the bucket is.
struct Gauge<'c> {
    course: &'c Course,
    /// The course's next point.
    next: usize,
    now: Nanos,
    max: Permits,
    rate: Rate,
    /// Missing to a full bucket, in parts of a permit.
    drawn: u128,
    /// Parts in a permit: so many that nothing is rounded, or almost nothing.
    parts: u64,
}

/// `permits` in the order of time. The deepest that it was drawn, and how deep that is against the burst.
pub(super) fn judge(permits: &[(Nanos, Permits)], course: &Course, mut excuses: Excuses) -> Judged {
    let parts = parts(&course.rates);
    let mut gauge = Gauge::full(course, parts);
    // What of each permit no grant excused.
    let mut counted: Vec<(Nanos, u128)> = Vec::with_capacity(permits.len());
    let (mut worst, mut worst_ratio, mut sum) = (0, 0.0_f64, 0_u128);
    for (at, cost) in permits {
        let cost_parts = u128::from(cost.0).saturating_mul(u128::from(parts));
        counted.push((*at, cost_parts));
        gauge.take(*at, cost_parts);
        while gauge.over() > 0
            && let Some(until) = excuses.reset(*at)
        {
            // What was taken until then is forgiven.
            gauge = Gauge::full(course, parts);
            let from = counted.partition_point(|(taken, _)| *taken <= until).min(counted.len() - 1);
            counted[from..].iter().for_each(|(taken, cost)| gauge.take(*taken, *cost));
        }
        let missing = u64::try_from(gauge.over().div_ceil(u128::from(parts))).unwrap_or(u64::MAX);
        let excused = u128::from(excuses.grant(*at, Permits(missing)).0).saturating_mul(u128::from(parts));
        let excused = excused.min(gauge.drawn);
        gauge.drawn -= excused;
        if let Some((_, last)) = counted.last_mut() {
            *last = last.saturating_sub(excused);
        }
        worst = worst.max(gauge.drawn.div_ceil(u128::from(parts)));
        worst_ratio = worst_ratio.max(ratio(gauge.drawn, gauge.most()));
        sum = sum.saturating_add(u128::from(cost.0));
    }
    let span = permits.last().map_or(Nanos::ZERO, |(last, _)| last.saturating_sub(permits[0].0));
    Judged::new(permits.len() as u64, worst, worst_ratio, sum, span)
}

impl<'c> Gauge<'c> {
    fn full(course: &'c Course, parts: u64) -> Self {
        let rate = Rate { permits: 0, per: Nanos(1) };
        Self { course, next: 0, now: Nanos::ZERO, max: Permits::ZERO, rate, drawn: 0, parts }
    }

    fn take(&mut self, at: Nanos, cost: u128) {
        while let Some((point, max, rate)) = self.course.next_before(self.next, at) {
            self.fill(point);
            self.bind(max);
            self.rate = rate;
            self.next += 1;
        }
        self.fill(at);
        self.bind(self.course.max_at(at));
        self.drawn = self.drawn.saturating_add(cost);
    }

    fn fill(&mut self, to: Nanos) {
        let came = u128::from(to.saturating_sub(self.now).0) * u128::from(self.rate.permits);
        let (per, parts) = (u128::from(self.rate.per.0.max(1)), u128::from(self.parts));
        let came = (came / per).saturating_mul(parts).saturating_add((came % per * parts).div_ceil(per));
        self.drawn = self.drawn.saturating_sub(came);
        self.now = to.max(self.now);
    }

    fn bind(&mut self, max: Permits) {
        let cut = u128::from(self.max.saturating_sub(max).0).saturating_mul(u128::from(self.parts));
        self.drawn = self.drawn.saturating_sub(cut);
        self.max = max;
    }

    fn most(&self) -> u128 {
        u128::from(self.max.0).saturating_mul(u128::from(self.parts))
    }

    fn over(&self) -> u128 {
        self.drawn.saturating_sub(self.most())
    }
}

/// The smallest number that is a multiple of all rates' times, if there is one that is not too large.
fn parts(rates: &[Rate]) -> u64 {
    let multiple = rates.iter().try_fold(1_u64, |multiple, rate| {
        let per = rate.per.0.max(1);
        multiple.checked_mul(per / common(multiple, per)).filter(|parts| *parts <= FINEST)
    });
    multiple.unwrap_or(FINEST)
}

fn common(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { common(other, one % other) }
}
