//! How long commits to the log take. A disk that is slow makes no wrong state, but whoever waits for this node waits for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A commit that takes longer is slow: half of what a follower waits for its leader.
const SLOW: Duration = Duration::from_millis(500);
/// A disk counts as slow for so long after the last such commit.
const STAYS: Duration = Duration::from_secs(15);
/// Up to so many milliseconds; the last counts all that is longer.
const STEPS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, u64::MAX];

/// Commits since the process started.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    steps: [AtomicU64; STEPS.len()],
    nanos: AtomicU64,
    /// When the one that runs began, on the boot clock; 0: none does.
    since: AtomicU64,
    /// The last slow one: when it ended, and how long it took.
    slow_at: AtomicU64,
    slow_took: AtomicU64,
}

/// How commits to a group's log went on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Commits {
    /// Seconds, all together.
    pub seconds: f64,
    /// Up to so many seconds (the last: `f64::MAX`), how many took longer than the step before.
    pub steps: Vec<(f64, u64)>,
    /// It took so long a short time ago, or takes so long now.
    pub slow: Option<Duration>,
}

impl Pace {
    pub(crate) fn begin(&self) {
        self.since.store(tidegate_clock::boot().0.max(1), Ordering::Release);
    }

    pub(crate) fn end(&self) {
        let now = tidegate_clock::boot().0;
        let took = Duration::from_nanos(now.saturating_sub(self.since.swap(0, Ordering::AcqRel)));
        let step = STEPS.iter().position(|most| took.as_millis() <= u128::from(*most)).unwrap_or(STEPS.len() - 1);
        self.steps[step].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
        if SLOW < took {
            if self.slow().is_none() {
                tracing::warn!(
                    ?took,
                    "DISK SLOW: a commit to the log took long; voters should not share a disk with what writes a lot"
                );
            }
            self.slow_took.store(nanos, Ordering::Relaxed);
            self.slow_at.store(now.max(1), Ordering::Release);
        }
    }

    fn slow(&self) -> Option<Duration> {
        let now = tidegate_clock::boot().0;
        let since = |at: u64| (at > 0).then(|| Duration::from_nanos(now.saturating_sub(at)));
        let runs = since(self.since.load(Ordering::Acquire)).filter(|runs| SLOW < *runs);
        let last = since(self.slow_at.load(Ordering::Acquire)).filter(|ago| *ago < STAYS);
        runs.or_else(|| last.map(|_| Duration::from_nanos(self.slow_took.load(Ordering::Relaxed))))
    }

    pub(crate) fn told(&self) -> Commits {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a step are small")]
        let upto = |most: u64| if most == u64::MAX { f64::MAX } else { most as f64 / 1_000.0 };
        let steps = STEPS.iter().zip(&self.steps).map(|(most, count)| (upto(*most), count.load(Ordering::Relaxed)));
        let seconds = Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64();
        Commits { seconds, steps: steps.collect(), slow: self.slow() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_counted_once_and_a_long_one_is_remembered() {
        let pace = Pace::default();
        pace.begin();
        pace.end();
        let told = pace.told();
        assert_eq!((told.steps.iter().map(|(_, count)| count).sum::<u64>(), told.slow), (1, None));
        assert!(tidegate_clock::boot().0 > 700_000_000, "the machine is up for a second");
        pace.since.store(tidegate_clock::boot().0 - 700_000_000, Ordering::Relaxed);
        assert!(pace.told().slow.is_some(), "it runs");
        pace.end();
        let told = pace.told();
        assert!(told.slow.is_some_and(|took| took >= Duration::from_millis(700)), "{told:?}");
        assert_eq!(told.steps.iter().filter(|(upto, _)| *upto >= 1.0).map(|(_, count)| count).sum::<u64>(), 1);
    }
}
