//! The task that keeps the cells filled: about every 20 ms one batch for all keys that have something to say, at once for
//! keys that somebody waits for. At most one question per key is open; an answer is used once or not at all.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_clock as clock;
use tidegate_model::Nanos;
use tidegate_quota::holding::{News, REMINDER};
use tidegate_quota::protocol::{Batch, Key, Reply};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admit::Limiter;
use crate::slot::{Handle, Slot};
use crate::table::Table;
use crate::{Leases, Unreachable};

const TICK: Duration = Duration::from_millis(20);
/// While no leader answers.
const SLOW_TICK: Duration = Duration::from_millis(50);
/// Questions that press are gathered for this long.
const GATHER: Duration = Duration::from_micros(300);
const MOST_ITEMS: usize = 2_048;
/// No answer after this long is waited for.
const DEADLINE: Duration = Duration::from_millis(1_000);
/// A local "no" holds for W/50, but no longer than this.
const LONGEST_COVER: Nanos = Nanos::from_millis(100);
/// A settled key is forgotten after this long.
const KEPT: Nanos = Nanos::from_secs(10);

/// Slots that have something to say, and the signals that wake the task.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    newest: OwnLine,
    woken: Notify,
    pressed: Notify,
}

/// The slot listed last, by its number + 1, and by `Slot::next` those before it; 0: none. Every thread writes it, so it
/// shares its cache line with nothing.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OwnLine(AtomicU32);

impl Bell {
    /// The slot with this number has news for the next tick.
    #[inline]
    pub(crate) fn list(&self, slot: &Slot, number: u32) {
        if slot.listed.load(Ordering::Relaxed) || slot.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut before = self.newest.0.load(Ordering::Relaxed);
        loop {
            slot.next.store(before, Ordering::Relaxed);
            match self.newest.0.compare_exchange_weak(before, number + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(seen) => before = seen,
            }
        }
        if before == 0 {
            self.woken.notify_one();
        }
    }

    /// Somebody waits.
    pub(crate) fn ring(&self, slot: &Slot, number: u32) {
        self.list(slot, number);
        self.pressed.notify_one();
    }

    /// The oldest first. What is drained is still listed: nobody writes its `next` meanwhile.
    fn drain_into(&self, slots: &mut Vec<Handle>, table: &Table) {
        let (first, mut next) = (slots.len(), self.newest.0.swap(0, Ordering::AcqRel));
        while let Some(slot) = next.checked_sub(1).and_then(|number| table.handle(number)) {
            next = slot.next.load(Ordering::Relaxed);
            slots.push(slot);
        }
        slots[first..].reverse();
    }
}

impl Limiter {
    /// Runs until dropped.
    pub async fn run(self: Arc<Self>, leases: Arc<dyn Leases>) {
        let mut tick = Tick {
            limiter: self,
            leases,
            seq: 0,
            pending: Vec::new(),
            planned: BTreeSet::new(),
            exchanges: FuturesUnordered::new(),
            next: None,
        };
        tick.run().await;
    }

