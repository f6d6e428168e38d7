//! What 95 of 100 answers of an upstream take: followed, not stored. Each answer moves the estimate by a step, upwards nineteen
//! times as far as downwards, so that it rests where one in twenty is above it (stochastic approximation, on logarithms).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Fewer answers say nothing.
const FEWEST: u64 = 20;
/// A logarithm.
const STEP: f64 = 0.05;
const ABOVE: f64 = 0.95;

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The bits of a logarithm of seconds.
    estimate: AtomicU64,
    answers: AtomicU64,
}

impl Pace {
    /// `None`: not known yet.
    pub(crate) fn p95(&self) -> Option<Duration> {
        let known = self.answers.load(Relaxed) >= FEWEST;
        let seconds = f64::from_bits(self.estimate.load(Relaxed)).exp();
        known.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// An answer took so long, or longer. Of two at the same moment one may be lost.
    pub(crate) fn took(&self, span: Option<Duration>) {
        let Some(span) = span else { return };
        let took = span.as_secs_f64().max(1e-6).ln();
        let before = self.answers.fetch_add(1, Relaxed);
        let estimate = f64::from_bits(self.estimate.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let step = if before < FEWEST { 2.0 / (before + 1) as f64 } else { STEP }.max(STEP);
        let next = match before {
            0 => took,
            _ if took > estimate => estimate + step * ABOVE,
            _ => estimate - step * (1.0 - ABOVE),
        };
        self.estimate.store(next.to_bits(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_takes_longer() {
        let pace = Pace::default();
        (0..19).for_each(|_| pace.took(Some(Duration::from_millis(10))));
        assert_eq!(pace.p95(), None);
        // 1 ms to 100 ms, in an order that jumps about.
        for i in 0..20_000_u64 {
            pace.took(Some(Duration::from_millis(1 + i * 61 % 100)));
        }
        let p95 = pace.p95().expect("enough were seen").as_millis();
        assert!((85..=108).contains(&p95), "{p95} ms");
    }
}
