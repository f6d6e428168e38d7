//! The cell a node takes permits from: one atomic word and an expiry.
//!
//! ```text
//!   63            44 43                                  0
//!  +----------------+-------------------------------------+
//!  |   generation   |   permits left                      |
//!  +----------------+-------------------------------------+
//! ```
//!
//! A report cuts a new generation and reads what is left in ONE atomic step. So a permit that was taken before the cut
//! is in the report, a permit taken after it is not, and a permit whose generation has passed can no longer be put back
//! (it was reported as spent). Two atomics instead of one lose permits (docs/quota.md).
//!
//! Many threads call [`Cell::take`] and [`Cell::put_back`]; one at a time calls the rest (the holder's lock sees to it).

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_model::{Nanos, Permits};

use crate::guard;

const LEFT_BITS: u32 = 44;
const LEFT: u64 = (1 << LEFT_BITS) - 1;

/// The most that one cell can hold.
pub const MOST: Permits = Permits(LEFT);

#[derive(Debug)]
pub struct Cell {
    word: AtomicU64,
    /// On the holder's clock; at or after it nothing taken is valid.
    expiry: AtomicU64,
}

/// What [`Cell::take`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Take {
    Taken(Ticket),
    /// Fewer permits than asked for; nothing was taken.
    Short,
    /// Taken too late, or a report was cut in between: burnt. It counts as spent and admits nobody.
    Burnt(Burnt),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Burnt {
    /// The lease had lapsed.
    Lapsed,
    /// A report was cut between the take and the reading of the clock: `at` might lie after the report.
    Reported,
}

/// Permits that are out of the cell, but not yet held against the clock: good for nothing until stamped.
#[derive(Debug, Clone, Copy)]
#[must_use = "what is not stamped is burnt"]
pub struct Grab {
    expiry: u64,
    generation: u64,
    cost: Permits,
    /// What this take left behind.
    pub left: Permits,
}

/// Permits in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    pub cost: Permits,
    /// The instant of admission: no later than the report that will tell of it, earlier than the lease's expiry.
    pub at: Nanos,
}

impl Ticket {
    /// All but the instant, in one word: as the cell's own.
    #[inline]
    #[must_use]
    pub fn packed(self) -> u64 {
        self.generation << LEFT_BITS | self.cost.0
    }

    #[inline]
    #[must_use]
    pub fn unpacked(packed: u64, at: Nanos) -> Self {
        Self { generation: packed >> LEFT_BITS, cost: Permits(packed & LEFT), at }
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self { word: AtomicU64::new(0), expiry: AtomicU64::new(0) }
    }
}

impl Cell {
    /// Takes `cost` permits, all or none. `now` reads the holder's clock and is called after the take.
    #[inline]
    pub fn take(&self, cost: Permits, now: impl FnOnce() -> Nanos) -> Take {
        if !guard!("no-cached-clock-decides-an-expiry") {
            let at = now();
            return self.grab(cost).map_or(Take::Short, |grab| self.stamp(grab, at));
        }
        match self.grab(cost) {
            Some(grab) => self.stamp(grab, now()),
            None => Take::Short,
        }
    }

