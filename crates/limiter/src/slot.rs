//! One key on this node: the cell requests take from, and what passes between them and the task that refills it.
//!
//! A [`Slot`] is ONE cache line, all that a warm decision touches. What only a miss, a wait or the tick needs is behind it,
//! in [`Cold`], to which a slot dereferences.
//!
//! Slots never move and are never freed while the table lives, so a request holds one by reference and counts nothing. They
//! are used again: `life` is even while a slot belongs to a key, and odd between. Whoever took something compares `life`
//! with what it was when he found the slot (`Found::is_still`): the next owner's permits come after the next owner's life.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_policy::{Limit, OnUnavailable};
use tidegate_quota::holding::Surroundings;
use tidegate_quota::protocol::Key;
use tidegate_quota::{Cell, Holding};
use tokio::sync::Notify;

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    life: AtomicU16,
    /// Is this slot in the tick's list already?
    pub(crate) listed: AtomicBool,
    /// The next slot of the bell's list: its number + 1.
    pub(crate) next: AtomicU32,
    limit: AtomicU64,
    subject: [AtomicU64; 2],
    pub(crate) cell: Cell,
    /// The limit as the last request saw it: `max << 1 | share`.
    facts: AtomicU64,
    cold: Box<Cold>,
}

const _: () = assert!(size_of::<Slot>() == 64, "one cache line");

#[derive(Debug)]
pub(crate) struct Cold {
    /// Until then (boot clock) the leader's last verdict covers a refusal: no need to ask again.
    pub(crate) covered_until: AtomicU64,
    /// When permits come free (boot clock), as the leader estimated.
    pub(crate) frees_at: AtomicU64,
    /// Permits that were free for all when the leader last answered, and when that was (boot clock).
    pub(crate) free: AtomicU64,
    pub(crate) told: AtomicU64,
    /// Costs refused or queued since the last report, summed: demand that was not spent.
    missed: AtomicU64,
    /// Costs that wait now, summed; and the largest since the last report.
    queued: AtomicU64,
    largest: AtomicU64,
    pub(crate) recalled: AtomicBool,
    /// Is a later look at this slot planned?
    pub(crate) planned: AtomicBool,
    /// Requests that look further than the cell: the slot is not forgotten meanwhile.
    pins: AtomicU32,
    window: AtomicU64,
    /// Rings after each answer.
    pub(crate) news: Notify,
    /// The tick's, and of requests that try the reserve.
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
    life: u16,
}

impl<'t> Found<'t> {
    /// `None`: another key's, or nobody's.
    #[inline]
    pub(crate) fn of(slot: &'t Slot, number: u32, key: Key) -> Option<Self> {
        // Acquire: a key that is read below is of this life or a later one.
        let life = slot.life.load(Ordering::Acquire);
        let [low, high] = halves(key.subject);
        let is_its = slot.subject[0].load(Ordering::Relaxed) == low
            && slot.subject[1].load(Ordering::Relaxed) == high
            && slot.limit.load(Ordering::Relaxed) == key.limit.0;
        (life & 1 == 0 && is_its).then_some(Self { slot, number, life })
    }

    /// Read AFTER something was taken: `false` means it may be the next owner's.
    #[inline]
    pub(crate) fn is_still(&self) -> bool {
        self.slot.life.load(Ordering::SeqCst) == self.life
    }

    /// Keeps the slot from being forgotten. `None`: too late.
    pub(crate) fn pin(self) -> Option<Pinned<'t>> {
        // Either this sees the new life, or `retire` sees the pin.
        self.slot.pins.fetch_add(1, Ordering::SeqCst);
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

/// A slot by its number, for the tick: of whatever key lives there. The tick alone has slots forgotten, and none that is
/// listed or asked about.
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
            life: AtomicU16::new(1),
            listed: AtomicBool::new(false),
            next: AtomicU32::new(0),
            limit: AtomicU64::new(0),
            subject: [const { AtomicU64::new(0) }; 2],
            cell: Cell::default(),
            facts: AtomicU64::new(0),
            cold: Box::new(Cold {
                covered_until: AtomicU64::new(0),
                frees_at: AtomicU64::new(0),
                free: AtomicU64::new(0),
                told: AtomicU64::new(0),
                missed: AtomicU64::new(0),
                queued: AtomicU64::new(0),
                largest: AtomicU64::new(0),
                recalled: AtomicBool::new(false),
                planned: AtomicBool::new(false),
                pins: AtomicU32::new(0),
                window: AtomicU64::new(0),
                news: Notify::new(),
                holding: Mutex::new(Holding::new(nobody, 0)),
            }),
        }
    }

    /// The table gives the slot to a key.
    pub(crate) fn begin(&self, key: Key, epoch: u64, limit: &Limit) {
        let [low, high] = halves(key.subject);
        self.limit.store(key.limit.0, Ordering::Relaxed);
        self.subject[0].store(low, Ordering::Relaxed);
        self.subject[1].store(high, Ordering::Relaxed);
        self.facts.store(facts(limit), Ordering::Relaxed);
        self.cell.begin_anew();
        for word in [&self.covered_until, &self.frees_at, &self.free, &self.told, &self.missed, &self.largest] {
            word.store(0, Ordering::Relaxed);
        }
        self.recalled.store(false, Ordering::Relaxed);
        self.planned.store(false, Ordering::Relaxed);
        self.window.store(limit.window.0, Ordering::Relaxed);
        *self.holding() = Holding::new(key, epoch);
        // Last: whoever sees this life sees all of the above, and no permit is there before it.
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// The table takes the slot from its key, if nobody needs it.
    pub(crate) fn retire(&self) -> bool {
        let holding = self.holding();
        if !holding.is_settled(&self.cell) || self.listed.load(Ordering::SeqCst) || self.has_missed() {
            return false;
        }
        self.life.fetch_add(1, Ordering::SeqCst);
        if self.pins.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.life.fetch_sub(1, Ordering::SeqCst);
        false
    }

    /// Reads the slot's line, so that it is near when it is needed.
    #[inline]
    pub(crate) fn touch(&self) -> u16 {
        self.life.load(Ordering::Relaxed)
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.life.load(Ordering::Acquire) & 1 == 1
    }

    #[inline]
    pub(crate) fn key(&self) -> Key {
        let (low, high) = (self.subject[0].load(Ordering::Relaxed), self.subject[1].load(Ordering::Relaxed));
        Key { limit: LimitId(self.limit.load(Ordering::Relaxed)), subject: whole([low, high]) }
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
            missed: Permits(self.missed.swap(0, Ordering::Relaxed)),
            waiting: Permits(self.largest.swap(0, Ordering::SeqCst)),
            queued: Permits(self.queued.load(Ordering::SeqCst)),
            recalled: self.recalled.swap(false, Ordering::SeqCst),
            reserve: facts & 1 == 1,
        }
    }
}

impl Cold {
    pub(crate) fn window(&self) -> Nanos {
        Nanos(self.window.load(Ordering::Relaxed))
    }

    /// A cost found no permits, and was refused or allowed unsafely.
    pub(crate) fn miss(&self, cost: Permits) {
        self.missed.fetch_add(cost.0, Ordering::Relaxed);
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

    /// Does somebody want permits, or want them back?
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_waited_for() || self.recalled.load(Ordering::SeqCst)
    }

    pub(crate) fn has_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed) > 0
    }

    /// The holding, whoever panicked before.
    pub(crate) fn holding(&self) -> std::sync::MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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
