//! A token bucket: `level` permits that nobody holds. It caps the *sum* of the level and of what is held, so that nodes cannot
//! hoard: capped alone, the level would fill up again while ten nodes hold a burst each.
//!
//! ```text
//!   level + held ≤ B at every log time         refill only below B, at r on the log clock, which runs at most as fast as time
//!   grant: level → held     back: held → level     spent, lapsed: held → gone, and only time brings it back
//! ```

use serde::{Deserialize, Serialize};
use tidegate_model::{Nanos, Permits};

use crate::guard;
use crate::protocol::{Kind, Policy, Rate};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    level: Permits,
    /// Time up to here has brought its whole permits.
    since: Nanos,
    /// As of `since`: a rate that was raised holds from the first look on.
    rate: Rate,
}

impl Bucket {
    pub(super) fn full(burst: Permits, rate: Rate, clock: Nanos) -> Self {
        Self { level: burst, since: clock, rate }
    }

    pub(super) fn level(&self) -> Permits {
        self.level
    }

    pub(super) fn refill(&mut self, clock: Nanos, held: Permits, policy: &Policy) {
        self.refill_at(self.rate_of(policy), clock, held, policy);
    }

    pub(super) fn refill_at(&mut self, rate: Rate, clock: Nanos, held: Permits, policy: &Policy) {
        let sum = if guard!("bucket-caps-the-sum") { self.level.saturating_add(held) } else { self.level };
        let room = policy.max.saturating_sub(sum);
        let slower = if guard!("bucket-slower-rate-counts") { self.rate.slower(rate) } else { rate };
        let (come, took) = slower.whole(clock.saturating_sub(self.since));
        if come >= room || self.rate != rate {
            // Full, or the rate is another one: what was begun of a permit is lost.
            self.since = clock;
        } else {
            self.since = self.since.saturating_add(took);
        }
        self.rate = rate;
        // Lowered below what is there and held: what is there goes first.
        let most = if guard!("bucket-caps-the-sum") { policy.max.saturating_sub(held) } else { policy.max };
        self.level = self.level.saturating_add(come.min(room)).min(most);
    }

    pub(super) fn take(&mut self, granted: Permits) {
        self.level = self.level.saturating_sub(granted);
    }

    pub(super) fn put(&mut self, unspent: Permits) {
        self.level = self.level.saturating_add(unspent);
    }

    pub(super) fn frees(&self, missing: Permits, clock: Nanos, policy: &Policy) -> Option<Nanos> {
        let time = self.rate_of(policy).time(missing);
        (time != Nanos::MAX).then(|| self.since.saturating_add(time).saturating_sub(clock))
    }

    /// When it is full, if nothing is taken any more; `None`: it is. Kept until then, since a new one begins full.
    pub(super) fn is_full_at(&self, policy: &Policy) -> Option<Nanos> {
        let missing = policy.max.saturating_sub(self.level);
        let time = self.rate_of(policy).time(missing).max(Nanos(1));
        (missing != Permits::ZERO && guard!("bucket-kept-until-full")).then(|| self.since.saturating_add(time))
    }

    fn rate_of(&self, policy: &Policy) -> Rate {
        match policy.kind {
            Kind::Bucket { rate } | Kind::Smooth { rate } => rate,
            _ => self.rate,
        }
    }
}
