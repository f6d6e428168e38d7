//! How often a node tells the leader of a key that is in use. What it holds lasts, so what was spent may wait a little:
//! as long as the leader has plenty left, nobody needs to know sooner. Where permits are short, each moment that a permit
//! is spent and not told of is a moment longer that it stays charged.
//!
//! Asked by the [`Holding`](crate::Holding). Never consulted for what somebody waits for: that is told at once.

use tidegate_model::{Nanos, Permits};

/// The shortest pause between two routine reports: a node's tick.
const SHORTEST: Nanos = Nanos::from_millis(20);
/// The longest: eight ticks, below the reminder of what is held and not used.
const LONGEST: u64 = 8;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    window: Nanos,
    supply: Supply,
    /// What the cell held after the last answer, and when that was.
    stock: Permits,
    since: Nanos,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Supply {
    /// The last wish was not granted in full.
    #[default]
    Scarce,
    Enough,
    /// Half of the limit is free.
    Plenty,
}

/// What an answer says of the supply.
pub(crate) struct Answered {
    pub(crate) want: Permits,
    pub(crate) granted: Permits,
    pub(crate) free: Permits,
    pub(crate) max: Permits,
}

impl Pace {
    pub(crate) fn answered(&mut self, answer: &Answered, window: Nanos, stock: Permits, now: Nanos) {
        let supply = if answer.free.0 >= answer.max.0.div_ceil(2) {
            Supply::Plenty
        } else if answer.granted < answer.want {
            Supply::Scarce
        } else {
            Supply::Enough
        };
        *self = Self { window, supply, stock, since: now };
    }

    /// Is it time to tell what was spent since `told`, with so much left in the cell?
    pub(crate) fn is_time(&self, told: Nanos, left: Permits, now: Nanos) -> bool {
        let ticks = self.ticks();
        if ticks == 1 || self.runs_low(left, now) {
            return true;
        }
        // On a grid, so that all keys of a node are told of together.
        let period = SHORTEST.0 * ticks;
        now.0 >= (told.0 + period / 2).next_multiple_of(period)
    }

    /// A power of two, so that slower grids are part of faster ones.
    fn ticks(&self) -> u64 {
        let pause = match self.supply {
            Supply::Scarce => (self.window.0 / 250).min(SHORTEST.0 * LONGEST / 2),
            Supply::Enough => self.window.0 / 20,
            Supply::Plenty => u64::MAX,
        };
        let ticks = (pause / SHORTEST.0).clamp(1, LONGEST);
        1 << ticks.ilog2()
    }

    /// At the present rate, will three quarters of the stock be gone by the next tick?
    fn runs_low(&self, left: Permits, now: Nanos) -> bool {
        let reserve = self.stock.0 / 4;
        let used = self.stock.saturating_sub(left).0;
        let Some(rest) = left.0.checked_sub(reserve) else { return true };
        let elapsed = now.saturating_sub(self.since).0.max(1);
        u128::from(rest) * u128::from(elapsed) < u128::from(used) * u128::from(SHORTEST.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn pace(free: u64, granted: u64, window: Nanos) -> Pace {
        let mut pace = Pace::default();
        let answer =
            Answered { want: Permits(40), granted: Permits(granted), free: Permits(free), max: Permits(1_000) };
        pace.answered(&answer, window, Permits(100), Nanos(0));
        pace
    }

    /// The first tick at which 1 permit of 100 spent per tick is told of.
    fn told_after(pace: &Pace) -> u64 {
        let ticks = 1..50;
        let at = |tick: &u64| pace.is_time(Nanos(0), Permits(100 - tick), Nanos(tick * 20 * MILLI));
        ticks.filter(at).map(|tick| tick * 20).next().expect("told of at last")
    }

    #[test]
    fn the_less_is_left_the_sooner_it_is_told() {
        assert_eq!(told_after(&pace(500, 40, Nanos::SECOND)), 160, "plenty");
        assert_eq!(told_after(&pace(400, 40, Nanos::from_secs(60))), 160, "enough");
        assert_eq!(told_after(&pace(400, 40, Nanos::SECOND)), 40, "enough, and a short window");
        assert_eq!(told_after(&pace(400, 39, Nanos::SECOND)), 20, "scarce");
        assert_eq!(told_after(&pace(400, 39, Nanos::from_secs(60))), 80, "scarce, and a long window");
        assert_eq!(told_after(&Pace::default()), 20, "nothing is known yet");
    }

    #[test]
    fn a_stock_that_will_not_last_is_told_of_at_once() {
        let pace = pace(900, 40, Nanos::from_secs(60));
        let at = |left, millis: u64| pace.is_time(Nanos(0), Permits(left), Nanos(millis * MILLI));
        assert!(!at(70, 20), "45 above the reserve, 30 per tick");
        assert!(at(60, 20), "35 above the reserve, 40 per tick");
        assert!(at(25, 60) && at(0, 60), "the reserve is touched");
    }

    #[test]
    fn keys_that_were_told_of_apart_are_told_of_together_in_the_end() {
        let pace = pace(900, 40, Nanos::SECOND);
        let due = |told: u64| {
            (told..told + 400).find(|at| pace.is_time(Nanos(told * MILLI), Permits(100), Nanos(at * MILLI)))
        };
        assert_eq!((due(5), due(79), due(81), due(239)), (Some(160), Some(160), Some(320), Some(320)));
    }
}
