//! The task that keeps a node's cells filled: reports, answers, retries.

use std::rc::Rc;

use tidegate_model::{Nanos, Permits};
use tidegate_quota::guard;
use tidegate_quota::holding::{News, REMINDER, Surroundings};
use tidegate_quota::protocol::{Answer, Batch, Item, Key, Nature, Recall, Reply, Verdict, next_batch};

use super::DEADLINE;
use crate::sim::oracle::Admission;
use crate::sim::scenario::{MICRO, MILLI};
use crate::sim::world::{Event, World, node_id};

impl World {
    pub(in crate::sim) fn list(&mut self, node: usize, key: Key) {
        self.nodes[node].listed.insert(key);
        self.plan_tick(node);
    }

    fn plan_tick(&mut self, node: usize) {
        if self.nodes[node].tick_planned {
            return;
        }
        self.nodes[node].tick_planned = true;
        let tick = if self.nodes[node].silent { 50 * MILLI } else { 20 * MILLI };
        let (wait, life) = (tick * 7 / 8 + self.random.below(tick / 4), self.nodes[node].life);
        self.after(wait, Event::Tick { node, life });
    }

    pub(in crate::sim) fn tick(&mut self, node: usize) {
        self.nodes[node].tick_planned = false;
        self.report(node, false);
    }

    pub(in crate::sim) fn pressed(&mut self, node: usize) {
        self.report(node, true);
    }

    pub(in crate::sim) fn look(&mut self, node: usize, key: Key) {
        let (kept, at) = (self.scenario.kept, self.now);
        let Some(slot) = self.nodes[node].slots.get(&key) else { return };
        if slot.holding.is_settled(&slot.cell) && slot.missed == 0 {
            if slot.queued == 0 && at >= slot.used + kept {
                self.nodes[node].slots.remove(&key);
            }
        } else {
            self.list(node, key);
        }
    }

    /// One batch for all keys that have something to say, or that somebody waits for.
    fn report(&mut self, node: usize, only_pressed: bool) {
        let life = self.nodes[node].life;
        let seq = next_batch(self.nodes[node].seq, self.nodes[node].silent);
        self.nodes[node].seq = seq;
        self.nodes[node].busy = true;
        let (mut items, mut keys) = (Vec::new(), Vec::new());
        for key in self.nodes[node].listed.clone() {
            let state = &mut self.nodes[node];
            let boot = state.boot.read(self.now);
            let Some(slot) = state.slots.get(&key) else { continue };
            let pressed = slot.queued > 0 || slot.recalled || slot.leaving;
            if slot.holding.is_asking() || only_pressed && !pressed {
                continue;
            }
            state.listed.remove(&key);
            if !pressed && slot.missed == 0 && !slot.holding.is_due(&slot.cell, boot) {
                let settled = slot.holding.is_settled(&slot.cell);
                let wait = if settled { self.scenario.kept } else { REMINDER.0 };
                self.after(wait + MILLI, Event::Look { node, life, key });
                continue;
            }
            self.dawdle(node); // Between reading the clock and cutting the report.
            if self.nodes[node].life != life {
                return;
            }
            items.push(self.cut(node, key, seq, boot));
            keys.push(key);
        }
        self.dawdle(node); // Between the cut and the wire.
        if self.nodes[node].life != life {
            return;
        }
        self.rests(node);
        if !items.is_empty() {
            self.exchange(node, seq, keys, items);
        }
        if !self.nodes[node].listed.is_empty() {
            self.plan_tick(node);
        }
    }

    fn cut(&mut self, node: usize, key: Key, seq: u64, now: Nanos) -> Item {
        let at = self.now;
        let slot = self.nodes[node].slots.get_mut(&key).expect("only the task removes slots");
        slot.asked_at = at;
        let around = Surroundings {
            now,
            window: slot.known.span(),
            max: slot.known.max,
            missed: Permits(std::mem::take(&mut slot.missed)),
            waiting: Permits(std::mem::take(&mut slot.largest)),
            queued: Permits(slot.queued),
            recalled: std::mem::take(&mut slot.recalled),
            reserve: slot.known.share && slot.known.active,
            leaving: std::mem::take(&mut slot.leaving) && slot.queued == 0,
        };
        let item = slot.holding.report(&slot.cell, seq, around);
        // Of a part of a rate it says which room it gave up.
        if item.spent.0 != slot.taken && slot.known.nature() != Nature::Refilled {
            let text = format!("node {node} took {} of {key:?} and reports {}", slot.taken, item.spent);
            self.oracle.broken(text);
        }
        self.trace(|| format!("node {node} seq {seq} says {item:?}"));
        self.compare_places(node, key);
        item
    }

    /// Places that are no call's are lost to everybody. Not while a thread is between a take and what follows.
    fn compare_places(&mut self, node: usize, key: Key) {
        let state = &self.nodes[node];
        let slot = &state.slots[&key];
        if self.depth > 0 || slot.known.nature() != Nature::InUse {
            return;
        }
        let mine = |place: &&super::Place| Rc::ptr_eq(&place.cell, &slot.cell) && place.cell.is_of(place.ticket);
        let running: u64 = state.places.iter().filter(mine).map(|place| place.ticket.cost.0).sum();
        let in_use = slot.holding.in_use(&slot.cell).0;
        if in_use != running {
            self.oracle.broken(format!("node {node} runs {running} calls of {key:?} and has {in_use} places in use"));
        }
    }

