//! One key on this node: the cell requests take from, and what passes between them and the task that refills it.
//!
//! A [`Slot`] is ONE cache line, all that a warm decision touches. What only a miss, a wait, the last permits or the tick need
//! is behind it, in [`Cold`], to which a slot dereferences.
//!
//! Slots never move and are never freed while the table lives, so a request holds one by reference and counts nothing. They
//! are used again: `life` is even while a slot belongs to a key, and odd between. Whoever took something compares `life`
//! with what it was when he found the slot (`Found::is_still`): the next owner's permits come after the next owner's life.

use std::ops::Deref;
use std::sync::{Arc, PoisonError};

use tidegate_model::{LimitId, Millis, Nanos, Permits, Subject};
use tidegate_policy::{Limit, OnUnavailable};
use tidegate_quota::holding::Surroundings;
use tidegate_quota::protocol::Key;
use tidegate_quota::{Cell, Holding, guard};
use tokio::sync::Notify;

use crate::journal::Place;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutex, MutexGuard, Ordering, fence};

/// What the leader said to be free is believed for so long.
const FRESH: Nanos = Nanos::from_secs(2);
/// A local "no" holds for W/50, but no longer than this.
const LONGEST_COVER: Nanos = Nanos::from_millis(100);
/// A leader that says so has called permits back from other nodes.
const A_MOMENT: Nanos = Nanos::from_millis(20);
/// The outlook counts time in 2^24 ns (17 ms), modulo 2^24 of these (78 hours).
const TIME_BITS: u32 = 24;
const TIME: u64 = (1 << TIME_BITS) - 1;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// 32 bits: to be taken for a former one it would have to come round while a request is between two steps.
    life: AtomicU32,
    /// Is this slot marked for the tick already? While it is set, the mark is there, or about to be, or in the tick's hands.
    listed: AtomicBool,
    who: [AtomicU64; 2],
    pub(crate) cell: Cell,
    /// The limit as the last request saw it: `max << 1 | share`.
    facts: AtomicU64,
    /// Permits that were free for all when the leader last answered, and when that was: `free << 24 | time`.
    outlook: AtomicU64,
    cold: Box<Cold>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot>() == 64, "one cache line");

/// A key in two words: its subject, with the limit mixed into the first half, so that no two limits' keys are taken for
/// each other even where their subjects are equal. Undone by the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who([u64; 2]);

impl Who {
    #[inline]
    pub(crate) const fn of(key: Key) -> Self {
        let [low, high] = halves(key.subject);
        Self([low ^ spread(key.limit), high])
    }

