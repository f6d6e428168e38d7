//! Room at the bound of keys: a key that nobody uses is handed back, and when the ledger has acknowledged that nothing of it is
//! left here, its slot is the next one's. Some slots are kept free ahead, so that hardly anybody waits for one.
//!
//! ```text
//!   who finds no slot ──wish──▶ hand goes round the slots ──▶ holds nothing: gone at once
//!                                                             idle: told "spent 3, have 0" ──acknowledged──▶ gone
//!                                                             asked for again and again: after all others
//!                                                             in use, reserved, owed, waited for: stays
//! ```
//! A subject has one key, its own, on every node: whether it is new or comes back, it begins with what the ledger knows of it.

use std::collections::HashSet;

use tidegate_clock as clock;
use tidegate_model::Nanos;
use tidegate_quota::guard;
use tidegate_quota::holding::{Leaves, Surroundings};
use tidegate_quota::protocol::next_batch;

use super::{MOST_ITEMS, Tick};
use crate::slot::{Handle, Slot};
use crate::sync::{Ordering, fence};

/// Slots looked at in one go.
const MOST_LOOKS: u32 = 4_096;
/// After a look at all slots that found none.
const REST: Nanos = Nanos::from_millis(50);
/// Keys that leave in a second: an eighth of all, or this many. Each new one is a count that every voter remembers for a
/// window: whoever makes up subjects makes so many, and no more.
const TURNOVER: usize = 10_000;
/// The part of a second for which that is saved up.
const SAVED: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Departures {
    /// The slot looked at last.
    hand: u32,
    /// Slots looked at since one was found that nobody uses.
    passed: u32,
    /// Handed back, and not acknowledged yet.
    leaving: HashSet<u32>,
    rests_until: Nanos,
    allowance: Allowance,
}

/// How many more keys may leave now.
#[derive(Debug, Default)]
struct Allowance {
    left: usize,
    since: Nanos,
}

impl Allowance {
    fn at(&mut self, now: Nanos, keys: usize) -> usize {
        let a_second = (keys / 8).max(TURNOVER);
        let elapsed = usize::try_from(now.saturating_sub(self.since).0).unwrap_or(usize::MAX);
        let come = elapsed / (1_000_000_000 / a_second).max(1);
        if come > 0 {
            self.since = now;
            self.left = self.left.saturating_add(come).min(a_second / SAVED);
        }
        if guard!("turnover-of-keys-is-bounded") { self.left } else { usize::MAX }
    }
}

impl Tick {
    /// Sees off as many keys as slots are wanted, by those who wait and to be had ahead.
    pub(super) fn make_room(&mut self) {
        let now = clock::boot();
        let lacking = self.limiter.table.lacks(self.limiter.room.wishes());
        let wanted = lacking.saturating_sub(self.departures.leaving.len()).min(MOST_ITEMS);
        if wanted == 0 || now < self.departures.rests_until || !guard!("room-is-made-at-the-bound") {
            return;
        }
        let wanted = wanted.min(self.departures.allowance.at(now, self.limiter.table.most()));
        let found = self.choose(wanted, now);
        self.departures.allowance.left = self.departures.allowance.left.saturating_sub(found.len());
        self.see_off(found, now);
    }

    /// Goes round the slots: first those that nobody uses, and when there are no more, those that are used all the time.
    fn choose(&mut self, wanted: usize, now: Nanos) -> Vec<Handle> {
        let (used, mut found) = (self.limiter.table.used(), Vec::new());
        for _ in 0..used.min(MOST_LOOKS) {
            if found.len() >= wanted {
                return found;
            }
            self.departures.hand = (self.departures.hand + 1) % used;
            let Some(slot) = self.limiter.table.handle(self.departures.hand) else { continue };
            let none_is_idle = self.departures.passed >= used;
            match leaves(&slot, now) {
                Leaves::AtOnce | Leaves::OnceTold => self.departures.passed = 0,
                Leaves::AfterOthers if none_is_idle => {}
                Leaves::AfterOthers | Leaves::NotNow => {
                    self.departures.passed = self.departures.passed.saturating_add(1);
                    continue;
                }
            }
            found.push(slot);
        }
        if found.len() < wanted && self.departures.passed < used.saturating_mul(2) {
            self.limiter.room.ring(); // To go on, after what else there is to do.
        } else if found.is_empty() {
            (self.departures.passed, self.departures.rests_until) = (0, now.saturating_add(REST));
        }
        found
    }

    fn see_off(&mut self, found: Vec<Handle>, now: Nanos) {
        found.iter().for_each(|slot| slot.unlist());
        // As in `look_at`: what changes from here on marks its slot anew.
        fence(Ordering::SeqCst);
        let (mut slots, mut items) = (Vec::new(), Vec::new());
        self.seq = next_batch(self.seq, self.limiter.silent_for().is_some());
        for slot in found {
            match leaves(&slot, now) {
                Leaves::NotNow => self.limiter.bell.list_again(&slot, slot.number),
                // Of one that was never used the ledger need not hear.
                _ if !slot.has_missed() && self.departs(&slot) => {}
                Leaves::AtOnce | Leaves::OnceTold | Leaves::AfterOthers => {
                    let now = clock::boot();
                    let around = Surroundings { leaving: true, ..slot.surroundings(now) };
                    items.push(slot.holding().report(&slot.cell, self.seq, around));
                    self.departures.leaving.insert(slot.number);
                    slots.push(slot);
                }
            }
        }
        if !items.is_empty() {
            self.exchange(slots, items);
        }
    }

    /// Its question was answered, or never will be. `true`: it was about to leave.
    pub(super) fn stays(&mut self, slot: &Handle) -> bool {
        self.departures.leaving.remove(&slot.number)
    }

    /// Forgets the key, if nothing of it is left here; its slot is for the next one.
    pub(super) fn departs(&mut self, slot: &Handle) -> bool {
        let gone = self.forget(slot);
        if gone {
            self.limiter.counters.evicted.fetch_add(1, Ordering::Relaxed);
            self.limiter.room.freed.notify_one();
        }
        gone
    }
}

fn leaves(slot: &Slot, now: Nanos) -> Leaves {
    match slot.is_vacant() || slot.is_needed() {
        true => Leaves::NotNow,
        false => slot.holding().leaves(&slot.cell, now),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_keys_leave_than_the_log_can_bear() {
        let (mut small, mut large) = (Allowance::default(), Allowance::default());
        let at = |millis: u64| Nanos::from_millis(100_000 + millis);
        assert_eq!((small.at(at(0), 1_000), large.at(at(0), 800_000)), (TURNOVER / SAVED, 100_000 / SAVED));
        (small.left, large.left) = (0, 0);
        assert_eq!((small.at(at(20), 1_000), large.at(at(20), 800_000)), (200, 2_000));
        assert_eq!(small.at(at(20), 1_000), 200, "no time has passed");
    }
}
