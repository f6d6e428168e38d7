//! What quiet clusters reach: the figures of docs/quota.md.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::scenario::Scenario;
use super::{Verdict, run};
use crate::seeds::on_all_cores;

/// Averages over a few seeds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub utilisation_1s: f64,
    pub utilisation_10s: f64,
    pub utilisation_60s: f64,
    /// At 1 s, while something goes wrong every few seconds.
    pub utilisation_with_faults: f64,
    /// Share of requests refused while demand is 0.7 of the limit: the worst of 1 s and 10 s.
    pub refused_70: f64,
    /// What 99 of 100 requests did not wait longer for there, in milliseconds.
    pub waited_p99_ms: f64,
    /// The same for the first request of a key.
    pub cold_p99_ms: f64,
    /// Share of requests refused at half the limit in runs whose leader is killed: at 1 s, and at 10 s.
    pub refused_by_failover: (f64, f64),
}

const SEEDS: u64 = 4;

impl Figures {
    /// Of these many seeds from the first one on.
    #[must_use]
    pub fn measure(from: u64) -> Self {
        let runs: [fn(u64) -> Scenario; 9] = [
            |seed| Scenario::quiet(seed, 1, 2.0),
            |seed| Scenario::quiet(seed, 10, 2.0),
            |seed| Scenario::quiet(seed, 60, 2.0),
            Scenario::harassed,
            |seed| Scenario::quiet(seed, 1, 0.7),
            |seed| Scenario::quiet(seed, 10, 0.7),
            Scenario::cold,
            |seed| Scenario::bereft(seed, 1),
            |seed| Scenario::bereft(seed, 10),
        ];
        let (next, sums) = (AtomicUsize::new(0), Mutex::new([Sum::default(); 9]));
        on_all_cores(|| {
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                let (Some(scenario), seed) = (runs.get(nth / SEEDS as usize), nth as u64 % SEEDS) else { return };
                let verdict = run(scenario(from + seed));
                sums.lock().expect("no panic while it is held")[nth / SEEDS as usize].add(&verdict);
            }
        });
        let [one, ten, sixty, faults, calm, calm_ten, cold, failover, failover_ten] =
            sums.into_inner().expect("no panic while it was held").map(Sum::mean);
        Self {
            utilisation_1s: one.used,
            utilisation_10s: ten.used,
            utilisation_60s: sixty.used,
            utilisation_with_faults: faults.used,
            refused_70: f64::max(calm.refused, calm_ten.refused),
            waited_p99_ms: f64::max(calm.waited, calm_ten.waited) / 1e6,
            cold_p99_ms: cold.waited / 1e6,
            refused_by_failover: (failover.refused, failover_ten.refused),
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    used: f64,
    refused: f64,
    waited: f64,
}

impl Sum {
    fn add(&mut self, verdict: &Verdict) {
        self.used += verdict.utilisation;
        self.refused += verdict.refused_share();
        self.waited += verdict.waited_p99;
    }

    fn mean(self) -> Self {
        let of = |sum| sum / SEEDS as f64;
        Self { used: of(self.used), refused: of(self.refused), waited: of(self.waited) }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (used, faults) =
            ([self.utilisation_1s, self.utilisation_10s, self.utilisation_60s], self.utilisation_with_faults);
        writeln!(
            f,
            "demand 2 L: {:.4} of L at 1 s, {:.4} at 10 s, {:.4} at 60 s; with faults {faults:.4} at 1 s",
            used[0], used[1], used[2]
        )?;
        writeln!(f, "demand 0.7 L: {:.5} refused, p99 waited {:.2} ms", self.refused_70, self.waited_p99_ms)?;
        let (one, ten) = self.refused_by_failover;
        write!(
            f,
            "cold key: p99 {:.2} ms; leader killed at 0.5 L: {one:.5} refused at 1 s, {ten:.5} at 10 s",
            self.cold_p99_ms
        )
    }
}
