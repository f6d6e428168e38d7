//! Counters that threads do not fight over: each has its own lane, a scrape adds them up.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tidegate_model::Nanos;

use crate::lanes::{LANES, lane};

/// Upper bounds in seconds.
pub(crate) const BOUNDS: [f64; 15] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const BOUNDS_NANOS: [u64; 15] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// One `T` per lane, made when a thread first needs it: a route nobody calls costs 200 bytes.
#[derive(Debug)]
pub(crate) struct Laned<T>([OnceLock<Box<T>>; LANES]);

impl<T> Default for Laned<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; LANES])
    }
}

impl<T: Default> Laned<T> {
    pub(crate) fn mine(&self) -> &T {
        self.0[lane()].get_or_init(Box::default)
    }

    /// Those that were needed.
    pub(crate) fn each(&self) -> impl Iterator<Item = &T> {
        self.0.iter().filter_map(OnceLock::get).map(|lane| &**lane)
    }

    pub(crate) fn sum(&self, of: impl Fn(&T) -> u64) -> u64 {
        self.0.iter().filter_map(OnceLock::get).map(|lane| of(lane)).fold(0, u64::wrapping_add)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last one: above all bounds.
    buckets: [AtomicU64; BOUNDS_NANOS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, span: Nanos) {
        let bucket = BOUNDS_NANOS.partition_point(|bound| *bound < span.0);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(span.0, Relaxed);
    }
}

/// A histogram added up over its lanes: seconds, count, and `(bound, count in this bucket)`.
pub(crate) struct Total {
    pub(crate) sum: f64,
    pub(crate) count: u64,
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Total {
    pub(crate) fn of<T: Default>(laned: &Laned<T>, histogram: impl Fn(&T) -> &Histogram) -> Self {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]).enumerate();
        let buckets: Vec<_> =
            bounds.map(|(i, bound)| (bound, laned.sum(|lane| histogram(lane).buckets[i].load(Relaxed)))).collect();
        #[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days; what is lost is below a microsecond")]
        let sum = laned.sum(|lane| histogram(lane).sum.load(Relaxed)) as f64 / 1e9;
        Self { sum, count: buckets.iter().map(|(_, count)| count).sum(), buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_falls_into_the_bucket_whose_bound_holds_it() {
        let laned: Laned<Histogram> = Laned::default();
        for nanos in [0, 1_000_000, 1_000_001, 60_000_000_000, 60_000_000_001] {
            laned.mine().observe(Nanos(nanos));
        }
        let total = Total::of(&laned, |h| h);
        assert_eq!(total.count, 5);
        let filled: Vec<_> = total.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.001, 2), (0.002_5, 1), (60.0, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn threads_add_up() {
        let laned: Laned<AtomicU64> = Laned::default();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        laned.mine().fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(laned.sum(|lane| lane.load(Relaxed)), 2_000);
    }
}
