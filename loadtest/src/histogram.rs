//! Latencies in buckets of at most 3.2 % width, from 1 ns to 4.6 minutes, shared by all recording threads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const STEPS_BITS: u32 = 6;
const STEPS: u64 = 1 << STEPS_BITS;
const POWERS: u64 = 32;

pub(crate) struct Histogram {
    /// `power × STEPS + step`: linear up to STEPS ns, then STEPS buckets for each power of two.
    buckets: Vec<AtomicU64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: (0..=POWERS * STEPS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    pub(crate) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)].fetch_add(1, Ordering::Relaxed);
    }

    /// The upper edge of the bucket that holds the `share` (0–1) of all records; zero if there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return Duration::ZERO;
        }
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = ((total as f64 * share).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper_edge(bucket));
            }
        }
        Duration::ZERO
    }
}

fn bucket_of(nanos: u64) -> usize {
    let power = u64::from(nanos.checked_ilog2().unwrap_or(0).saturating_sub(STEPS_BITS - 1)).min(POWERS);
    // Above the linear part each power of two starts half way: its lower half belongs to the power before.
    let index = if power == 0 { nanos } else { power * (STEPS / 2) + (nanos >> power) };
    usize::try_from(index.min(POWERS * STEPS)).expect("bounded by the number of buckets")
}

fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / (STEPS / 2) - 1;
    let step = bucket - power * (STEPS / 2);
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_whose_upper_edge_is_at_most_a_thirtieth_above_it() {
        for nanos in (0..200).chain([999, 1_000, 65_535, 65_536, 1_000_000, 123_456_789, 90_000_000_000]) {
            let edge = upper_edge(bucket_of(nanos));
            assert!(edge >= nanos, "{nanos} is above its bucket's edge {edge}");
            assert!(edge - nanos <= nanos / 30, "{nanos} is far below its bucket's edge {edge}");
        }
    }

    #[test]
    fn quantiles_count_from_the_smallest() {
        let histogram = Histogram::default();
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        let near = |share, micros: u64| {
            let got = histogram.quantile(share).as_nanos();
            assert!(got.abs_diff(u128::from(micros) * 1000) <= u128::from(micros) * 35, "{share}: {got}");
        };
        near(0.5, 50);
        near(0.99, 99);
        near(1.0, 100);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }
}
