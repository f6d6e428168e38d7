//! The task that keeps the cells filled: about every 20 ms one batch for all keys that have something to say, at once for
//! keys that somebody waits for. At most one question per key is open; an answer is used once or not at all.

mod marks;
mod room;

use std::collections::{BTreeSet, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_quota::holding::{News, REMINDER};
use tidegate_quota::protocol::{Answer, Batch, Item, Reply, Verdict, next_batch};
use tokio::time::{Instant, MissedTickBehavior};

use self::marks::Marks;
use self::room::Departures;
use crate::admit::Limiter;
use crate::slot::Handle;
use crate::standstill::{self, Standstill};
use crate::sync::{Ordering, fence};
use crate::{Leases, Unreachable};

const TICK: Duration = Duration::from_millis(20);
/// While no leader answers.
const SLOW_TICK: Duration = Duration::from_millis(50);
/// Questions that press are gathered for this long.
const GATHER: Duration = Duration::from_micros(300);
const MOST_ITEMS: usize = 2_048;
/// No answer after this long is waited for.
const DEADLINE: Duration = Duration::from_millis(1_000);
/// A settled key is forgotten after this long.
const KEPT: Nanos = Nanos::from_secs(10);

impl Limiter {
    /// Runs until dropped.
    pub async fn run(self: Arc<Self>, leases: Arc<dyn Leases>) {
        let mut tick = Tick {
            limiter: self,
            leases,
            seq: 0,
            planned: BTreeSet::new(),
            exchanges: FuturesUnordered::new(),
            errands: FuturesUnordered::new(),
            marks: Marks::default(),
            departures: Departures::default(),
            standstill: Standstill::default(),
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
                self.bell.ring(slot.number);
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

type Exchange = Pin<Box<dyn Future<Output = Answered> + Send>>;

struct Answered {
    seq: u64,
    slots: Vec<Handle>,
    took: Nanos,
    reply: Result<Reply, Unreachable>,
}

struct Tick {
    limiter: Arc<Limiter>,
    leases: Arc<dyn Leases>,
    seq: u64,
    /// Later looks at slots, by their numbers, that may hold something although nobody uses it.
    planned: BTreeSet<(Nanos, u32)>,
    exchanges: FuturesUnordered<Exchange>,
    /// Messages to owners of keys.
    errands: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
    marks: Marks,
    departures: Departures,
    standstill: Standstill,
    /// When the next tick is due; `None`: nothing to say.
    next: Option<Instant>,
}

impl Tick {
    async fn run(&mut self) {
        let limiter = Arc::clone(&self.limiter);
        let leases = Arc::clone(&self.leases);
        let mut looks = tokio::time::interval(standstill::LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = self.next.or_else(|| self.first_planned());
            tokio::select! {
                _ = looks.tick() => {
                    if self.standstill.look() {
                        tracing::warn!("the wall clock was put forward: if this machine stood still, its leases are over");
                        limiter.end_leases();
                    }
                }
                Some(answered) = self.exchanges.next() => self.answered(answered),
                key = leases.recalled() => {
                    if let Some(slot) = limiter.table.get(key) {
                        slot.recalled.store(true, Ordering::SeqCst);
                        limiter.bell.ring(slot.number);
                    }
                }
                Some(()) = self.errands.next() => {}
                synced = self.marks.synced() => self.use_marks(synced),
                () = limiter.owners.rung.notified() => {
                    tokio::time::sleep(GATHER).await;
                    self.errands.extend(limiter.carry(&leases).into_iter().map(|message| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(message) }));
                }
                () = limiter.room.rung.notified() => self.make_room(),
                () = limiter.bell.pressed.notified() => {
                    tokio::time::sleep(GATHER).await;
                    self.send_pressed();
                }
                () = limiter.bell.woken.notified(), if self.next.is_none() => self.plan_tick(),
                () = sleep_until(next) => {
                    self.next = None;
                    self.look_at_planned();
                    self.send_pressed();
                    self.send_news();
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
        while let Some((due, number)) = self.planned.first().copied() {
            if due > now {
                break;
            }
            self.planned.pop_first();
            let Some(slot) = self.limiter.table.handle(number) else { continue };
            slot.planned.store(false, Ordering::Relaxed);
            if !self.forget(&slot) {
                self.limiter.bell.list_again(&slot, number);
            }
        }
    }

    /// One look at a time, most often: a slot that has changed hands may have two, which does no harm.
    fn plan(&mut self, slot: &Handle, due: Nanos) {
        if !slot.planned.swap(true, Ordering::Relaxed) {
            self.planned.insert((due, slot.number));
        }
    }

    /// Reports on slots with news, if these are worth a report by now.
    fn send_news(&mut self) {
        self.look_at(self.limiter.bell.take_news());
    }

    /// Reports at once on slots that somebody waits for, or wants permits back from.
    fn send_pressed(&mut self) {
        self.look_at(self.limiter.bell.take_presses());
    }

    fn look_at(&mut self, numbers: Vec<u32>) {
        if numbers.is_empty() {
            return;
        }
        let handles = numbers.into_iter().filter_map(|number| self.limiter.table.handle(number));
        let looks: Vec<_> = handles.inspect(|slot| slot.unlist()).collect();
        // Flags down before anything is read: what changes from here on marks its slot anew.
        fence(Ordering::SeqCst);
        let (mut slots, mut items) = (Vec::new(), Vec::new());
        self.seq = next_batch(self.seq, self.limiter.silent_for().is_some());
        for slot in looks {
            if let Some(item) = self.look(&slot) {
                items.push(item);
                slots.push(slot);
            }
            if items.len() == MOST_ITEMS {
                self.exchange(std::mem::take(&mut slots), std::mem::take(&mut items));
                self.seq = next_batch(self.seq, false);
            }
        }
        if !items.is_empty() {
            self.exchange(slots, items);
        }
    }

    /// What this slot has to report now. Otherwise it is planned or marked when it will be looked at again.
    fn look(&mut self, slot: &Handle) -> Option<Item> {
        let now = clock::boot();
        let mut holding = slot.holding();
        if slot.is_vacant() {
            return None; // Marked by somebody who was late. The next key marks it anew.
        }
        if holding.is_asking() {
            drop(holding);
            if slot.is_pressed() {
                self.limiter.bell.press_again(slot.number); // Taken again as soon as an answer is there.
            } else {
                self.limiter.bell.list_again(slot, slot.number);
            }
            return None;
        }
        let in_vault = holding.in_vault();
        if in_vault != Permits::ZERO {
            self.mark(slot, &mut holding);
            let enough = slot.is_waited_for() && slot.queued() <= in_vault && !slot.recalled.load(Ordering::SeqCst);
            if enough && !holding.is_due(&slot.cell, now) {
                return None; // Whoever waits is told when the disk has the mark, and rings again if that does not help.
            }
        }
        if slot.is_pressed() || slot.has_missed() || holding.is_due(&slot.cell, now) {
            let mut around = slot.surroundings(now);
            // Where slots are scarce no reserves are opened: a key that has one makes room for others last.
            around.reserve &= holding.reserve.size() != Permits::ZERO || !self.limiter.table.is_nearly_full();
            return Some(holding.report(&slot.cell, self.seq, around));
        }
        let due = if holding.is_settled(&slot.cell) { KEPT } else { REMINDER };
        drop(holding);
        self.plan(slot, now.saturating_add(due));
        None
    }

    fn exchange(&mut self, slots: Vec<Handle>, items: Vec<Item>) {
        let seq = self.seq;
        let (node, incarnation) = (self.limiter.node, self.limiter.incarnation);
        let leases = Arc::clone(&self.leases);
        self.limiter.counters.batches.fetch_add(1, Ordering::Relaxed);
        self.exchanges.push(Box::pin(async move {
            let asked = clock::boot();
            let batch = Batch { node, incarnation, seq, items };
            let reply = match tokio::time::timeout(DEADLINE, leases.exchange(batch)).await {
                Ok(reply) => reply,
                Err(_) => Err(Unreachable("no answer in time".into())),
            };
            Answered { seq, slots, took: clock::boot().saturating_sub(asked), reply }
        }));
    }

    fn answered(&mut self, answered: Answered) {
        let Answered { seq, slots, took, reply } = answered;
        // Before anybody is told: whoever pressed until here is told now, and presses again if it does not help him. A
        // report on his slot at once would hand back what he was just granted, before he comes to take it.
        let mut pressed = self.limiter.bell.take_presses();
        if !pressed.is_empty() {
            let told: HashSet<u32> = slots.iter().map(|slot| slot.number).collect();
            pressed.retain(|number| !told.contains(number));
        }
        match reply {
            Ok(reply) => {
                self.limiter.silence.ends(took);
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
                self.limiter.silence.begins();
                for slot in slots {
                    self.stays(&slot);
                    slot.holding().failed(seq);
                    self.limiter.bell.list_again(&slot, slot.number); // To ask anew, under a new number.
                }
                self.plan_tick();
            }
        }
        self.look_at(pressed);
    }

    fn use_answer(&mut self, slot: &Handle, seq: u64, answer: &Answer) {
        let now = clock::boot();
        let epoch = || self.limiter.table.next_epoch();
        let mut holding = slot.holding();
        if let Some((number, ends)) = holding.window_of(seq, answer) {
            slot.open_window(number, ends);
        }
        if matches!(answer.verdict, Verdict::Reset | Verdict::Unknown) {
            slot.note_expiry(slot.cell.expiry());
        }
        let news = holding.answer(&slot.cell, seq, answer, slot.window(), now, epoch);
        let crowded = holding.crowded_until();
        self.mark(slot, &mut holding);
        let comes_with_its_mark = holding.is_marking();
        drop(holding);
        if let News::Lease { retry, free, .. } = news {
            slot.foresee(free, now);
            slot.cover(now, retry);
            slot.crowd(crowded);
        }
        if !comes_with_its_mark {
            slot.news.notify_waiters();
        }
    }

    fn after(&mut self, slot: Handle) {
        if self.stays(&slot) && self.departs(&slot) {
            return;
        }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Mutex;

    use tidegate_model::{Incarnation, NodeId, Subject};
    use tidegate_quota::protocol::Key;

    use super::*;
    use crate::Settings;
    use crate::fixtures::limit;

    /// Never answers; remembers what was asked.
    #[derive(Default)]
    struct Nobody(Mutex<Vec<Batch>>);

    impl Leases for Nobody {
        fn exchange(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Reply, Unreachable>> + Send + '_>> {
            self.0.lock().expect("no panic").push(batch);
            Box::pin(std::future::pending())
        }

        fn recalled(&self) -> Pin<Box<dyn Future<Output = Key> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    fn tick() -> Tick {
        let settings =
            Settings { node: NodeId(1), incarnation: Incarnation(1), secret: [0; 16], most_keys: 10, decisions: None };
        Tick {
            limiter: Limiter::new(settings),
            leases: Arc::<Nobody>::default(),
            seq: 0,
            planned: BTreeSet::new(),
            exchanges: FuturesUnordered::new(),
            errands: FuturesUnordered::new(),
            marks: Marks::default(),
            departures: Departures::default(),
            standstill: Standstill::default(),
            next: None,
        }
    }

    fn slot(tick: &Tick, subject: u128) -> Handle {
        let found = tick.limiter.find(&limit(), Subject(subject)).expect("room");
        tick.limiter.table.handle(found.number).expect("it is there")
    }

    #[tokio::test]
    async fn a_slot_that_is_marked_for_every_reason_at_once_is_looked_at_once() {
        let mut tick = tick();
        let limiter = Arc::clone(&tick.limiter);
        let slot = slot(&tick, 1);
        slot.miss(Permits(1)); // so that it is not forgotten
        for _ in 0..3 {
            tick.plan(&slot, Nanos::ZERO);
            limiter.bell.list(&slot, slot.number);
            tick.look_at_planned();
            limiter.bell.list(&slot, slot.number);
            limiter.bell.list_again(&slot, slot.number);
            assert_eq!(limiter.bell.take_news(), [slot.number]);
            assert!(limiter.bell.take_news().is_empty());
            slot.unlist();
        }
        limiter.bell.list(&slot, slot.number);
        tick.send_news();
        assert_eq!(tick.exchanges.len(), 1);
        // Its question is open: it stays marked, and is not asked about again.
        limiter.bell.list(&slot, slot.number);
        for _ in 0..3 {
            tick.send_news();
            assert_eq!(tick.exchanges.len(), 1);
        }
        assert_eq!(limiter.bell.take_news(), [slot.number]);
    }

    #[tokio::test]
    async fn a_mark_on_a_slot_that_was_forgotten_reports_nothing() {
        let mut tick = tick();
        let limiter = Arc::clone(&tick.limiter);
        let slot = slot(&tick, 1);
        slot.unlist();
        assert!(limiter.table.forget(&slot));
        slot.recalled.store(true, Ordering::SeqCst); // by `hand_back`, late
        limiter.bell.ring(slot.number);
        limiter.bell.list(&slot, slot.number);
        tick.send_pressed();
        tick.send_news();
        assert!(tick.exchanges.is_empty() && tick.planned.is_empty());
    }

    #[tokio::test]
    async fn a_slot_that_was_only_looked_up_is_planned_to_be_forgotten() {
        let mut tick = tick();
        let slot = slot(&tick, 1);
        tick.send_news();
        assert_eq!(tick.planned.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [slot.number]);
    }
}
