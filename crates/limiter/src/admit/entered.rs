//! What requests take of budgets, as the journal is told: before it is used, and when it was put back.

use tidegate_clock as clock;
use tidegate_model::Permits;
use tidegate_quota::cell::Ticket;
use tidegate_quota::holding::{Reservation, Settled};

use super::Limiter;
use crate::slot::Slot;

impl Limiter {
    /// Between a take and its stamp, so that it is of the lease that was taken from. What is burnt then stays entered, as it is
    /// reported: as spent.
    #[inline]
    pub(super) fn enter(&self, slot: &Slot, cost: Permits) {
        if let Some(journal) = &self.journal {
            journal.take(slot.entry(), cost);
        }
    }

    /// As [`tidegate_quota::Cell::put_back`].
    pub(crate) fn put_back(&self, slot: &Slot, ticket: Ticket) {
        match &self.journal {
            Some(journal) if slot.entry() != 0 => {
                // Under the lock the lease stays the one that it came back to.
                let _locked = slot.holding();
                if slot.cell.put_back(ticket) {
                    journal.give(slot.entry(), ticket.cost);
                }
            }
            _ => _ = slot.cell.put_back(ticket),
        }
    }

    /// What was used of a reservation is spent, the rest comes back; what was used beyond it is owed.
    /// With the calendar window that what was paid at once beyond the reservation counts to: that of the permits at hand now,
    /// and not of those that were reserved.
    pub(crate) fn settle(&self, slot: &Slot, reservation: Reservation, used: Permits) -> (Settled, Option<u64>) {
        let mut holding = slot.holding();
        // What is owed is entered as well: it is paid from this lease, or lost with the process.
        self.enter(slot, used.saturating_sub(reservation.cost));
        let settled = holding.settle(&slot.cell, reservation, used, clock::boot);
        if let Some(journal) = &self.journal {
            journal.give(slot.entry(), settled.refunded);
        }
        (settled, slot.window_at_hand())
    }

    /// `more` for a reservation that turns out too small. `false`: it is not there.
    pub(crate) fn extend(&self, slot: &Slot, reservation: &mut Reservation, more: Permits) -> bool {
        let mut holding = slot.holding();
        let extended = holding.extend(&slot.cell, reservation, more, clock::boot);
        if extended {
            self.enter(slot, more);
        }
        extended
    }
}