    /// Subjects are keyed hashes already, which nobody outside can aim; this only folds them.
    #[inline]
    pub(crate) const fn hash(self) -> u32 {
        let Self([low, high]) = self;
        ((low ^ high.rotate_left(32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
    }
}

/// Different for any two limits: the factor is odd.
#[inline]
const fn spread(limit: LimitId) -> u64 {
    limit.0.wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

#[derive(Debug)]
pub(crate) struct Cold {
    /// Until then (boot clock) the leader's last verdict covers a refusal: no need to ask again.
    pub(crate) covered_until: AtomicU64,
    /// When permits come free (boot clock), as the leader estimated.
    pub(crate) frees_at: AtomicU64,
    /// When the leader last answered with a lease (boot clock).
    pub(crate) told: AtomicU64,
    /// Costs refused or queued since the last report, summed: demand that was not spent.
    missed: AtomicU64,
    /// Costs that wait now, summed; and the largest since the last report.
    queued: AtomicU64,
    largest: AtomicU64,
    pub(crate) recalled: AtomicBool,
    /// Until then (boot clock) this key is too crowded for slices: its owner is asked.
    crowded_until: AtomicU64,
    /// Is a later look at this slot planned?
    pub(crate) planned: AtomicBool,
    /// Requests that look further than the cell: the slot is not forgotten meanwhile.
    pins: AtomicU32,
    limit: AtomicU64,
    window: AtomicU64,
    /// Of the calendar window that permits in the cell count to, and when it ends (wall clock).
    window_number: AtomicU64,
    window_ends: AtomicU64,
    /// When the lease of places ended that are not charged any more.
    lapsed_at: AtomicU64,
    /// Where the journal has the lease, and which one that is: the tick's to change, while nothing is in the cell.
    entry: AtomicU32,
    entered: AtomicU64,
    /// Rings after each answer.
    pub(crate) news: Notify,
    /// The tick's, and of requests that reserve, try the reserve, or take the last permits.
    holding: Mutex<Holding>,
}

impl Deref for Slot {
    type Target = Cold;

    #[inline]
    fn deref(&self) -> &Cold {
        &self.cold
    }
}

/// A slot as a request found it: who lives there is known as of then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'t> {
    pub(crate) slot: &'t Slot,
    pub(crate) number: u32,
    pub(crate) life: u32,
}

impl<'t> Found<'t> {
    /// `None`: another key's, or nobody's.
    #[inline]
    pub(crate) fn of(slot: &'t Slot, number: u32, who: Who) -> Option<Self> {
        // Acquire: a key that is read below is of this life or a later one. If it is of a later one, or half of it is, then
        // neither `is_still` after a successful take nor `pin` says that this life goes on.
        let life = slot.life.load(Ordering::Acquire);
        let Who([low, high]) = who;
        let is_its = slot.who[0].load(Ordering::Relaxed) == low && slot.who[1].load(Ordering::Relaxed) == high;
        (life & 1 == 0 && is_its).then_some(Self { slot, number, life })
    }

    /// Read AFTER something was taken: `false` means it may be the next owner's.
    #[inline]
    pub(crate) fn is_still(&self) -> bool {
        self.slot.life.load(Ordering::SeqCst) == self.life || !guard!("another-keys-permit-is-noticed")
    }

    /// Keeps the slot from being forgotten. `None`: too late.
    pub(crate) fn pin(self) -> Option<Pinned<'t>> {
        // Either this sees the new life, or `retire` sees the pin.
        self.slot.pins.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let pinned = Pinned(self);
        self.is_still().then_some(pinned)
    }
}

/// A slot that stays its key's for so long.
#[derive(Debug)]
pub(crate) struct Pinned<'t>(Found<'t>);

impl<'t> Deref for Pinned<'t> {
    type Target = Found<'t>;

    fn deref(&self) -> &Found<'t> {
        &self.0
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.0.slot.pins.fetch_sub(1, Ordering::SeqCst);
    }
}

/// As [`Pinned`], for what a call holds after its limits were taken. Its lease may begin anew meanwhile, and then the ledger
/// knows nothing of it that would keep the key here; what it used beyond its reservation is this key's to pay all the same.
#[derive(Debug)]
pub(crate) struct Kept(Handle);

impl Kept {
    /// `None`: it is another key's, or nobody's.
    pub(crate) fn of(found: &Found<'_>, slot: Handle) -> Option<Self> {
        slot.pins.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let kept = Self(slot);
        found.is_still().then_some(kept)
    }

    pub(crate) fn found(&self) -> Found<'_> {
        let life = self.0.life.load(Ordering::Acquire);
        Found { slot: &self.0, number: self.0.number, life }
    }
}

impl Clone for Kept {
    fn clone(&self) -> Self {
        self.0.pins.fetch_add(1, Ordering::SeqCst);
        Self(self.0.clone())
    }
}

impl Deref for Kept {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.pins.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A slot by its number, for the tick: of whatever key lives there. The tick alone has slots forgotten, and none that it
/// asks about.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    pub(crate) chunk: Arc<[Slot]>,
    pub(crate) at: usize,
    pub(crate) number: u32,
}

impl Deref for Handle {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.chunk[self.at]
    }
}

