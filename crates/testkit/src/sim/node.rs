//! A gateway node around the shipped cell and holding: what `limiter` does with tasks and clocks, done with events.

mod exchange;
mod owner;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidegate_model::{Incarnation, Nanos, Permits};
use tidegate_quota::cell::{Take, Ticket};
use tidegate_quota::protocol::Key;
use tidegate_quota::{Cell, Holding, guard};

pub(super) use self::owner::Origin;
use super::clock::{Clock, HOLDER_FASTEST, HOLDER_SLOWEST};
use super::oracle::Mark;
use super::random::Random;
use super::scenario::{MICRO, MILLI, SECOND, Scenario};
use super::world::{Event, World};

const PATIENCE: u64 = 250 * MILLI;
const LONGEST: u64 = SECOND;
const DEADLINE: u64 = SECOND;
/// As in `limiter`: a leader that says "ask again in a moment" is believed for so long.
const SECOND_WIND: u64 = 120 * MILLI;
const A_MOMENT: Nanos = Nanos::from_millis(20);

pub(super) struct Node {
    pub(super) up: bool,
    /// One life of the process; its incarnation.
    pub(super) life: u32,
    pub(super) cut: bool,
    pub(super) frozen_until: u64,
    /// Its one ticking task is in the middle of a step.
    pub(super) busy: bool,
    /// What its task will do next.
    pub(super) parked: Vec<Event>,
    /// How often this place in the cluster was filled anew.
    pub(super) joined: u64,
    pub(super) boot: Clock,
    pub(super) known: Vec<Known>,
    pub(super) slots: BTreeMap<Key, Slot>,
    /// Requests per nanosecond from its clients, and which limits they are for.
    rates: Vec<f64>,
    pub(super) quiet_until: u64,
    listed: BTreeSet<Key>,
    tick_planned: bool,
    silent: bool,
    seq: u64,
    epoch: u64,
    open: BTreeMap<u64, Vec<Key>>,
    waiting: BTreeMap<u64, Request>,
    /// Requests that another node is asked about, and nodes that did not answer lately.
    away: BTreeMap<u64, Request>,
    shuns: Vec<u64>,
    next_request: u64,
}

/// A limit as a node's document has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) key: Key,
    pub(super) max: Permits,
    pub(super) window: Nanos,
    pub(super) share: bool,
    pub(super) bucket: bool,
    pub(super) active: bool,
    pub(super) revision: u64,
}

pub(super) struct Slot {
    pub(super) cell: Rc<Cell>,
    holding: Holding,
    known: Known,
    /// Taken in this epoch and not put back, as the simulation counted it: what a report must say.
    taken: u64,
    missed: u64,
    largest: u64,
    queued: u64,
    recalled: bool,
    covered_until: Nanos,
    frees_at: Nanos,
    used: u64,
    /// True time when the last report was cut, and when the one that was answered last.
    asked_at: u64,
    informed: u64,
}

#[derive(Debug, Clone)]
struct Request {
    asks: Vec<(usize, u64)>,
    started: u64,
    waits_for: Key,
    /// `None`: of this node's own client.
    origin: Option<Origin>,
}

/// What a request holds of one limit.
#[derive(Clone)]
pub(super) struct Hold {
    key: Key,
    cell: Rc<Cell>,
    /// `None`: from the reserve, which takes nothing back.
    ticket: Option<Ticket>,
    mark: Mark,
}

enum Took {
    Held(Hold),
    Short,
    Dead,
}

impl Node {
    pub(super) fn new(at: usize, scenario: &Scenario, random: &mut Random) -> Self {
        let rate = if scenario.worst_clocks { HOLDER_SLOWEST } else { random.between(HOLDER_SLOWEST, HOLDER_FASTEST) };
        let spread =
            |limit: &super::scenario::Limit| limit.rate() * limit.spread[at] / limit.spread.iter().sum::<f64>();
        let known = |limit: &super::scenario::Limit| Known {
            key: limit.key,
            max: limit.max,
            window: Nanos(limit.window),
            share: limit.share,
            bucket: limit.bucket,
            active: true,
            revision: 0,
        };
        Self {
            up: true,
            life: 0,
            cut: false,
            frozen_until: 0,
            busy: false,
            parked: Vec::new(),
            joined: 1,
            boot: Clock::new(rate, random.below(1_000_000 * SECOND)),
            known: scenario.limits.iter().map(known).collect(),
            slots: BTreeMap::new(),
            rates: scenario.limits.iter().map(spread).collect(),
            quiet_until: 0,
            listed: BTreeSet::new(),
            tick_planned: false,
            silent: false,
            seq: 0,
            epoch: 1,
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            away: BTreeMap::new(),
            shuns: vec![0; scenario.nodes],
            next_request: 0,
        }
    }

