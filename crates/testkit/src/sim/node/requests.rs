//! What a node does with a request: takes from all limits or from none, looks further where a cell is short, waits, refuses.

use tidegate_model::{Nanos, Permits};
use tidegate_quota::guard;
use tidegate_quota::holding::Drawn;
use tidegate_quota::protocol::Key;

use super::take::{Hold, Took};
use super::{Known, Origin};
use crate::sim::scenario::{MICRO, MILLI, SECOND};
use crate::sim::world::{Event, World};

const PATIENCE: u64 = 250 * MILLI;
const LONGEST: u64 = SECOND;
/// As in `limiter`: a leader that says "ask again in a moment" is believed for so long.
const SECOND_WIND: u64 = 120 * MILLI;
const A_MOMENT: Nanos = Nanos::from_millis(20);
/// A refused client that wants much comes again. Who lets time pass may miss the grant that gathered for him: what nobody on
/// his node waits for is called back by whoever starves elsewhere.
const AT_ONCE: u64 = 2 * MILLI;

#[derive(Debug, Clone)]
pub(in crate::sim) struct Request {
    pub(super) asks: Vec<(usize, u64)>,
    pub(super) started: u64,
    pub(super) waits_for: Key,
    /// `None`: of this node's own client.
    pub(super) origin: Option<Origin>,
    /// A reservation that waits: what it is granted is kept for it.
    pub(super) ticket: Option<(Key, u64)>,
    /// Of a client that comes again until it is served: since when.
    pub(super) patient: Option<u64>,
}

impl World {
    pub(in crate::sim) fn arrive(&mut self, node: usize) {
        let rates = self.nodes[node].rates.clone();
        let total: f64 = rates.iter().sum();
        let wait = self.random.about(1.0 / total.max(1e-15));
        self.after((wait as u64).clamp(1, 3_600 * SECOND), Event::Arrive { node });
        let limit = self.random.weighted(&rates);
        // A burst is four times the demand for a fifth of the time, and silence.
        let idles = self.scenario.limits[limit].bursty && !(self.now / (300 * MILLI) + node as u64).is_multiple_of(5);
        if !idles || self.random.chance(0.1) {
            self.request(node, limit);
        }
    }

    pub(in crate::sim) fn burst(&mut self, node: usize, limit: usize, left: u32, every: u64) {
        self.nodes[node].quiet_until = 0;
        self.request(node, limit);
        if left > 0 {
            self.after(every, Event::Burst { node, limit, left: left - 1, every });
        }
    }

    fn request(&mut self, node: usize, limit: usize) {
        if !self.nodes[node].up || self.nodes[node].quiet_until > self.now {
            return;
        }
        let cost = self.scenario.limits[limit].cost(&mut self.random);
        let mut asks = vec![(limit, cost)];
        while self.random.chance(self.scenario.pairs) {
            let other = self.random.index(self.scenario.limits.len());
            if !asks.iter().any(|(limit, _)| *limit == other) {
                asks.push((other, 1));
            }
        }
        asks.retain(|(limit, _)| self.nodes[node].known[*limit].active);
        self.ask(node, asks, None);
    }

    /// A client that wants much at once, and comes again until it has it.
    pub(in crate::sim) fn patient(&mut self, node: usize, limit: usize, since: u64) {
        let known = self.nodes[node].known[limit];
        if self.nodes[node].up && known.active {
            self.ask(node, vec![(limit, (known.max.0 / 3).max(1))], Some(since));
        }
    }

    fn ask(&mut self, node: usize, asks: Vec<(usize, u64)>, patient: Option<u64>) {
        let Some((first, _)) = asks.first() else { return };
        let key = self.nodes[node].known[*first].key;
        self.oracle.asked(key, self.now);
        let request = Request { asks, started: self.now, waits_for: key, origin: None, ticket: None, patient };
        self.attempt(node, request);
    }

    /// Takes from all limits or from none.
    pub(in crate::sim) fn attempt(&mut self, node: usize, mut request: Request) {
        let life = self.nodes[node].life;
        let mut held: Vec<Hold> = Vec::new();
        for (limit, cost) in request.asks.clone() {
            let known = self.nodes[node].known[limit];
            let Some(known) = self.housed(node, known) else {
                self.undo(node, held);
                return self.wait_for_room(node, request);
            };
            match self.take(node, known, Permits(cost), &mut request) {
                Took::Held(hold) => held.push(hold),
                Took::Dead => return,
                Took::Short => {
                    self.undo(node, held);
                    request.waits_for = known.key;
                    self.look_further(node, request, known, cost);
                    return;
                }
            }
        }
        self.give_up_waiting(node, &mut request);
        self.decide(node, &request, true);
        let held = self.run(node, held);
        if self.random.chance(self.scenario.refunds) {
            let longest = self.random.one_of(&[MILLI, 50 * MILLI, 3 * SECOND]);
            let wait = self.random.below(longest);
            self.after(wait, Event::GiveBack { node, life, held });
        }
    }