impl Slot {
    /// Nobody's yet.
    pub(crate) fn vacant() -> Self {
        let nobody = Key { limit: LimitId(0), subject: Subject(0) };
        Self {
            life: AtomicU32::new(1),
            listed: AtomicBool::new(false),
            who: [AtomicU64::new(0), AtomicU64::new(0)],
            cell: Cell::default(),
            facts: AtomicU64::new(0),
            outlook: AtomicU64::new(0),
            cold: Box::new(Cold {
                covered_until: AtomicU64::new(0),
                frees_at: AtomicU64::new(0),
                told: AtomicU64::new(0),
                missed: AtomicU64::new(0),
                queued: AtomicU64::new(0),
                largest: AtomicU64::new(0),
                recalled: AtomicBool::new(false),
                crowded_until: AtomicU64::new(0),
                planned: AtomicBool::new(false),
                pins: AtomicU32::new(0),
                limit: AtomicU64::new(0),
                window: AtomicU64::new(0),
                window_number: AtomicU64::new(0),
                window_ends: AtomicU64::new(0),
                lapsed_at: AtomicU64::new(u64::MAX),
                entry: AtomicU32::new(0),
                entered: AtomicU64::new(0),
                news: Notify::new(),
                holding: Mutex::new(Holding::new(nobody, 0)),
            }),
        }
    }

    /// The table gives the slot to a key.
    pub(crate) fn begin(&self, key: Key, epoch: u64, limit: &Limit, journals: bool) {
        let Who([low, high]) = Who::of(key);
        self.limit.store(key.limit.0, Ordering::Relaxed);
        self.who[0].store(low, Ordering::Relaxed);
        self.who[1].store(high, Ordering::Relaxed);
        self.outlook.store(0, Ordering::Relaxed);
        self.facts.store(facts(limit), Ordering::Relaxed);
        self.cell.begin_anew();
        for word in [&self.covered_until, &self.frees_at, &self.told, &self.missed, &self.largest, &self.crowded_until]
        {
            word.store(0, Ordering::Relaxed);
        }
        self.recalled.store(false, Ordering::Relaxed);
        // Release: a tick that plans a look after this plans it for the new key.
        self.planned.store(false, Ordering::Release);
        self.window.store(limit.span().0, Ordering::Relaxed);
        self.window_number.store(0, Ordering::Relaxed);
        self.enter(0, 0);
        let holding = Holding::of(key, epoch, limit.kind.nature());
        *self.holding() = if journals && limit.kind.is_journalled() { holding.with_journal() } else { holding };
        // Last: whoever sees this life sees all of the above, and no permit is there before it.
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// The table takes the slot from its key, if nobody needs it.
    pub(crate) fn retire(&self) -> bool {
        let holding = self.holding();
        let is_needed = self.listed.load(Ordering::SeqCst) || self.has_missed() || self.pins.load(Ordering::SeqCst) > 0;
        if is_needed || !holding.is_settled(&self.cell) && guard!("charged-key-never-evicted") {
            return false;
        }
        self.life.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if self.pins.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.life.fetch_sub(1, Ordering::SeqCst);
        false
    }

    /// Whoever asks has changed something that the tick should see: either the tick sees it, or this the flag taken down.
    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        // On x86-64 the change was a locked instruction, and that is a full fence.
        #[cfg(any(loom, not(target_arch = "x86_64")))]
        fence(Ordering::SeqCst);
        self.listed.load(Ordering::SeqCst)
    }

    pub(crate) fn set_listed(&self) {
        self.listed.store(true, Ordering::Release);
    }

    /// The tick has taken the mark. A fence must follow before it reads what the slot has to say.
    pub(crate) fn unlist(&self) {
        self.listed.store(false, Ordering::Relaxed);
    }

    /// Does this slot still belong to whom it belonged in that life?
    pub(crate) fn is_in_life(&self, life: u32) -> bool {
        self.life.load(Ordering::SeqCst) == life
    }

