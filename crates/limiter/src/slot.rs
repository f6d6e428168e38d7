//! One key on this node: the cell requests take from, and what passes between them and the task that refills it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Limit, OnUnavailable};
use tidegate_quota::holding::Surroundings;
use tidegate_quota::protocol::Key;
use tidegate_quota::{Cell, Holding};
use tokio::sync::Notify;

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) key: Key,
    pub(crate) cell: Cell,
    /// Until then (boot clock) the leader's last verdict covers a refusal: no need to ask again.
    pub(crate) covered_until: AtomicU64,
    /// When permits come free (boot clock), as the leader estimated.
    pub(crate) frees_at: AtomicU64,
    /// Costs refused or queued since the last report, summed: demand that was not spent.
    missed: AtomicU64,
    /// Costs that wait now, summed; and the largest since the last report.
    queued: AtomicU64,
    largest: AtomicU64,
    /// Is this slot in the tick's list already?
    pub(crate) listed: AtomicBool,
    pub(crate) recalled: AtomicBool,
    /// Is a later look at this slot planned?
    pub(crate) planned: AtomicBool,
    /// Forgotten by the table: whoever still holds it looks the key up anew.
    pub(crate) gone: AtomicBool,
    /// The facts of the limit, as the last request saw them.
    max: AtomicU64,
    window: AtomicU64,
    share: AtomicBool,
    /// Rings after each answer.
    pub(crate) news: Notify,
    /// The tick's, and of requests that try the reserve.
    pub(crate) holding: Mutex<Holding>,
}

impl Slot {
    pub(crate) fn new(key: Key, epoch: u64, limit: &Limit) -> Self {
        Self {
            key,
            cell: Cell::default(),
            covered_until: AtomicU64::new(0),
            frees_at: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            listed: AtomicBool::new(false),
            recalled: AtomicBool::new(false),
            planned: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            max: AtomicU64::new(limit.max.0),
            window: AtomicU64::new(limit.window.0),
            share: AtomicBool::new(limit.on_unavailable == OnUnavailable::Share),
            news: Notify::new(),
            holding: Mutex::new(Holding::new(key, epoch)),
        }
    }

    pub(crate) fn window(&self) -> Nanos {
        Nanos(self.window.load(Ordering::Relaxed))
    }

    /// Keeps the facts of the limit in step with the document; writes only what changed.
    #[inline]
    pub(crate) fn learn(&self, limit: &Limit) {
        if self.max.load(Ordering::Relaxed) != limit.max.0 {
            self.max.store(limit.max.0, Ordering::Relaxed);
        }
        let share = limit.on_unavailable == OnUnavailable::Share;
        if self.share.load(Ordering::Relaxed) != share {
            self.share.store(share, Ordering::Relaxed);
        }
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

    /// What the holding should know when it reports. Takes the misses: they are told once.
    pub(crate) fn surroundings(&self, now: Nanos) -> Surroundings {
        Surroundings {
            now,
            window: self.window(),
            max: Permits(self.max.load(Ordering::Relaxed)),
            missed: Permits(self.missed.swap(0, Ordering::Relaxed)),
            waiting: Permits(self.largest.swap(0, Ordering::SeqCst)),
            queued: Permits(self.queued.load(Ordering::SeqCst)),
            recalled: self.recalled.swap(false, Ordering::SeqCst),
            reserve: self.share.load(Ordering::Relaxed),
        }
    }

    /// The holding, whoever panicked before.
    pub(crate) fn holding(&self) -> std::sync::MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