    fn exchange(&mut self, node: usize, seq: u64, keys: Vec<Key>, items: Vec<Item>) {
        self.batches += 1;
        let (life, incarnation) = (self.nodes[node].life, self.nodes[node].incarnation(node));
        self.nodes[node].open.insert(seq, keys);
        self.after(DEADLINE, Event::Deadline { node, life, seq });
        let batch = Rc::new(Batch { node: node_id(node, self.nodes[node].joined), incarnation, seq, items });
        let errs = self.scenario.faults.is_some() && self.now < self.scenario.healed_at();
        let mistaken = errs && self.random.chance(0.1);
        let voter = if mistaken { None } else { self.leader() };
        let voter = voter.unwrap_or_else(|| self.random.index(self.voters.len()));
        if !self.nodes[node].cut && !self.voters[voter].cut {
            self.transmit(|| Event::Batch { voter, batch: Rc::clone(&batch) });
        }
    }

    pub(in crate::sim) fn unanswered(&mut self, node: usize, seq: u64) {
        let Some(keys) = self.nodes[node].open.remove(&seq) else { return };
        self.nodes[node].silent = true;
        for key in keys {
            if let Some(slot) = self.nodes[node].slots.get_mut(&key) {
                slot.holding.failed(seq);
            }
            self.list(node, key); // To ask anew, under a new number.
        }
    }

    pub(in crate::sim) fn reply(&mut self, node: usize, reply: &Reply) {
        // A connection belongs to a process.
        if !self.nodes[node].up || self.nodes[node].cut || reply.incarnation != self.nodes[node].incarnation(node) {
            return;
        }
        let life = self.nodes[node].life;
        self.nodes[node].silent = false;
        self.nodes[node].busy = true;
        for key in self.nodes[node].open.remove(&reply.seq).unwrap_or_default() {
            if !reply.items.iter().any(|answer| answer.key == key)
                && let Some(slot) = self.nodes[node].slots.get_mut(&key)
            {
                slot.holding.failed(reply.seq);
            }
        }
        for answer in &reply.items {
            let boot = self.nodes[node].boot.read(self.now);
            self.dawdle(node); // Between reading the clock and using the answer.
            if self.nodes[node].life != life {
                return;
            }
            self.use_answer(node, reply.seq, answer, boot);
        }
        self.rests(node);
        for answer in &reply.items {
            self.retry(node, answer.key);
        }
    }

    fn use_answer(&mut self, node: usize, seq: u64, answer: &Answer, now: Nanos) {
        self.trace(|| format!("node {node} seq {seq} is told {answer:?}"));
        let state = &mut self.nodes[node];
        let mut epoch = state.epoch;
        let Some(slot) = state.slots.get_mut(&answer.key) else { return };
        if let Some((window, _)) = slot.holding.window_of(seq, answer) {
            slot.window = window;
        }
        let (left, debt) = (slot.cell.left(), slot.debt);
        let news = slot.holding.answer(&slot.cell, seq, answer, slot.known.span(), now, || {
            epoch += 1;
            epoch
        });
        state.epoch = epoch;
        if matches!(news, News::Lease { .. }) {
            slot.informed = slot.asked_at;
        }
        // What is owed is paid before anybody else has of a grant, and is spent with that.
        let granted = match answer.verdict {
            Verdict::Lease { granted, .. } | Verdict::Dated { granted, .. } | Verdict::Shared { granted, .. } => {
                granted.0
            }
            Verdict::Reset | Verdict::Unknown => 0,
        };
        let owed = slot.holding.debt().0;
        let (paid, window) = (debt.saturating_sub(owed), slot.window);
        let rest = granted - granted.min(debt);
        let unpaid = slot.cell.left().0 > left.0 + rest || paid != 0 && paid != granted.min(debt);
        slot.debt = owed;
        match news {
            News::Stale => return,
            News::Reset | News::Unknown => slot.taken = 0,
            News::Lease { retry, .. } => {
                let longest = Nanos(slot.known.span().0 / 50).min(Nanos::from_millis(100));
                let cover = if guard!("cover-is-capped") { retry.min(longest) } else { retry };
                slot.frees_at = if retry == Nanos::ZERO { Nanos::ZERO } else { now.saturating_add(retry) };
                slot.covered_until = if retry == Nanos::ZERO { Nanos::ZERO } else { now.saturating_add(cover) };
                slot.taken += paid;
            }
        }
        let (due, settled) = (slot.holding.is_due(&slot.cell, now), slot.holding.is_settled(&slot.cell));
        let (missed, life, key) = (slot.missed > 0, self.nodes[node].life, answer.key);
        if unpaid {
            self.oracle.broken(format!("node {node} owes {debt} of {key:?}, is granted {granted} and pays {paid}"));
        }
        if paid > 0 {
            self.oracle.admit(Admission::of(key, node, self.now, paid, window));
        }
        if due || missed {
            self.list(node, key);
        }
        let wait = if settled { self.scenario.kept } else { REMINDER.0 };
        self.after(wait + MILLI, Event::Look { node, life, key });
        self.see_off(node, key);
    }

    fn retry(&mut self, node: usize, key: Key) {
        let waiting = self.nodes[node].waiting.iter().filter(|(_, request)| request.waits_for == key);
        for request in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            if let Some(request) = self.stop_waiting(node, request) {
                self.attempt(node, request);
            }
        }
    }

    pub(in crate::sim) fn recall(&mut self, node: usize, recall: Recall) {
        let state = &mut self.nodes[node];
        if state.up
            && !state.cut
            && let Some(slot) = state.slots.get_mut(&recall.key)
        {
            slot.recalled = true;
            let life = state.life;
            self.list(node, recall.key);
            self.after(300 * MICRO, Event::Pressed { node, life });
        }
    }
}
