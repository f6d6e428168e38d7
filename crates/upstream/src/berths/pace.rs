//! Those who wait are let in one after the other, not all at the moment when several berths come free. Requests that start
//! together end together: then all berths are free at once and, in between, none for as long as an answer takes, and that is
//! what the best class would wait. An upstream that works on a hundred at once comes to no harm by a pause of a few
//! milliseconds; one that works on eight answers in turns.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Of the time between two answers, on average, so much at least lies between two starts: enough to spread what started
/// together, and too little to leave berths empty that could be full.
const SHARE: f64 = 0.6;
/// Shorter pauses are not worth a timer.
const LEAST: Duration = Duration::from_millis(1);
/// Of a base that is wrong.
const MOST: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Between two starts; 0: none.
    gap: AtomicU64, // microseconds
    /// When the last one was let in from the line, in the line's time.
    last: AtomicU64, // microseconds
    /// Somebody will look when the pause is over.
    is_awaited: AtomicBool,
}

impl Pace {
    /// `base`: how long an answer takes when nothing waits.
    pub(super) fn set(&self, base: Option<Duration>, limit: u32) {
        let gap = base.unwrap_or_default().mul_f64(SHARE / f64::from(limit.max(1)));
        self.gap.store(if gap < LEAST { 0 } else { super::micros(gap.min(MOST)) }, Relaxed);
    }

    /// How much longer to wait. `None`: not at all.
    pub(super) fn pause(&self, now: Duration) -> Option<Duration> {
        let gap = self.gap.load(Relaxed);
        if gap == 0 {
            return None;
        }
        let until = Duration::from_micros(self.last.load(Relaxed) + gap);
        until.checked_sub(now).filter(|pause| !pause.is_zero())
    }

    pub(super) fn started(&self, now: Duration) {
        self.last.store(super::micros(now), Relaxed);
    }

    /// Then it is his to look later.
    pub(super) fn is_first_to_wait(&self) -> bool {
        !self.is_awaited.swap(true, Relaxed)
    }

    pub(super) fn is_over(&self) {
        self.is_awaited.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn starts_keep_their_distance_where_that_is_worth_a_timer() {
        let pace = Pace::default();
        assert_eq!(pace.pause(1_000 * MILLI), None, "nothing is learnt yet");
        pace.set(Some(100 * MILLI), 10);
        pace.started(1_000 * MILLI);
        assert_eq!(pace.pause(1_002 * MILLI), Some(4 * MILLI));
        assert_eq!(pace.pause(1_006 * MILLI), None);
        assert_eq!(pace.pause(9_000 * MILLI), None);
        pace.set(Some(100 * MILLI), 100);
        assert_eq!(pace.pause(1_000 * MILLI), None, "a hundred at once leave no gap to speak of");
        pace.set(Some(Duration::from_secs(3_600)), 1);
        assert_eq!(pace.pause(1_000 * MILLI), Some(MOST));
    }
}
