//! What requests take of budgets, as the journal is told: before it is used, and when it was put back.

use std::sync::atomic::Ordering;

use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_quota::cell::Ticket;
use tidegate_quota::holding::{Reservation, Settled};
use tidegate_quota::protocol::Key;

use super::Limiter;
use crate::slot::Slot;

/// An upstream that says so once says so with each call.
const TOLD_EVERY: Nanos = Nanos::from_secs(10);

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

    /// One more piece for a call that runs: what was kept for the ticket, or `want`, or what is there if that is at least `least`. With
    /// the calendar window that it counts to.
    pub(crate) fn reserve_more(
        &self,
        slot: &Slot,
        want: Permits,
        least: Permits,
        ticket: Option<u64>,
    ) -> Option<(Reservation, Option<u64>)> {
        let mut holding = slot.holding();
        if clock::boot() >= slot.cell.expiry() {
            return None; // Taken of a lease that has ended, it would be burnt.
        }
        let kept = ticket.and_then(|ticket| holding.redeem(&slot.cell, ticket, clock::boot));
        let reservation = kept.or_else(|| holding.reserve(&slot.cell, want, clock::boot)).or_else(|| {
            let left = slot.cell.left().min(want);
            if left < least.max(Permits(1)) { None } else { holding.reserve(&slot.cell, left, clock::boot) }
        })?;
        self.enter(slot, reservation.cost);
        Some((reservation, slot.window_at_hand()))
    }

    /// Somebody says that a call came to more than one may come to.
    #[cold]
    pub(crate) fn cap(&self, key: Key, used: Permits, at_most: Permits) {
        self.counters.capped.fetch_add(1, Ordering::Relaxed);
        let now = clock::boot();
        let last = self.capped_told.load(Ordering::Relaxed);
        let is_due = last == 0 || now.saturating_sub(Nanos(last)) >= TOLD_EVERY;
        if !is_due || self.capped_told.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let limit = self.owners.limit(key.limit);
        let limit = limit.as_ref().map_or("?", |limit| limit.name.as_str());
        tracing::warn!(
            limit,
            subject = %key.subject,
            told = used.0,
            counted = at_most.0,
            "a call was said to cost more than one call may come to; `cost.at_most` of the limit says how much that is"
        );
    }
}
