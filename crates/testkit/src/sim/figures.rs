//! What quiet clusters reach: the figures of docs/quota.md.

use std::fmt;

use super::run;
use super::scenario::Scenario;

/// Averages over a few seeds.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub utilisation_1s: f64,
    pub utilisation_10s: f64,
    pub utilisation_60s: f64,
    /// Share of requests refused while demand is 0.7 of the limit.
    pub refused_70: f64,
    /// What a request waited for its decision there, 99 of 100, in milliseconds.
    pub waited_p99_ms: f64,
}

const SEEDS: u64 = 8;

impl Figures {
    #[must_use]
    pub fn measure(from: u64) -> Self {
        let mean = |of: &dyn Fn(u64) -> f64| (from..from + SEEDS).map(of).sum::<f64>() / SEEDS as f64;
        let used = |window| mean(&|seed| run(Scenario::quiet(seed, window, 2.0)).utilisation);
        let calm = |window| mean(&|seed| run(Scenario::quiet(seed, window, 0.7)).refused_share());
        let waited = |window| mean(&|seed| run(Scenario::quiet(seed, window, 0.7)).waited_p99);
        Self {
            utilisation_1s: used(1),
            utilisation_10s: used(10),
            utilisation_60s: used(60),
            refused_70: f64::max(calm(1), calm(10)),
            waited_p99_ms: f64::max(waited(1), waited(10)) / 1e6,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { utilisation_1s, utilisation_10s, utilisation_60s, refused_70, waited_p99_ms } = self;
        write!(
            f,
            "demand 2 L: {utilisation_1s:.4} of L at 1 s, {utilisation_10s:.4} at 10 s, {utilisation_60s:.4} at 60 s; \
             demand 0.7 L: {refused_70:.5} refused, p99 waited {waited_p99_ms:.2} ms"
        )
    }
}