    /// The first half of [`Cell::take`], for whoever takes from several cells and reads the clock once, after all of them.
    /// `None`: fewer permits than asked for.
    #[inline]
    pub fn grab(&self, cost: Permits) -> Option<Grab> {
        // The expiry is loaded BEFORE the take. Loaded after it, a renewal in between would lend a lapsed permit the new
        // lease's time.
        let expiry = self.expiry.load(Ordering::Acquire);
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word & LEFT < cost.0 && guard!("cell-never-below-zero") {
                return None;
            }
            match self.word.compare_exchange_weak(word, word.wrapping_sub(cost.0), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => break,
                Err(seen) => word = seen,
            }
        }
        Some(Grab { expiry, generation: word >> LEFT_BITS, cost, left: Permits((word & LEFT).wrapping_sub(cost.0)) })
    }

    /// As [`Cell::grab`], if `may`.
    #[inline]
    pub fn grab_if(&self, may: bool, cost: Permits) -> Option<Grab> {
        if may { self.grab(cost) } else { None }
    }

    /// The second half: `at` was read from the holder's clock after the grab. Never [`Take::Short`].
    #[inline]
    pub fn stamp(&self, grab: Grab, at: Nanos) -> Take {
        let Grab { expiry, generation, cost, .. } = grab;
        let expiry = match guard!("expiry-loaded-before-the-take") {
            true => expiry,
            false => self.expiry.load(Ordering::Acquire).max(expiry),
        };
        if at.0 >= expiry && guard!("lapsed-is-burnt") {
            if !guard!("burnt-is-never-put-back") {
                self.word.fetch_add(cost.0, Ordering::AcqRel);
            }
            return Take::Burnt(Burnt::Lapsed);
        }
        if self.word.load(Ordering::Acquire) >> LEFT_BITS != generation && guard!("cut-between-take-and-clock-burns") {
            return Take::Burnt(Burnt::Reported);
        }
        Take::Taken(Ticket { generation, cost, at })
    }

    /// Undoes a grab of permits in use that came too late: it admitted nobody, and they are idle again.
    pub fn ungrab(&self, grab: Grab) -> bool {
        self.put_back(Ticket { generation: grab.generation, cost: grab.cost, at: Nanos::ZERO })
    }

    /// Is the cell still in the generation that the ticket was taken in?
    #[must_use]
    pub fn is_of(&self, ticket: Ticket) -> bool {
        self.word.load(Ordering::Acquire) >> LEFT_BITS == ticket.generation
    }

    /// When the call that holds this place must look again whether its lease goes on; `None`: it has ended, and the call with
    /// it, for another node may give the place away.
    #[must_use]
    pub fn lives_until(&self, place: Ticket, now: Nanos) -> Option<Nanos> {
        let expiry = self.expiry();
        let ended = !self.is_of(place) || now >= expiry;
        if ended && guard!("place-ends-with-its-lease") {
            None
        } else {
            Some(expiry.max(Nanos(now.0.saturating_add(1))))
        }
    }

    /// Gives a ticket's permits back, if no report has told of them yet. `false`: they are burnt.
    pub fn put_back(&self, ticket: Ticket) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            if word >> LEFT_BITS != ticket.generation && guard!("put-back-in-its-generation") {
                return false;
            }
            // Cannot overflow: these permits were in the cell in this generation.
            match self.word.compare_exchange_weak(word, word + ticket.cost.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(seen) => word = seen,
            }
        }
    }

    /// Empties the cell for the next key that uses it. Its generations go on, so that what was taken before stays burnt;
    /// whoever is between [`Cell::grab`] and [`Cell::stamp`] must find out by himself that the key has changed.
    pub fn begin_anew(&self) {
        self.cut(Permits::ZERO);
        self.expiry.store(0, Ordering::Release);
    }

    /// Permits left, for headers and tests; it may have changed before it is read.
    #[must_use]
    pub fn left(&self) -> Permits {
        Permits(self.word.load(Ordering::Relaxed) & LEFT)
    }

    #[must_use]
    pub fn expiry(&self) -> Nanos {
        Nanos(self.expiry.load(Ordering::Relaxed))
    }

    /// Begins a new generation and keeps at most `keep` permits. Returns (kept, handed back): exactly.
    pub(crate) fn cut(&self, keep: Permits) -> (Permits, Permits) {
        let mut word = self.word.load(Ordering::Acquire);
        let seen_first = word & LEFT;
        loop {
            let left = word & LEFT;
            let kept = left.min(keep.0);
            let next = (word >> LEFT_BITS).wrapping_add(1) << LEFT_BITS | kept;
            if !guard!("one-swap-hands-back") {
                self.word.store(next, Ordering::Release);
                return (Permits(kept), Permits(left - kept));
            }
            if !guard!("report-reads-one-atomic") {
                self.word.fetch_add(1 << LEFT_BITS, Ordering::AcqRel);
                self.word.fetch_sub(seen_first - seen_first.min(keep.0), Ordering::AcqRel);
                let kept = seen_first.min(keep.0);
                return (Permits(kept), Permits(seen_first - kept));
            }
            match self.word.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (Permits(kept), Permits(left - kept)),
                Err(seen) => word = seen,
            }
        }
    }

    /// As [`Cell::cut`], in the same generation: for permits in use, which come back whenever that ends. Nobody is told
    /// that they are spent, so there is nothing to burn.
    pub(crate) fn trim(&self, keep: Permits) -> (Permits, Permits) {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let left = word & LEFT;
            let kept = left.min(keep.0);
            match self.word.compare_exchange_weak(word, word - (left - kept), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (Permits(kept), Permits(left - kept)),
                Err(seen) => word = seen,
            }
        }
    }

    /// Takes what is there, up to `most`; it is spent.
    pub(crate) fn drain(&self, most: Permits) -> Permits {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let taken = most.0.min(word & LEFT);
            match self.word.compare_exchange_weak(word, word - taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Permits(taken),
                Err(seen) => word = seen,
            }
        }
    }

    /// The lease is over, whatever was said of its end.
    pub(crate) fn end(&self) {
        self.expiry.store(0, Ordering::Release);
    }

    /// Extends the lease. What has lapsed must have been cut to zero before: see `Holding::answer`.
    pub(crate) fn renew(&self, expiry: Nanos) {
        self.expiry.store(expiry.0, Ordering::Release);
    }

    /// Adds granted permits; returns how many found room (all of them, but for a cell that is full to its 44 bits).
    pub(crate) fn add(&self, granted: Permits) -> Permits {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let added = granted.0.min(LEFT - (word & LEFT));
            match self.word.compare_exchange_weak(word, word + added, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Permits(added),
                Err(seen) => word = seen,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cell(left: u64, expiry: u64) -> Cell {
        let cell = Cell::default();
        cell.renew(Nanos(expiry));
        cell.add(Permits(left));
        cell
    }

    fn taken(take: Take) -> Ticket {
        match take {
            Take::Taken(ticket) => ticket,
            other => panic!("expected a ticket, got {other:?}"),
        }
    }

    #[test]
    fn it_gives_what_it_has_and_not_one_more() {
        let cell = cell(3, 100);
        taken(cell.take(Permits(2), || Nanos(1)));
        assert_eq!(cell.take(Permits(2), || Nanos(1)), Take::Short);
        taken(cell.take(Permits(1), || Nanos(1)));
        assert_eq!(cell.take(Permits(1), || Nanos(1)), Take::Short);
    }

    #[test]
    fn a_permit_taken_at_the_expiry_is_burnt_and_stays_spent() {
        let cell = cell(3, 100);
        assert_eq!(cell.take(Permits(1), || Nanos(100)), Take::Burnt(Burnt::Lapsed));
        assert_eq!(cell.cut(MOST), (Permits(2), Permits(0)));
    }

    #[test]
    fn a_report_between_take_and_clock_burns_the_permit() {
        let cell = cell(3, 100);
        let take = cell.take(Permits(1), || {
            cell.cut(MOST);
            Nanos(1)
        });
        assert_eq!(take, Take::Burnt(Burnt::Reported));
    }

    #[test]
    fn a_renewal_during_a_take_does_not_save_a_lapsed_permit() {
        let cell = cell(3, 100);
        let take = cell.take(Permits(1), || {
            cell.renew(Nanos(1_000));
            Nanos(100)
        });
        assert_eq!(take, Take::Burnt(Burnt::Lapsed));
    }

    #[test]
    fn a_ticket_comes_back_until_it_was_reported() {
        let cell = cell(3, 100);
        let early = taken(cell.take(Permits(1), || Nanos(1)));
        assert!(cell.put_back(early));
        let late = taken(cell.take(Permits(1), || Nanos(1)));
        assert_eq!(Ticket::unpacked(late.packed(), late.at), late);
        assert_eq!(cell.cut(MOST), (Permits(2), Permits(0)));
        assert!(!cell.put_back(late));
        assert_eq!(cell.left(), Permits(2));
    }

    #[test]
    fn a_cell_that_begins_anew_holds_nothing_and_takes_nothing_back() {
        let cell = cell(3, 100);
        let old = taken(cell.take(Permits(1), || Nanos(1)));
        cell.begin_anew();
        assert_eq!((cell.left(), cell.expiry()), (Permits::ZERO, Nanos::ZERO));
        cell.renew(Nanos(50));
        cell.add(Permits(1));
        assert!(!cell.put_back(old));
        assert_eq!(cell.take(Permits(1), || Nanos(50)), Take::Burnt(Burnt::Lapsed));
    }

    #[test]
    fn a_place_ends_with_its_lease_or_its_generation() {
        let cell = cell(3, 100);
        let place = taken(cell.take(Permits(1), || Nanos(1)));
        assert_eq!(cell.lives_until(place, Nanos(99)), Some(Nanos(100)));
        cell.renew(Nanos(150));
        assert_eq!(cell.lives_until(place, Nanos(100)), Some(Nanos(150)));
        assert_eq!(cell.lives_until(place, Nanos(150)), None);
        cell.cut(MOST);
        assert_eq!(cell.lives_until(place, Nanos(120)), None);
    }

    #[test]
    fn several_cells_are_held_against_one_clock() {
        let (long, short) = (cell(3, 100), cell(3, 50));
        let grabs = [&long, &short].map(|cell| cell.grab(Permits(1)).expect("three are there"));
        taken(long.stamp(grabs[0], Nanos(60)));
        assert_eq!(short.stamp(grabs[1], Nanos(60)), Take::Burnt(Burnt::Lapsed));
    }

    #[test]
    fn what_is_handed_back_is_exactly_what_was_left() {
        let cell = cell(10, 100);
        taken(cell.take(Permits(4), || Nanos(1)));
        assert_eq!(cell.cut(Permits(1)), (Permits(1), Permits(5)));
    }

    #[test]
    fn a_grant_beyond_the_word_is_cut_not_wrapped() {
        let cell = cell(LEFT - 1, 100);
        assert_eq!(cell.add(Permits(5)), Permits(1));
        assert_eq!(cell.left(), MOST);
    }
}
