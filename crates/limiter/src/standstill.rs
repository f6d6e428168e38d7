//! A machine that stood still without its clock knowing: a guest that was paused, or moved to another host. Its boot clock goes
//! on where it stopped, so its leases seem to last; its wall clock is set right soon after. When that is put forward all at
//! once, every lease of this node ends, and what is left of them is handed back.
//!
//! A mitigation, not a promise: what was spent before the wall clock was set right, nobody can tell (docs/quota.md). A wall clock
//! that is put forward for another reason costs a round trip. Asked by `tick.rs`.

use std::time::Duration;

use tidegate_clock as clock;
use tidegate_model::Nanos;
use tidegate_quota::guard;

use crate::admit::Limiter;

/// How often is looked.
pub(crate) const LOOK: Duration = Duration::from_millis(100);
/// Clocks that are slewed do not come as far apart between two looks. Less than a lease has in hand.
const JUMP: Nanos = Nanos::from_millis(300);
/// Clocks that were read further apart than this say nothing of each other.
const AT_ONCE: Nanos = Nanos::from_millis(10);

#[derive(Debug, Default)]
pub(crate) struct Standstill {
    /// By how much the wall clock is ahead of the boot clock.
    ahead: Option<Nanos>,
}

impl Standstill {
    /// Did the machine stand still since the last look?
    pub(crate) fn look(&mut self) -> bool {
        let (before, wall, after) = (clock::boot(), clock::wall(), clock::boot());
        after.saturating_sub(before) <= AT_ONCE && self.saw(wall, after)
    }

    fn saw(&mut self, wall: Nanos, boot: Nanos) -> bool {
        let ahead = wall.saturating_sub(boot);
        let before = self.ahead.replace(ahead);
        before.is_some_and(|before| ahead > before.saturating_add(JUMP)) && guard!("standstill-ends-leases")
    }
}

impl Limiter {
    /// All leases of this node end now.
    pub(crate) fn end_leases(&self) {
        for slot in self.table.all() {
            slot.holding().end_lease(&slot.cell);
            self.bell.list(&slot, slot.number);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_is_put_forward_tells_of_a_machine_that_stood_still() {
        let mut standstill = Standstill::default();
        let mut saw = |wall, boot| standstill.saw(Nanos::from_millis(wall), Nanos::from_millis(boot));
        assert!(!saw(50_000, 1_000), "nothing is known before");
        assert!(!saw(50_100, 1_100));
        assert!(!saw(50_209, 1_200), "slewed");
        assert!(saw(55_309, 1_300), "five seconds that the boot clock did not see");
        assert!(!saw(55_409, 1_400), "once");
        assert!(!saw(49_000, 1_500), "set back: no time was missed");
        assert!(!saw(49_100, 1_600));
    }
}
