//! Permits that were granted and are not at hand yet: with a journal, nothing can be taken before the journal says on the
//! disk that it may have been.
//!
//! ```text
//!   grant ──▶ vault ──(mark on the disk ≥ all that was ever at hand)──▶ cell ──▶ taken
//! ```
//! The mark counts from the beginning of the epoch. It is raised in steps, so that the disk is not written for each call; what
//! lies between it and what was spent is what a power failure costs.

use tidegate_model::{Nanos, Permits};

use super::Holding;
use crate::cell::Cell;
use crate::guard;

/// At hand at least, where a slice has so many; a step is an eighth of a slice and no less than this.
const STEP: u64 = 16;
const STEPS: u64 = 8;

#[derive(Debug, Default)]
pub(super) struct Vault {
    is_journalled: bool,
    permits: Permits,
    /// On the disk.
    mark: Permits,
    /// On its way to the disk.
    asked: Option<Permits>,
}

impl Vault {
    pub(super) fn permits(&self) -> Permits {
        self.permits
    }

    pub(super) fn is_journalled(&self) -> bool {
        self.is_journalled && guard!("journal-before-it-is-at-hand")
    }

    pub(super) fn put(&mut self, granted: Permits) {
        self.permits = self.permits.saturating_add(granted);
    }

    /// Keeps at most so many; returns what was above.
    pub(super) fn keep(&mut self, most: Permits) -> Permits {
        let above = self.permits.saturating_sub(most);
        self.permits = self.permits.saturating_sub(above);
        above
    }

    pub(super) fn begin_anew(&mut self) {
        *self = Self { is_journalled: self.is_journalled, ..Self::default() };
    }
}

impl Holding {
    /// With a journal: what is granted is at hand when [`Holding::journalled`] says so.
    #[must_use]
    pub fn with_journal(mut self) -> Self {
        self.vault.is_journalled = true;
        self
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Granted, and not at hand yet.
    #[must_use]
    pub fn in_vault(&self) -> Permits {
        self.vault.permits
    }

    /// Is a mark on its way to the disk?
    #[must_use]
    pub fn is_marking(&self) -> bool {
        self.vault.asked.is_some()
    }

    /// The mark that should be on the disk, so that enough is at hand for who waits and for a while. `None`: enough is, or
    /// nothing is there, or one is on its way. Then to be answered by [`Holding::journalled`].
    pub fn next_mark(&mut self, cell: &Cell, queued: Permits) -> Option<Permits> {
        let Vault { permits, asked, .. } = self.vault;
        if permits == Permits::ZERO || asked.is_some() {
            return None;
        }
        let at_hand = cell.left();
        let waits = queued.max(self.earmarked()).saturating_add(self.promised.debt());
        let step = Permits((at_hand.saturating_add(permits).0 / STEPS).max(STEP));
        if at_hand >= waits.saturating_add(step) {
            return None;
        }
        let more = waits.saturating_add(step).saturating_add(step).saturating_sub(at_hand).min(permits);
        let mark = self.granted.saturating_sub(permits).saturating_add(more);
        self.vault.asked = Some(mark);
        Some(mark)
    }

    /// This mark of that epoch is on the disk: what it covers is at hand from now on.
    pub fn journalled(&mut self, cell: &Cell, epoch: u64, mark: Permits, now: Nanos) {
        if epoch != self.epoch {
            return;
        }
        self.vault.asked = None;
        self.vault.mark = self.vault.mark.max(mark);
        let was_at_hand = self.granted.saturating_sub(self.vault.permits);
        let more = self.vault.mark.saturating_sub(was_at_hand).min(self.vault.permits);
        self.hand_out(cell, more, now);
    }

    /// There is no journal after all, and whoever reads what is left of it knows that.
    pub fn without_journal(&mut self, cell: &Cell, now: Nanos) {
        (self.vault.is_journalled, self.vault.asked) = (false, None);
        self.hand_out(cell, self.vault.permits, now);
    }

    pub(super) fn hand_out(&mut self, cell: &Cell, more: Permits, now: Nanos) {
        if now >= cell.expiry() {
            return; // The next report hands it back.
        }
        self.vault.permits = self.vault.permits.saturating_sub(more);
        let for_all = self.promised.share_out(more);
        self.put_at_hand(cell, for_all);
    }
}
