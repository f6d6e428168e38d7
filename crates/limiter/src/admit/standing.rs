//! Where a call's limits stand once it is decided: what `RateLimit` headers and the record tell.

use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};

use super::{Ask, Limiter};
use crate::slot::Slot;

/// Where a limit stands after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// A lower bound of what is left in the window.
    pub remaining: Permits,
    /// Until permits come free.
    pub reset: Duration,
    /// An observed limit would have refused this call.
    pub would_refuse: bool,
    /// Nobody could say, and the limit allows that (`on_unavailable: allow`): not exact.
    pub unsafely: bool,
}

pub type Standings = SmallVec<[Standing; 4]>;

impl Limiter {
    /// What is left in the window, as far as this node can tell: its own permits, and its share of those that were free
    /// when the leader last answered.
    #[inline]
    pub(crate) fn remaining(&self, slot: &Slot, now: Nanos) -> Permits {
        let free = slot.free_for_all(now).0;
        // One node alone, most often: a division is dear.
        let share = match self.sharers.load(Ordering::Relaxed) {
            0 | 1 => free,
            nodes => free / nodes,
        };
        slot.cell.left().saturating_add(Permits(share))
    }
}

/// What became of asks that were not taken, by bit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    pub(super) would_refuse: u64,
    pub(super) unsafely: u64,
}

/// Looks each limit up anew: for answers that are not a plain yes.
pub(super) fn standings(limiter: &Limiter, asks: &[Ask<'_>], marks: Marks) -> Standings {
    asks.iter()
        .enumerate()
        .map(|(at, ask)| {
            let (now, found) = (clock::boot(), limiter.table.peek(ask.key()));
            let remaining = found.map_or(Permits::ZERO, |found| limiter.remaining(found.slot, now));
            let frees = found.map_or(Nanos::ZERO, |found| Nanos(found.slot.frees_at.load(Ordering::Relaxed)));
            let dated = found.and_then(|found| found.slot.window_goes_on());
            let reset =
                if frees > now { frees.saturating_sub(now) } else { dated.unwrap_or_else(|| limiter.span(ask)) };
            Standing {
                remaining,
                reset: reset.into(),
                would_refuse: is_marked(marks.would_refuse, at),
                unsafely: is_marked(marks.unsafely, at),
            }
        })
        .collect()
}

#[inline]
pub(super) const fn is_marked(marks: u64, at: usize) -> bool {
    marks & bit(at) != 0
}

#[inline]
pub(super) const fn mark(marks: u64, at: usize) -> u64 {
    marks | bit(at)
}

#[inline]
const fn bit(at: usize) -> u64 {
    1 << (if at < 63 { at } else { 63 })
}