    /// Hands everything back that is not in use: before the node leaves. Returns when the ledger has acknowledged it, or
    /// after `deadline`.
    pub async fn hand_back(&self, deadline: Duration) {
        let ends = Instant::now() + deadline;
        loop {
            let held: Vec<_> =
                self.table.all().into_iter().filter(|slot| !slot.holding().is_settled(&slot.cell)).collect();
            if held.is_empty() || Instant::now() >= ends {
                return;
            }
            for slot in &held {
                slot.recalled.store(true, Ordering::SeqCst);
                self.bell.ring(slot, slot.number);
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

type Exchange = Pin<Box<dyn Future<Output = Answered> + Send>>;

struct Answered {
    seq: u64,
    slots: Vec<Handle>,
    reply: Result<Reply, Unreachable>,
}

struct Tick {
    limiter: Arc<Limiter>,
    leases: Arc<dyn Leases>,
    seq: u64,
    /// Taken off the bell's list, not yet reported. `listed` is set for exactly these and those on the bell's list.
    pending: Vec<Handle>,
    /// Later looks at slots that hold something although nobody uses it.
    planned: BTreeSet<(Nanos, Key)>,
    exchanges: FuturesUnordered<Exchange>,
    /// When the next tick is due; `None`: nothing to say.
    next: Option<Instant>,
}

impl Tick {
    async fn run(&mut self) {
        let limiter = Arc::clone(&self.limiter);
        let leases = Arc::clone(&self.leases);
        loop {
            let next = self.next.or_else(|| self.first_planned());
            tokio::select! {
                Some(answered) = self.exchanges.next() => self.answered(answered),
                key = leases.recalled() => {
                    if let Some(slot) = limiter.table.get(key) {
                        slot.recalled.store(true, Ordering::SeqCst);
                        limiter.bell.ring(&slot, slot.number);
                    }
                }
                () = limiter.bell.pressed.notified() => {
                    tokio::time::sleep(GATHER).await;
                    self.send(|slot| slot.is_pressed());
                }
                () = limiter.bell.woken.notified(), if self.next.is_none() => self.plan_tick(),
                () = sleep_until(next) => {
                    self.next = None;
                    self.look_at_planned();
                    self.send(|_| true);
                }
            }
        }
    }

    fn plan_tick(&mut self) {
        if self.next.is_none() {
            let tick = if self.limiter.silent_for().is_some() { SLOW_TICK } else { TICK };
            // Jittered by a quarter, so that nodes do not come in step.
            let jitter = clock::raw().0 % 1_000;
            self.next = Some(Instant::now() + tick.mul_f64(0.875 + jitter as f64 / 4_000.0));
        }
    }

    fn first_planned(&self) -> Option<Instant> {
        let (due, _) = self.planned.first()?;
        Some(Instant::now() + Duration::from(due.saturating_sub(clock::boot())) + TICK)
    }

    fn look_at_planned(&mut self) {
        let now = clock::boot();
        while let Some((due, key)) = self.planned.first().copied() {
            if due > now {
                break;
            }
            self.planned.pop_first();
            let Some(slot) = self.limiter.table.get(key) else { continue };
            slot.planned.store(false, Ordering::Relaxed);
            if !self.limiter.table.forget(&slot) {
                self.keep_listed(slot);
            }
        }
    }

    fn plan(&mut self, slot: &Handle, due: Nanos) {
        if !slot.planned.swap(true, Ordering::Relaxed) {
            self.planned.insert((due, slot.key()));
        }
    }

    /// Reports on all listed slots that `want`s to be told of now and have something to say.
    fn send(&mut self, wants: impl Fn(&Slot) -> bool) {
        self.limiter.bell.drain_into(&mut self.pending, &self.limiter.table);
        let (mut slots, mut items) = (Vec::new(), Vec::new());
        self.seq += 1;
        for slot in std::mem::take(&mut self.pending) {
            if !wants(&slot) {
                self.pending.push(slot);
                continue;
            }
            // Unlisted before anything is read: what changes from here on lists it anew.
            slot.listed.store(false, Ordering::Release);
            let now = clock::boot();
            let mut holding = slot.holding();
            if holding.is_asking() {
                drop(holding);
                self.keep_listed(slot);
            } else if slot.is_pressed() || slot.has_missed() || holding.is_due(&slot.cell, now) {
                items.push(holding.report(&slot.cell, self.seq, slot.surroundings(now)));
                drop(holding);
                slots.push(slot);
            } else {
                let due = if holding.is_settled(&slot.cell) { KEPT } else { REMINDER };
                drop(holding);
                self.plan(&slot, now.saturating_add(due));
            }
            if items.len() == MOST_ITEMS {
                self.exchange(std::mem::take(&mut slots), std::mem::take(&mut items));
                self.seq += 1;
            }
        }
        if !items.is_empty() {
            self.exchange(slots, items);
        }
        if !self.pending.is_empty() {
            self.plan_tick();
        }
    }

    /// Into the list, unless it is there already: a slot that stood in it twice would be unlisted while the bell still
    /// points to it, be listed again behind itself, and the list would have no end.
    fn keep_listed(&mut self, slot: Handle) {
        if !slot.listed.swap(true, Ordering::AcqRel) {
            self.pending.push(slot);
        }
    }

    fn exchange(&mut self, slots: Vec<Handle>, items: Vec<tidegate_quota::protocol::Item>) {
        let seq = self.seq;
        let (node, incarnation) = (self.limiter.node, self.limiter.incarnation);
        let leases = Arc::clone(&self.leases);
        self.limiter.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.exchanges.push(Box::pin(async move {
            let batch = Batch { node, incarnation, seq, items };
            let reply = match tokio::time::timeout(DEADLINE, leases.exchange(batch)).await {
                Ok(reply) => reply,
                Err(_) => Err(Unreachable("no answer in time".into())),
            };
            Answered { seq, slots, reply }
        }));
    }

    fn answered(&mut self, answered: Answered) {
        let Answered { seq, slots, reply } = answered;
        match reply {
            Ok(reply) => {
                self.limiter.silent_since.store(0, Ordering::Relaxed);
                // Answers come in the order of the items; those that were too old are left out.
                let mut answers = reply.items.iter().peekable();
                for slot in slots {
                    match answers.next_if(|answer| answer.key == slot.key()) {
                        Some(answer) => self.use_answer(&slot, seq, answer),
                        None => slot.holding().failed(seq),
                    }
                    self.after(slot);
                }
            }
            Err(unreachable) => {
                tracing::debug!(%unreachable, keys = slots.len(), "no answer from the quota leader");
                self.limiter.counters.exchange_failures.fetch_add(1, Ordering::Relaxed);
                self.limiter.fall_silent();
                for slot in slots {
                    slot.holding().failed(seq);
                    self.keep_listed(slot); // To ask anew, under a new number.
                }
                self.plan_tick();
            }
        }
        if self.pending.iter().any(|slot| slot.is_pressed()) && self.limiter.silent_for().is_none() {
            self.send(|slot| slot.is_pressed());
        }
    }

    fn use_answer(&mut self, slot: &Handle, seq: u64, answer: &tidegate_quota::protocol::Answer) {
        let now = clock::boot();
        let epoch = || self.limiter.table.next_epoch();
        let news = slot.holding().answer(&slot.cell, seq, answer, slot.window(), now, epoch);
        if let News::Lease { retry, free, .. } = news {
            slot.free.store(free.0, Ordering::Relaxed);
            slot.told.store(now.0, Ordering::Relaxed);
            let (covered, frees) = if retry == Nanos::ZERO {
                (0, 0)
            } else {
                let cover = retry.min(Nanos(slot.window().0 / 50)).min(LONGEST_COVER);
                (now.saturating_add(cover).0, now.saturating_add(retry).0)
            };
            slot.frees_at.store(frees, Ordering::Relaxed);
            slot.covered_until.store(covered, Ordering::Relaxed);
        }
        slot.news.notify_waiters();
    }

    fn after(&mut self, slot: Handle) {
        let holding = slot.holding();
        let settled = holding.is_settled(&slot.cell);
        let due = holding.is_due(&slot.cell, clock::boot());
        drop(holding);
        if due || slot.has_missed() {
            self.limiter.bell.list(&slot, slot.number);
            self.plan_tick();
        }
        let wait = if settled { KEPT } else { REMINDER };
        self.plan(&slot, clock::boot().saturating_add(wait));
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Incarnation, LimitId, NodeId, Permits, Revision, Subject};
    use tidegate_policy::{Limit, Mode, OnUnavailable};
    use tidegate_quota::SubjectHasher;

    use super::*;
    use crate::Settings;

    struct Nobody;

    impl Leases for Nobody {
        fn exchange(&self, _: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
            Box::pin(std::future::pending())
        }

        fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    fn limit() -> Limit {
        Limit {
            id: LimitId(1),
            revision: Revision(1),
            name: "spec".into(),
            max: Permits(100),
            window: Nanos::SECOND,
            per: Vec::new(),
            mode: Mode::Enforce,
            on_unavailable: OnUnavailable::Deny,
            count_hits: true,
        }
    }

    #[tokio::test]
    async fn a_slot_whose_planned_look_comes_while_it_is_listed_stands_in_the_list_once() {
        let settings =
            Settings { node: NodeId(1), incarnation: Incarnation(1), secret: [0; 16], most_keys: 10, decisions: None };
        let limiter = Limiter::new(settings);
        let mut tick = Tick {
            limiter: Arc::clone(&limiter),
            leases: Arc::new(Nobody),
            seq: 0,
            pending: Vec::new(),
            planned: BTreeSet::new(),
            exchanges: FuturesUnordered::new(),
            next: None,
        };
        let found = limiter.table.find(&limit(), Subject(1), &SubjectHasher::new(&[0; 16])).expect("room");
        let slot = limiter.table.handle(found.number).expect("it is there");
        slot.miss(Permits(1)); // so that it is not forgotten
        for _ in 0..3 {
            tick.plan(&slot, Nanos::ZERO);
            limiter.bell.list(&slot, slot.number);
            tick.look_at_planned();
            limiter.bell.list(&slot, slot.number);
            limiter.bell.drain_into(&mut tick.pending, &limiter.table);
            assert_eq!(tick.pending.len(), 1);
        }
        tick.send(|_| true);
        limiter.bell.list(&slot, slot.number);
        tick.plan(&slot, Nanos::ZERO);
        tick.look_at_planned();
        limiter.bell.drain_into(&mut tick.pending, &limiter.table);
        assert_eq!(tick.pending.len(), 1);
    }
}