    /// Permits come free after `retry`; until then, but not for longer than a moment, the answer is no. Zero: nothing is short.
    pub(crate) fn cover(&self, now: Nanos, retry: Nanos) {
        let longest = Nanos(self.window().0 / 50).min(LONGEST_COVER);
        let cover = if guard!("cover-is-capped") { retry.min(longest) } else { retry };
        let at = |wait: Nanos| if retry == Nanos::ZERO { 0 } else { now.saturating_add(wait).0 };
        // With calendar windows permits come back when others hand them back, or with the next window.
        let frees = self.window_goes_on().filter(|_| retry > A_MOMENT).unwrap_or(retry);
        self.frees_at.store(at(frees), Ordering::Relaxed);
        self.covered_until.store(at(cover), Ordering::Relaxed);
    }

    pub(crate) fn is_crowded(&self, now: Nanos) -> bool {
        now.0 < self.crowded_until.load(Ordering::Relaxed)
    }

    pub(crate) fn crowd(&self, until: Nanos) {
        self.crowded_until.store(until.0, Ordering::Relaxed);
    }

    /// What the leader said to be free for all.
    pub(crate) fn foresee(&self, free: Permits, now: Nanos) {
        let free = free.0.min(u64::MAX >> TIME_BITS);
        self.outlook.store(free << TIME_BITS | now.0 >> TIME_BITS & TIME, Ordering::Relaxed);
        self.told.store(now.0, Ordering::Relaxed);
    }

    /// What was free for all when the leader last answered. An old answer counts for nothing: others may have taken it.
    #[inline]
    pub(crate) fn free_for_all(&self, now: Nanos) -> Permits {
        let outlook = self.outlook.load(Ordering::Relaxed);
        let age = (now.0 >> TIME_BITS).wrapping_sub(outlook) & TIME;
        Permits(if age < FRESH.0 >> TIME_BITS { outlook >> TIME_BITS } else { 0 })
    }

    /// Reads the slot's line, so that it is near when it is needed.
    #[inline]
    pub(crate) fn touch(&self) -> u32 {
        self.life.load(Ordering::Relaxed)
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.life.load(Ordering::Acquire) & 1 == 1
    }

    pub(crate) fn key(&self) -> Key {
        let limit = LimitId(self.limit.load(Ordering::Relaxed));
        let (low, high) = (self.who[0].load(Ordering::Relaxed), self.who[1].load(Ordering::Relaxed));
        Key { limit, subject: whole([low ^ spread(limit), high]) }
    }

    /// Keeps the facts of the limit in step with the document; writes only what changed.
    #[inline]
    pub(crate) fn learn(&self, limit: &Limit) {
        let facts = facts(limit);
        if self.facts.load(Ordering::Relaxed) != facts {
            self.facts.store(facts, Ordering::Relaxed);
        }
    }

    /// What the holding should know when it reports. Takes the misses: they are told once.
    pub(crate) fn surroundings(&self, now: Nanos) -> Surroundings {
        let facts = self.facts.load(Ordering::Relaxed);
        Surroundings {
            now,
            window: self.window(),
            max: Permits(facts >> 1),
            missed: Permits(self.missed.swap(0, Ordering::AcqRel)),
            waiting: Permits(self.largest.swap(0, Ordering::SeqCst)),
            queued: Permits(self.queued.load(Ordering::SeqCst)),
            recalled: self.recalled.swap(false, Ordering::SeqCst),
            reserve: facts & 1 == 1,
            leaving: false,
        }
    }
}

impl Cold {
    /// Where the journal has the lease that permits in the cell are of. Read after a take and before it is stamped, as
    /// [`Cold::window_number`].
    #[inline]
    pub(crate) fn entry(&self) -> Place {
        self.entry.load(Ordering::Acquire)
    }

    /// The epoch that the journal's entry is of.
    pub(crate) fn entered(&self) -> u64 {
        self.entered.load(Ordering::Relaxed)
    }

