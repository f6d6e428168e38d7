//! A sliding window over counters that only grow.

/// Calls of one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// Of all.
    pub(crate) slow: u64,
}

impl Counts {
    pub(crate) fn all(self) -> u64 {
        self.ok + self.failed
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            ok: self.ok.saturating_sub(earlier.ok),
            failed: self.failed.saturating_sub(earlier.failed),
            slow: self.slow.saturating_sub(earlier.slow),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self { ok: self.ok + other.ok, failed: self.failed + other.failed, slow: self.slow + other.slow }
    }
}

const SLOTS: usize = 10;

/// Ten slots of a tenth of the window each; what was counted between two looks belongs to the later one.
#[derive(Debug)]
pub(crate) struct Window {
    slot_millis: u64,
    /// The slot's number since the beginning of time, and what fell into it.
    slots: [(u64, Counts); SLOTS],
    seen: Counts,
}

impl Window {
    pub(crate) fn new(millis: u64, totals: Counts) -> Self {
        let slot_millis = (millis / SLOTS as u64).max(1);
        Self { slot_millis, slots: [(0, Counts::default()); SLOTS], seen: totals }
    }

    pub(crate) fn look(&mut self, totals: Counts, now: u64) {
        let number = now / self.slot_millis;
        let slot = &mut self.slots[usize::try_from(number % SLOTS as u64).unwrap_or(0)];
        if slot.0 != number {
            *slot = (number, Counts::default());
        }
        slot.1 = slot.1.plus(totals.since(self.seen));
        self.seen = totals;
    }

    pub(crate) fn sum(&self, now: u64) -> Counts {
        let oldest = (now / self.slot_millis).saturating_sub(SLOTS as u64 - 1);
        let recent = self.slots.iter().filter(|(number, _)| *number >= oldest);
        recent.fold(Counts::default(), |sum, (_, counts)| sum.plus(*counts))
    }

    /// Forgets all that was counted until now.
    pub(crate) fn clear(&mut self, totals: Counts) {
        self.slots = [(0, Counts::default()); SLOTS];
        self.seen = totals;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(ok: u64) -> Counts {
        Counts { ok, ..Counts::default() }
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut window = Window::new(10_000, ok(7));
        window.look(ok(10), 100_000);
        window.look(ok(15), 105_000);
        assert_eq!(window.sum(105_000), ok(8));
        assert_eq!(window.sum(109_999), ok(8));
        assert_eq!(window.sum(110_000), ok(5));
        assert_eq!(window.sum(115_000), ok(0));
    }

    #[test]
    fn a_cleared_window_begins_anew() {
        let mut window = Window::new(1_000, ok(0));
        window.look(ok(10), 5_000);
        window.clear(ok(12));
        window.look(ok(13), 5_001);
        assert_eq!(window.sum(5_001), ok(1));
    }
}