    /// The process ends: what it held in memory is gone.
    pub(super) fn die(&mut self) {
        self.up = false;
        self.life += 1;
        self.slots.clear();
        self.listed.clear();
        self.open.clear();
        self.waiting.clear();
        self.away.clear();
        self.parked.clear();
        (self.tick_planned, self.silent, self.busy) = (false, false, false);
        // Who inherits the incarnation goes on with its numbers.
        let seq = if guard!("incarnation-is-new") { 0 } else { self.seq };
        (self.seq, self.epoch) = (seq, 1);
    }

    fn incarnation(&self, at: usize) -> Incarnation {
        let life = if guard!("incarnation-is-new") { self.life } else { 0 };
        Incarnation((at as u128) << 64 | u128::from(life))
    }

    fn next_epoch(&mut self) -> u64 {
        if guard!("recreated-key-has-a-new-epoch") {
            self.epoch += 1;
        }
        self.epoch
    }
}

impl World {
    pub(super) fn arrive(&mut self, node: usize) {
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

    /// A newer document reaches a node; an older one that comes late does not.
    pub(super) fn learn(&mut self, node: usize, limit: usize, known: Known) {
        let before = &mut self.nodes[node].known[limit];
        if known.revision > before.revision {
            *before = known;
        }
    }

    pub(super) fn burst(&mut self, node: usize, limit: usize, left: u32, every: u64) {
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
        if self.random.chance(self.scenario.pairs) {
            let other = self.random.index(self.scenario.limits.len());
            if other != limit {
                asks.push((other, 1));
            }
        }
        asks.retain(|(limit, _)| self.nodes[node].known[*limit].active);
        let Some((first, _)) = asks.first() else { return };
        let key = self.nodes[node].known[*first].key;
        self.oracle.asked(key, self.now);
        self.attempt(node, Request { asks, started: self.now, waits_for: key, origin: None });
    }

    /// Takes from all limits or from none.
    fn attempt(&mut self, node: usize, mut request: Request) {
        let mut held = Vec::new();
        for (limit, cost) in request.asks.clone() {
            let known = self.nodes[node].known[limit];
            match self.take(node, known, Permits(cost)) {
                Took::Held(hold) => held.push(hold),
                Took::Dead => return,
                Took::Short => {
                    for hold in &held {
                        self.oracle.revoke(hold.mark); // Nobody was admitted with it, put back or burnt.
                    }
                    self.give_back(node, &held);
                    request.waits_for = known.key;
                    self.look_further(node, request, known, cost);
                    return;
                }
            }
        }
        self.decide(node, &request, true);
        if self.random.chance(self.scenario.refunds) {
            let longest = self.random.one_of(&[MILLI, 50 * MILLI, 3 * SECOND]);
            let (wait, life) = (self.random.below(longest), self.nodes[node].life);
            self.after(wait, Event::GiveBack { node, life, held });
        }
    }

    fn take(&mut self, node: usize, known: Known, cost: Permits) -> Took {
        loop {
            let cell = Rc::clone(&self.slot(node, known).cell);
            let life = self.nodes[node].life;
            let mut stamp = 0;
            let take = cell.take(cost, || {
                self.slot(node, known).taken += cost.0;
                self.dawdle(node);
                stamp = self.now;
                self.nodes[node].boot.read(self.now)
            });
            if self.nodes[node].life != life {
                return Took::Dead;
            }
            match take {
                Take::Taken(ticket) => {
                    self.list(node, known.key);
                    self.trace(|| {
                        format!("node {node} took {cost} of {:?} stamped {stamp}, cell {:?}", known.key.limit, cell)
                    });
                    let mark = self.oracle.admit(known.key, node, stamp, cost, u64::MAX);
                    return Took::Held(Hold { key: known.key, cell, ticket: Some(ticket), mark });
                }
                Take::Burnt(_) => self.list(node, known.key),
                Take::Short => return self.take_reserved(node, known, cost),
            }
        }
    }

    fn take_reserved(&mut self, node: usize, known: Known, cost: Permits) -> Took {
        let (now, at) = (self.nodes[node].boot.read(self.now), self.now);
        let slot = self.slot(node, known);
        if !known.share || !slot.holding.reserve.take(cost, known.window, now) {
            return Took::Short;
        }
        let left = slot.holding.reserve.size();
        let (cell, informed) = (Rc::clone(&slot.cell), slot.informed);
        self.trace(|| format!("node {node} took {cost} of the {left} reserved of {:?}", known.key.limit));
        let mark = self.oracle.admit(known.key, node, at, cost, informed);
        Took::Held(Hold { key: known.key, cell, ticket: None, mark })
    }

    pub(super) fn give_back(&mut self, node: usize, held: &[Hold]) {
        for hold in held {
            let Some(ticket) = hold.ticket else { continue };
            if !hold.cell.put_back(ticket) {
                continue;
            }
            self.oracle.revoke(hold.mark);
            if let Some(slot) = self.nodes[node].slots.get_mut(&hold.key).filter(|s| Rc::ptr_eq(&s.cell, &hold.cell)) {
                slot.taken = slot.taken.wrapping_sub(ticket.cost.0);
            }
        }
    }

    fn look_further(&mut self, node: usize, request: Request, known: Known, cost: u64) {
        let request = match self.forward(node, request, known, cost) {
            Ok(()) => return,
            Err(own) => own,
        };
        let (now, silent) = (self.nodes[node].boot.read(self.now), self.nodes[node].silent);
        let started = request.started;
        let at = self.now;
        let slot = self.slot(node, known);
        let in_a_moment = slot.frees_at <= now.saturating_add(A_MOMENT) && at < started + SECOND_WIND;
        let covered = now < slot.covered_until && !in_a_moment && guard!("covered-refusal-is-local")
            || !guard!("waits-before-an-uncovered-refusal");
        if cost > known.max.0 || covered || silent || at >= started + LONGEST {
            slot.missed += cost;
            slot.largest = slot.largest.max(cost);
            self.list(node, known.key);
            self.decide(node, &request, false);
            return;
        }
        // The leader said when: asking sooner is in vain.
        let until = if now < slot.covered_until { slot.frees_at.saturating_sub(now).0 } else { 0 };
        slot.queued += cost;
        slot.largest = slot.largest.max(cost);
        self.list(node, known.key);
        let (life, id) = (self.nodes[node].life, self.nodes[node].next_request);
        self.nodes[node].next_request += 1;
        self.nodes[node].waiting.insert(id, request);
        self.after(PATIENCE, Event::Patience { node, life, request: id });
        self.after((300 * MICRO).max(until), Event::Pressed { node, life });
    }

    /// Tells whoever asked.
    fn decide(&mut self, node: usize, request: &Request, taken: bool) {
        if let Some(origin) = request.origin {
            self.fetched(node, origin, taken);
            return;
        }
        self.oracle.decided(request.started, self.now);
        if !taken {
            self.oracle.refused(self.first_key(node, request), request.started);
        }
    }

    fn first_key(&self, node: usize, request: &Request) -> Key {
        self.nodes[node].known[request.asks[0].0].key
    }

    pub(super) fn lose_patience(&mut self, node: usize, request: u64) {
        if let Some(request) = self.stop_waiting(node, request) {
            self.nodes[node].silent = true;
            self.decide(node, &request, false);
        }
    }

    fn stop_waiting(&mut self, node: usize, request: u64) -> Option<Request> {
        let state = &mut self.nodes[node];
        let request = state.waiting.remove(&request)?;
        if let Some(slot) = state.slots.get_mut(&request.waits_for) {
            let cost = request.asks.iter().find(|(limit, _)| state.known[*limit].key == request.waits_for);
            slot.queued = slot.queued.saturating_sub(cost.map_or(0, |(_, cost)| *cost));
        }
        Some(request)
    }

    fn slot(&mut self, node: usize, known: Known) -> &mut Slot {
        let at = self.now;
        let state = &mut self.nodes[node];
        if !state.slots.contains_key(&known.key) {
            let epoch = state.next_epoch();
            let slot = Slot {
                cell: Rc::default(),
                holding: Holding::new(known.key, epoch),
                known,
                taken: 0,
                missed: 0,
                largest: 0,
                queued: 0,
                recalled: false,
                covered_until: Nanos::ZERO,
                frees_at: Nanos::ZERO,
                used: at,
                asked_at: at,
                informed: at,
            };
            state.slots.insert(known.key, slot);
        }
        let slot = state.slots.get_mut(&known.key).expect("just made");
        (slot.known, slot.used) = (known, at);
        slot
    }
}
