//! How many retries an upstream may get, so that retries never become the load that keeps it down.
//!
//! A retry is granted while fewer than `ratio` of the requests of the last ten seconds were retries; beside that a
//! floor of 10 a second (at most 10 at once) lets a quiet upstream be retried at all. A ratio of 0 grants none.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::shard::{self, Laned};

const SLOTS: usize = 10;
const FLOOR_EVERY: u64 = 100; // milliseconds per retry of the floor
const FLOOR_BURST: u64 = 10;

#[derive(Debug, Default)]
pub struct Budget {
    requests: Laned<Window>,
    retries: Window,
    /// When the floor would be full again, in milliseconds (GCRA).
    floor_full_at: AtomicU64,
}

impl Budget {
    /// A request came (its retries do not count). `now` is counted from any fixed instant.
    pub fn request(&self, now: Duration) {
        self.requests.at(shard::lane()).add(now.as_secs());
    }

    /// May one be tried again now? Counts it if so.
    pub fn retry(&self, ratio: f64, now: Duration) -> bool {
        let second = now.as_secs();
        #[expect(clippy::cast_precision_loss, reason = "counts of ten seconds are far below 2^52")]
        let room = ratio > 0.0
            && ((self.retries.sum(second) + 1) as f64 <= ratio * self.asked(second) as f64
                || self.floor(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)));
        if room {
            self.retries.add(second);
        }
        room
    }

    fn asked(&self, second: u64) -> u64 {
        self.requests.iter().map(|lane| lane.sum(second)).sum()
    }

    fn floor(&self, now: u64) -> bool {
        self.floor_full_at
            .fetch_update(Relaxed, Relaxed, |full_at| {
                let full_at = full_at.max(now) + FLOOR_EVERY;
                (full_at - now <= FLOOR_BURST * FLOOR_EVERY).then_some(full_at)
            })
            .is_ok()
    }
}

/// Counts of the last ten seconds: per slot the second it counts (high half) and the count (low half).
#[derive(Debug, Default)]
struct Window([AtomicU64; SLOTS]);

impl Window {
    fn add(&self, second: u64) {
        let slot = &self.0[usize::try_from(second).unwrap_or(0) % SLOTS];
        let fresh = (second & 0xFFFF_FFFF) << 32;
        let _ = slot
            .fetch_update(Relaxed, Relaxed, |seen| Some(if seen >> 32 == fresh >> 32 { seen + 1 } else { fresh | 1 }));
    }

    fn sum(&self, second: u64) -> u64 {
        self.0
            .iter()
            .map(|slot| slot.load(Relaxed))
            .filter(|seen| (second & 0xFFFF_FFFF).wrapping_sub(seen >> 32) < SLOTS as u64)
            .map(|seen| seen & 0xFFFF_FFFF)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &Budget, asked: u32, now: Duration) -> usize {
        (0..asked).filter(|_| budget.retry(0.2, now)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_and_a_floor_of_ten() {
        let (budget, now) = (Budget::default(), Duration::from_secs(100));
        (0..1000).for_each(|_| budget.request(now));
        assert_eq!(granted(&budget, 1000, now), 210);
    }

    #[test]
    fn the_floor_refills_at_ten_a_second() {
        let budget = Budget::default();
        assert_eq!(granted(&budget, 100, Duration::from_secs(100)), 10);
        assert_eq!(granted(&budget, 100, Duration::from_millis(100_500)), 5);
        assert_eq!(granted(&budget, 100, Duration::from_secs(200)), 10);
    }

    #[test]
    fn old_requests_are_forgotten() {
        let budget = Budget::default();
        (0..1000).for_each(|_| budget.request(Duration::from_secs(100)));
        assert_eq!(granted(&budget, 1000, Duration::from_secs(110)), 10);
    }

    #[test]
    fn no_ratio_no_retry() {
        let budget = Budget::default();
        (0..1000).for_each(|_| budget.request(Duration::from_secs(1)));
        assert!(!budget.retry(0.0, Duration::from_secs(1)));
    }
}
