//! A machine's clock, as far from true time as the promise allows.

use tidegate_model::Nanos;
use tidegate_quota::guard;

/// Millionths of true time: 1,000,000 runs true.
pub(super) type Rate = u64;

/// `CLOCK_BOOTTIME`, slewed by an NTP daemon: ± 8 %.
pub(super) const HOLDER_SLOWEST: Rate = 920_000;
pub(super) const HOLDER_FASTEST: Rate = 1_080_000;
/// `CLOCK_MONOTONIC_RAW`: ± 0.1 %.
pub(super) const LEADER_SLOWEST: Rate = 999_000;
const LEADER_FASTEST: Rate = 1_001_000;

pub(super) fn leader_fastest() -> Rate {
    if guard!("leader-clock-is-not-slewed") { LEADER_FASTEST } else { HOLDER_FASTEST }
}

#[derive(Debug, Clone)]
pub(super) struct Clock {
    rate: Rate,
    /// True time when the rate was last changed, and what the clock said then.
    since: u64,
    said: u64,
}

impl Clock {
    pub(super) fn new(rate: Rate, said: u64) -> Self {
        Self { rate, since: 0, said }
    }

    pub(super) fn read(&self, now: u64) -> Nanos {
        let elapsed = u128::from(now.saturating_sub(self.since)) * u128::from(self.rate) / 1_000_000;
        Nanos(self.said + u64::try_from(elapsed).expect("a simulation is short"))
    }

    /// When it will say so, if it goes on as now.
    pub(super) fn when(&self, says: Nanos) -> u64 {
        let elapsed = u128::from(says.0.saturating_sub(self.said)) * 1_000_000 / u128::from(self.rate);
        self.since.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)).saturating_add(1)
    }

    pub(super) fn slew(&mut self, now: u64, rate: Rate) {
        (self.said, self.since) = (self.read(now).0, now);
        self.rate = rate;
    }

    /// Stands still from `now` to `until`: what `CLOCK_MONOTONIC_RAW` does while its machine is suspended.
    pub(super) fn stop(&mut self, now: u64, until: u64) {
        (self.said, self.since) = (self.read(now).0, until);
    }
}
