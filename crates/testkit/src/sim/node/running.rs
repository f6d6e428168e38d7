//! Calls that hold something for as long as they run: places, and reservations that are settled when it is known what was
//! used. They end, hang up, turn out dearer than was reserved, or end with the lease of a place they have.

use std::rc::Rc;

use tidegate_model::Permits;
use tidegate_quota::holding::Reservation;
use tidegate_quota::protocol::Key;

use super::take::{Hold, What};
use crate::sim::oracle::{Admission, Mark};
use crate::sim::scenario::{MILLI, SECOND};
use crate::sim::world::{Event, World};

/// What a call has while it runs.
pub(in crate::sim) struct Call {
    places: Vec<u64>,
    promised: Vec<Promise>,
}

struct Promise {
    key: Key,
    /// The first one, and what it was extended by.
    pieces: Vec<(Reservation, Mark)>,
}

impl Call {
    pub(super) fn has(&self, place: u64) -> bool {
        self.places.contains(&place)
    }
}

impl World {
    /// The call is on its way. Returns what does not end with it.
    pub(super) fn run(&mut self, node: usize, held: Vec<Hold>) -> Vec<Hold> {
        let (mut rest, mut call) = (Vec::new(), Call { places: Vec::new(), promised: Vec::new() });
        let (mut longest, mut shortest) = (SECOND, u64::MAX);
        for Hold { key, cell, what, mark } in held {
            match what {
                What::Place(id) => call.places.push(id),
                What::Promised(reservation) => call.promised.push(Promise { key, pieces: vec![(reservation, mark)] }),
                what => rest.push(Hold { key, cell, what, mark }),
            }
            longest = longest.max(self.oracle.window(key));
            shortest = shortest.min(self.oracle.window(key));
        }
        if call.places.is_empty() && call.promised.is_empty() {
            return rest;
        }
        let (life, id) = (self.nodes[node].life, self.nodes[node].next_number());
        let lasts = match self.random.below(8) {
            0 => self.random.below(8 * longest),
            1 => self.random.below(5 * MILLI),
            _ => self.random.below(2 * longest),
        };
        let lasts = lasts.min(self.ends_in_time(shortest));
        let (extends, may_extend) = (!call.promised.is_empty() && self.random.chance(0.3), self.now + lasts / 2);
        if extends {
            self.at(may_extend, Event::Extend { node, life, call: id });
        }
        self.after(lasts, Event::End { node, life, call: id });
        let has_places = !call.places.is_empty();
        self.nodes[node].calls.insert(id, call);
        if has_places {
            self.lapse(node, id);
            self.count_running_places(node);
        }
        rest
    }

    /// How long a call may last at most. In the end, when it is judged how long somebody waits for much, none holds its
    /// permits for longer than two windows: what is reserved is nobody else's, however long he waits.
    fn ends_in_time(&self, window: u64) -> u64 {
        if self.scenario.is_measured() {
            return u64::MAX;
        }
        let calm = self.scenario.healed_at() + 4 * self.scenario.longest();
        calm.saturating_sub(self.now).max(2 * window)
    }

    /// A call ends of itself: what was used may be less than reserved, or more; who hangs up has used little.
    pub(in crate::sim) fn end(&mut self, node: usize, call: u64) {
        let Some(Call { places, promised }) = self.nodes[node].calls.remove(&call) else { return };
        for id in places {
            self.vacate(node, id);
        }
        for Promise { key, pieces } in promised {
            let bound = pieces.iter().map(|(reservation, _)| reservation.cost.0).sum::<u64>();
            let used = match self.random.below(6) {
                0 => 0,
                1 => bound,
                2 => bound + self.random.between(1, bound.max(2)),
                _ => self.random.below(bound + 1),
            };
            let (mut left, last) = (used, pieces.len() - 1);
            for (nth, (reservation, mark)) in pieces.into_iter().enumerate() {
                // What comes beyond all of them is told with the last one.
                let used = if nth == last { left } else { left.min(reservation.cost.0) };
                left -= used;
                self.settle(node, key, reservation, &[mark], used);
            }
        }
    }

    /// Has the lease ended that a place of this call is of? Then the call ends: another node may give the place away.
    pub(in crate::sim) fn lapse(&mut self, node: usize, call: u64) {
        let state = &self.nodes[node];
        let Some(running) = state.calls.get(&call) else { return };
        let now = state.boot.read(self.now);
        let mut next = None;
        for place in state.places.iter().filter(|place| running.has(place.id)) {
            let Some(until) = place.cell.lives_until(place.ticket, now) else { return self.end(node, call) };
            next = Some(next.map_or(until, |next: tidegate_model::Nanos| next.min(until)));
        }
        if let Some(next) = next {
            let (at, life) = (state.boot.when(next).max(self.now + 1), state.life);
            self.at(at, Event::Lapse { node, life, call });
        }
    }

    /// Its clock has another rate now: when leases end is another moment.
    pub(in crate::sim) fn look_at_calls(&mut self, node: usize) {
        let with_places = self.nodes[node].calls.iter().filter(|(_, call)| !call.places.is_empty());
        for call in with_places.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.lapse(node, call);
        }
    }

    pub(in crate::sim) fn extend(&mut self, node: usize, call: u64) {
        let boot = self.nodes[node].boot.read(self.now);
        let at = self.now;
        let more = Permits(self.random.between(1, 4));
        let state = &mut self.nodes[node];
        let Some(call) = state.calls.get_mut(&call) else { return };
        for promise in &mut call.promised {
            let Some(slot) = state.slots.get_mut(&promise.key) else { continue };
            let before = slot.cell.left();
            let cell = Rc::clone(&slot.cell);
            if let Some(reservation) = slot.holding.reserve(&cell, more, || boot) {
                let (key, tag) = (promise.key, slot.window);
                let admission = Admission { open_until: u64::MAX, ..Admission::of(key, node, at, more.0, tag) };
                promise.pieces.push((reservation, self.oracle.admit(admission)));
            } else {
                slot.taken += before.saturating_sub(cell.left()).0;
            }
        }
    }

    pub(super) fn settle(&mut self, node: usize, key: Key, reservation: Reservation, marks: &[Mark], used: u64) {
        let (boot, at) = (self.nodes[node].boot.read(self.now), self.now);
        self.oracle.settle(marks, used, at);
        // The key may have been forgotten and come again: another epoch.
        let Some(slot) = self.nodes[node].slots.get_mut(&key) else { return };
        let (before, bound, tag) = (slot.cell.left(), reservation.cost.0, slot.window);
        let held = slot.holding.in_use(&slot.cell);
        let settled = slot.holding.settle(&slot.cell, reservation, Permits(used), || boot);
        let of_this_epoch = held.saturating_sub(slot.holding.in_use(&slot.cell)).0;
        let drained = (before.0 + settled.refunded.0).saturating_sub(slot.cell.left().0);
        slot.taken += of_this_epoch.saturating_sub(settled.refunded.0) + drained;
        slot.debt += settled.owed.0;
        let beyond = used.saturating_sub(bound) - settled.owed.0;
        if beyond > 0 {
            self.oracle.admit(Admission::of(key, node, at, beyond, tag));
        }
        self.trace(|| format!("node {node} settled {used} of {bound} of {:?}: {settled:?}", key.limit));
        self.list(node, key);
    }
}
