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
/// So long waits who would be refused otherwise. A disk that stalls, or a machine on which a node starts, is silent for some
/// tenths of a second; a leader that died has a successor after 1.04 to 1.13 s.
const IN_NEED: Nanos = Nanos::from_millis(1_500);

#[derive(Debug)]
pub(crate) struct Silence {
    /// Since when no leader answers (boot clock); 0: the last exchange went well.
    since: AtomicU64,
    /// When one last answered (boot clock).
    heard: AtomicU64,
    /// What answers take, in ns: the longest, fading by an eighth with each answer.
    slowest: AtomicU64,
    /// When the way to the leader was last moved to another process (boot clock); 0: never; [`MOVING`]: it is being moved.
    moved: AtomicU64,
}

/// Until then there is no way, and there will be one: the other process opens its store meanwhile.
const MOVING: u64 = u64::MAX;

impl Silence {
    pub(crate) fn none() -> Self {
        Self {
            since: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            slowest: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        }
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

    /// Somebody waited so long in vain: whoever comes next need not find out for himself.
    pub(crate) fn give_up(&self, waited: Nanos) {
        self.began(clock::boot().saturating_sub(waited));
    }

    fn began(&self, at: Nanos) {
        let _already = self.since.compare_exchange(0, at.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// No leader is there: until one answers, nobody with this patience waits for it.
    pub(crate) fn is_given_up(&self, now: Nanos, patience: Nanos) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != 0 && !self.is_moving() && now >= Nanos(since).saturating_add(patience)
    }

    /// It answered somebody so short a time ago that it is there.
    pub(crate) fn is_unlikely(&self, now: Nanos) -> bool {
        now < Nanos(self.heard.load(Ordering::Relaxed)).saturating_add(self.patience())
    }

    /// The longest wait for an answer of who could go on without one.
    pub(crate) fn patience(&self) -> Nanos {
        let rounds = Nanos(self.slowest.load(Ordering::Relaxed).saturating_mul(ROUNDS));
        rounds.clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    /// The longest wait for an answer. `in_need`: without one, a call is refused.
    pub(crate) fn patience_of(&self, in_need: bool) -> Nanos {
        if in_need { IN_NEED } else { self.patience() }
    }

    /// The way to the leader is being moved to another process, or is there again.
    pub(crate) fn moves(&self, moving: bool) {
        if moving {
            return self.moved.store(MOVING, Ordering::Relaxed);
        }
        self.since.store(0, Ordering::Relaxed);
        self.moved.store(clock::boot().0, Ordering::Relaxed);
    }

    fn is_moving(&self) -> bool {
        self.moved.load(Ordering::Relaxed) == MOVING
    }

    /// Since when somebody has waited for a leader: a move is not counted.
    pub(crate) fn waited_since(&self, started: Nanos, now: Nanos) -> Nanos {
        match self.moved.load(Ordering::Relaxed) {
            MOVING => now,
            moved => started.max(Nanos(moved)),
        }
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
        let is_given_up = |after, in_need| {
            silence.is_given_up(now.saturating_add(Nanos::from_millis(after)), silence.patience_of(in_need))
        };
        assert!(!is_given_up(0, false), "nothing failed");
        silence.begins();
        assert!(!is_given_up(100, false) && is_given_up(400, false));
        assert!(!is_given_up(1_400, true) && is_given_up(1_700, true), "who would be refused waits longer");
        silence.ends(Nanos::ZERO);
        assert!(!is_given_up(400, false) && !is_given_up(1_700, true));
    }

    #[test]
    fn while_the_way_is_moved_nobody_gives_up() {
        let silence = Silence::none();
        let (started, now) = (Nanos(1), clock::boot());
        assert_eq!(silence.waited_since(started, now), started);
        silence.moves(true);
        silence.begins();
        let later = now.saturating_add(Nanos::from_secs(100));
        assert!(!silence.is_given_up(later, silence.patience_of(true)));
        assert_eq!(silence.waited_since(started, later), later);
        silence.moves(false);
        assert!(!silence.is_given_up(later, silence.patience_of(true)), "the new way is tried first");
        assert!(silence.waited_since(started, later) >= now, "and is waited for as any is");
        silence.begins();
        assert!(silence.is_given_up(later, silence.patience_of(true)));
    }

    #[test]
    fn who_waited_in_vain_spares_the_next_one_the_wait() {
        let (silence, patience) = (Silence::none(), Silence::none().patience());
        silence.give_up(patience);
        assert!(silence.is_given_up(clock::boot(), patience));
        assert!(!silence.is_given_up(clock::boot(), silence.patience_of(true)), "not who would be refused");
        let in_need = Silence::none();
        in_need.give_up(silence.patience_of(true));
        assert!(in_need.is_given_up(clock::boot(), silence.patience_of(true)));
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