    /// The slot was forgotten; it may be another key's already, which has no entry yet.
    pub(crate) fn vacate(&self, entry: Place) {
        let _another = self.entry.compare_exchange(entry, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    pub(crate) fn queued(&self) -> Permits {
        Permits(self.queued.load(Ordering::SeqCst))
    }

    pub(crate) fn enter(&self, entry: Place, epoch: u64) {
        self.entered.store(epoch, Ordering::Relaxed);
        self.entry.store(entry, Ordering::Release);
    }

    pub(crate) fn window(&self) -> Nanos {
        Nanos(self.window.load(Ordering::Relaxed))
    }

    /// Of the calendar window that what is taken now counts to. Read after the take and before it is stamped: another window
    /// means another generation of the cell.
    pub(crate) fn window_number(&self, limit: &Limit) -> Option<u64> {
        limit.kind.period()?;
        Some(self.window_number.load(Ordering::Acquire))
    }

    /// Of the permits in the cell. Under the holding's lock: they do not change meanwhile.
    pub(crate) fn window_at_hand(&self) -> Option<u64> {
        Some(self.window_number.load(Ordering::Acquire)).filter(|number| *number != 0)
    }

    pub(crate) fn lapsed_at(&self) -> Nanos {
        Nanos(self.lapsed_at.load(Ordering::Acquire))
    }

    /// Before an answer that may begin the cell anew.
    pub(crate) fn note_expiry(&self, expiry: Nanos) {
        self.lapsed_at.store(expiry.0, Ordering::Release);
    }

    pub(crate) fn is_dated(&self) -> bool {
        self.window_number.load(Ordering::Relaxed) != 0
    }

    /// Before its first permit is in the cell.
    pub(crate) fn open_window(&self, number: u64, ends: Millis) {
        self.window_ends.store(ends.0, Ordering::Relaxed);
        self.window_number.store(number, Ordering::Release);
    }

    /// How long the calendar window goes on. By the wall clock, for people: nothing is decided by it.
    pub(crate) fn window_goes_on(&self) -> Option<Nanos> {
        let ends = self.window_ends.load(Ordering::Relaxed);
        let left = Nanos::from_millis(ends.min(u64::MAX / 2_000_000)).saturating_sub(tidegate_clock::wall());
        self.is_dated().then_some(left.max(Nanos::SECOND))
    }

    /// A cost found no permits, and was refused or allowed unsafely.
    pub(crate) fn miss(&self, cost: Permits) {
        self.missed.fetch_add(cost.0, Ordering::AcqRel);
        self.largest.fetch_max(cost.0, Ordering::Relaxed);
    }

    /// A cost begins to wait.
    pub(crate) fn queue(&self, cost: Permits) {
        self.queued.fetch_add(cost.0, Ordering::SeqCst);
        self.largest.fetch_max(cost.0, Ordering::SeqCst);
    }

    pub(crate) fn unqueue(&self, cost: Permits) {
        self.queued.fetch_sub(cost.0, Ordering::SeqCst);
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        self.queued.load(Ordering::SeqCst) > 0
    }

    /// Does a request look further than the cell, or wait?
    pub(crate) fn is_needed(&self) -> bool {
        self.is_waited_for() || self.pins.load(Ordering::SeqCst) > 0
    }

    /// Does somebody want permits, or want them back?
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_waited_for() || self.recalled.load(Ordering::SeqCst)
    }

    pub(crate) fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Acquire) > 0
    }

    /// The holding, whoever panicked before.
    pub(crate) fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A maximum of 63 bits is no maximum: cells hold 44.
#[inline]
fn facts(limit: &Limit) -> u64 {
    limit.max.0.min(u64::MAX >> 1) << 1 | u64::from(limit.on_unavailable == OnUnavailable::Share)
}

/// A `u128` would be aligned to 16 bytes, and kept with its gaps.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
pub(crate) const fn halves(subject: Subject) -> [u64; 2] {
    [subject.0 as u64, (subject.0 >> 64) as u64]
}

#[inline]
pub(crate) const fn whole([low, high]: [u64; 2]) -> Subject {
    Subject(low as u128 | (high as u128) << 64)
}
