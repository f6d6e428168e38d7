//! Whether a quota leader answers, and how long it is worth waiting for one. The tick tells what it heard; requests that would
//! have to wait ask. Knows no key and no limit.

use std::time::Duration;

use tidegate_clock as clock;
use tidegate_model::Nanos;

use crate::sync::{AtomicU64, Ordering};

/// Beyond this without an answer no leader is there …
const LEAST_PATIENCE: Nanos = Nanos::from_millis(250);
/// … or so many times what answers take, on a machine that is short of time …
const ROUNDS: u64 = 4;
/// … but never more than this.
const MOST_PATIENCE: Nanos = Nanos::SECOND;

#[derive(Debug)]
pub(crate) struct Silence {
    /// Since when no leader answers (boot clock); 0: the last exchange went well.
    since: AtomicU64,
    /// When one last answered (boot clock).
    heard: AtomicU64,
    /// What answers take, in ns: the longest, fading by an eighth with each answer.
    slowest: AtomicU64,
}

impl Silence {
    pub(crate) fn none() -> Self {
        Self { since: AtomicU64::new(0), heard: AtomicU64::new(0), slowest: AtomicU64::new(0) }
    }

    /// A leader has answered, after so long.
    pub(crate) fn ends(&self, took: Nanos) {
        let slowest = self.slowest.load(Ordering::Relaxed);
        self.slowest.store(took.0.max(slowest - slowest / 8), Ordering::Relaxed);
        self.heard.store(clock::boot().0, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
    }

    /// An exchange failed. A leader may be handing over to the next one: that is waited for as an answer is.
    pub(crate) fn begins(&self) {
        self.began(clock::boot());
    }

    /// Somebody waited in vain: whoever comes next need not find out for himself.
    pub(crate) fn give_up(&self) {
        self.began(clock::boot().saturating_sub(self.patience()));
    }

    fn began(&self, at: Nanos) {
        let _already = self.since.compare_exchange(0, at.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// No leader is there: until one answers, nobody waits for it.
    pub(crate) fn is_given_up(&self, now: Nanos) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && now >= Nanos(since).saturating_add(self.patience())
    }

    /// It answered somebody so short a time ago that it is there.
    pub(crate) fn is_unlikely(&self, now: Nanos) -> bool {
        now < Nanos(self.heard.load(Ordering::Relaxed)).saturating_add(self.patience())
    }

    /// The longest wait for an answer.
    pub(crate) fn patience(&self) -> Nanos {
        let rounds = Nanos(self.slowest.load(Ordering::Relaxed).saturating_mul(ROUNDS));
        rounds.clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    /// How long no leader has answered; `None`: the last exchange went well.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0).then(|| clock::boot().saturating_sub(Nanos(since)).into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_failed_exchange_is_waited_out_as_long_as_an_answer() {
        let silence = Silence::none();
        let now = clock::boot();
        assert!(!silence.is_given_up(now), "nothing failed");
        silence.begins();
        assert!(!silence.is_given_up(now.saturating_add(Nanos::from_millis(100))));
        assert!(silence.is_given_up(now.saturating_add(Nanos::from_millis(400))));
        silence.ends(Nanos::ZERO);
        assert!(!silence.is_given_up(now.saturating_add(Nanos::from_millis(400))));
    }

    #[test]
    fn who_waited_in_vain_spares_the_next_one_the_wait() {
        let silence = Silence::none();
        silence.give_up();
        assert!(silence.is_given_up(clock::boot()));
    }

    #[test]
    fn patience_follows_what_answers_take() {
        let silence = Silence::none();
        assert_eq!(silence.patience(), LEAST_PATIENCE);
        silence.ends(Nanos::from_millis(150));
        assert_eq!(silence.patience(), Nanos::from_millis(600));
        silence.ends(Nanos::from_millis(900));
        assert_eq!(silence.patience(), MOST_PATIENCE);
        for _ in 0..40 {
            silence.ends(Nanos::from_millis(2));
        }
        assert_eq!(silence.patience(), LEAST_PATIENCE);
    }
}