    fn look_further(&mut self, node: usize, mut request: Request, known: Known, cost: u64) {
        if request.ticket.is_none_or(|(key, _)| key != known.key) {
            self.give_up_waiting(node, &mut request);
            if known.promised {
                let ticket = self.slot(node, known).holding.wait(Permits(cost));
                request.ticket = ticket.map(|ticket| (known.key, ticket));
            }
        }
        let Some(request) = self.forward(node, request, known, cost) else { return };
        let Some(mut request) = self.sleep(node, request, known, cost) else { return };
        let (now, silent) = (self.nodes[node].boot.read(self.now), self.nodes[node].silent);
        let (started, at) = (request.started, self.now);
        let slot = self.slot(node, known);
        let in_a_moment = slot.frees_at <= now.saturating_add(A_MOMENT) && at < started + SECOND_WIND;
        let covered = now < slot.covered_until && !in_a_moment && guard!("covered-refusal-is-local")
            || !guard!("waits-before-an-uncovered-refusal");
        if cost > known.max.0 || covered || silent || at >= started + LONGEST {
            slot.missed += cost;
            slot.largest = slot.largest.max(cost);
            self.trace(|| format!("node {node} refuses {cost} of {:?}, asked for at {started}, {covered}", known.key));
            self.list(node, known.key);
            self.give_up_waiting(node, &mut request);
            // Of several limits each may take a recall: the last one has what is left of the time.
            if !silent && cost <= known.max.0 && (request.asks.len() == 1 || at < started + 60 * MILLI) {
                self.refused_for_want(known, cost, started);
            }
            self.decide(node, &request, false);
            return;
        }
        // The leader said when: asking sooner is in vain.
        let until = if now < slot.covered_until { slot.frees_at.saturating_sub(now).0 } else { 0 };
        slot.queued += cost;
        slot.largest = slot.largest.max(cost);
        self.list(node, known.key);
        let (life, id) = (self.nodes[node].life, self.nodes[node].next_number());
        self.nodes[node].waiting.insert(id, request);
        self.after(PATIENCE, Event::Patience { node, life, request: id });
        self.after((300 * MICRO).max(until), Event::Pressed { node, life });
    }

    /// Of a part of a rate: waits for what it brings, a moment at most, and asks nobody. Returned: this node holds none.
    fn sleep(&mut self, node: usize, request: Request, known: Known, cost: u64) -> Option<Request> {
        let life = self.nodes[node].life;
        let drawn = self.draw(node, known, Permits(cost));
        if self.nodes[node].life != life {
            return None;
        }
        match drawn {
            Drawn::Nothing => Some(request),
            Drawn::In(wait) if wait > A_MOMENT || self.now >= request.started + A_MOMENT.0 => {
                let slot = self.slot(node, known);
                slot.missed += cost;
                slot.largest = slot.largest.max(cost);
                self.list(node, known.key);
                self.decide(node, &request, false);
                None
            }
            Drawn::In(_) | Drawn::There => {
                let wait = if let Drawn::In(wait) = drawn { wait.0 } else { 0 };
                self.slot(node, known).holding.queue(Permits(cost));
                self.after(wait, Event::Wake { node, life, request, known, cost });
                None
            }
        }
    }

    pub(in crate::sim) fn wake(&mut self, node: usize, request: Request, known: Known, cost: u64) {
        if let Some(slot) = self.nodes[node].slots.get_mut(&known.key) {
            slot.holding.unqueue(Permits(cost));
        }
        self.attempt(node, request);
    }

    /// What was kept for it is everybody's again.
    pub(super) fn give_up_waiting(&mut self, node: usize, request: &mut Request) {
        if let Some((key, ticket)) = request.ticket.take()
            && let Some(slot) = self.nodes[node].slots.get_mut(&key)
        {
            slot.holding.leave(&slot.cell, ticket);
        }
    }

    /// Tells whoever asked.
    pub(super) fn decide(&mut self, node: usize, request: &Request, taken: bool) {
        if let Some(origin) = request.origin {
            self.fetched(node, origin, taken);
            return;
        }
        self.oracle.decided(request.started, self.now);
        let (limit, key) = (request.asks[0].0, self.first_key(node, request));
        match (taken, request.patient) {
            (true, Some(since)) => self.patience_paid(limit, since),
            (false, Some(since)) => self.after(AT_ONCE, Event::Patient { node, limit, since }),
            (_, None) => {}
        }
        if !taken {
            self.oracle.refused(key, request.started);
        }
    }

    pub(super) fn first_key(&self, node: usize, request: &Request) -> Key {
        self.nodes[node].known[request.asks[0].0].key
    }

    pub(in crate::sim) fn lose_patience(&mut self, node: usize, request: u64) {
        if let Some(mut request) = self.stop_waiting(node, request) {
            self.nodes[node].silent = true;
            self.give_up_waiting(node, &mut request);
            self.decide(node, &request, false);
        }
    }

    pub(super) fn stop_waiting(&mut self, node: usize, request: u64) -> Option<Request> {
        let state = &mut self.nodes[node];
        let request = state.waiting.remove(&request)?;
        if let Some(slot) = state.slots.get_mut(&request.waits_for) {
            let cost = request.asks.iter().find(|(limit, _)| state.known[*limit].key == request.waits_for);
            slot.queued = slot.queued.saturating_sub(cost.map_or(0, |(_, cost)| *cost));
        }
        Some(request)
    }
}
