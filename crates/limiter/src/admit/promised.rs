//! Takes that are not one atomic step: places of concurrency limits, and reservations.

use tidegate_clock as clock;
use tidegate_model::Nanos;
use tidegate_policy::Nature;
use tidegate_quota::cell::{Grab, Take};

use super::taking::{Got, Taking};
use super::{Ask, Limiter};
use crate::running::{Held, What};
use crate::slot::{Found, Kept};

/// A reservation that waits: what it is granted is kept for it. Given up when dropped.
pub(crate) struct Waiter<'l> {
    pub(super) ask: usize,
    found: Found<'l>,
    ticket: u64,
}

impl<'l> Waiter<'l> {
    /// `None`: places are not kept, or too many wait already. The slot is pinned by who calls, for as long as this lives.
    pub(crate) fn new(found: &Found<'l>, at: usize, ask: &Ask<'_>) -> Option<Self> {
        if ask.limit.kind.nature() == Nature::InUse {
            return None;
        }
        let ticket = found.slot.holding().wait(ask.cost)?;
        Some(Self { ask: at, found: *found, ticket })
    }

    pub(crate) fn ticket(&self) -> u64 {
        self.ticket
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut holding = self.found.slot.holding();
        if self.found.is_still() {
            holding.leave(&self.found.slot.cell, self.ticket);
        }
    }
}

impl Limiter {
    #[cold]
    pub(super) fn take_otherwise(
        &self,
        taking: &Taking<'_>,
        ask: &Ask<'_>,
        waiter: Option<&Waiter<'_>>,
    ) -> Option<Got> {
        let found = taking.found;
        self.bell.list(found.slot, found.number);
        if ask.limit.kind.nature() == Nature::InUse {
            return found.slot.cell.grab(ask.cost).map(Got::Place);
        }
        let mut holding = found.slot.holding();
        if !found.is_still() {
            return None;
        }
        let kept = waiter.filter(|waiter| waiter.ask == taking.ask);
        let kept = kept.and_then(|waiter| holding.redeem(&found.slot.cell, waiter.ticket, clock::boot));
        let reservation = kept.or_else(|| holding.reserve(&found.slot.cell, ask.cost, clock::boot))?;
        if ask.limit.kind.is_journalled() {
            self.enter(found.slot, ask.cost);
        }
        // Under the lock: the window does not change before it is read.
        Some(Got::Promised(reservation, found.slot.window_number(ask.limit)))
    }

    #[cold]
    pub(super) fn stamp_place(
        &self,
        found: &Found<'_>,
        ask: &Ask<'_>,
        at: usize,
        grab: Grab,
        now: Nanos,
    ) -> Option<Held> {
        match found.slot.cell.stamp(grab, now) {
            Take::Taken(ticket) => self.held(found, ask, at, What::Place(ticket)),
            // It admitted nobody: idle again, and handed back with the next report.
            Take::Burnt(_) | Take::Short => {
                found.slot.cell.ungrab(grab);
                None
            }
        }
    }

    /// `None`: the slot is gone, which a pin or what is held prevents.
    pub(super) fn held(&self, found: &Found<'_>, ask: &Ask<'_>, at: usize, what: What) -> Option<Held> {
        let slot = Kept::of(found, self.table.handle(found.number)?)?;
        Some(Held::of(slot, ask, self.maximum(ask), what, at))
    }
}
