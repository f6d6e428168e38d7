//! A gateway node around the shipped cell and holding: what `limiter` does with tasks and clocks, done with events.

mod exchange;
mod owner;
mod requests;
mod room;
mod running;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tidegate_model::{Incarnation, Nanos};
use tidegate_quota::cell::Ticket;
use tidegate_quota::protocol::Key;
use tidegate_quota::{Cell, Holding, guard};

pub(super) use self::owner::Origin;
pub(super) use self::requests::Request;
pub(super) use self::running::Call;
pub(super) use self::take::Hold;
use super::clock::{Clock, HOLDER_FASTEST, HOLDER_SLOWEST, LEADER_SLOWEST, Rate, leader_fastest};
use super::known::Known;
use super::random::Random;
use super::scenario::{SECOND, Scenario};
use super::world::{Event, World};

const DEADLINE: u64 = SECOND;

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
    /// What the time is read from that parts of a rate are counted by.
    pub(super) raw: Clock,
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
    /// Calls that hold something for as long as they run.
    calls: BTreeMap<u64, Call>,
    /// Places in use.
    places: Vec<Place>,
}

pub(super) struct Slot {
    pub(super) cell: Rc<Cell>,
    holding: Holding,
    known: Known,
    /// Spent in this epoch and not put back, as the simulation counted it: what a report must say.
    taken: u64,
    /// Billed beyond reservations, and not paid yet: as it should be.
    debt: u64,
    /// The calendar window that what is taken now counts to.
    window: u64,
    missed: u64,
    largest: u64,
    queued: u64,
    recalled: bool,
    /// Another key is to have its place.
    leaving: bool,
    covered_until: Nanos,
    frees_at: Nanos,
    used: u64,
    /// True time when the last report was cut, and when the one that was answered last.
    asked_at: u64,
    informed: u64,
}

/// A place that a call has.
struct Place {
    key: Key,
    cell: Rc<Cell>,
    ticket: Ticket,
    id: u64,
}

impl Node {
    pub(super) fn new(at: usize, scenario: &Scenario, random: &mut Random) -> Self {
        let rate = if scenario.worst_clocks { HOLDER_SLOWEST } else { random.between(HOLDER_SLOWEST, HOLDER_FASTEST) };
        let spread =
            |limit: &super::scenario::Limit| limit.rate() * limit.spread[at] / limit.spread.iter().sum::<f64>();
        Self {
            up: true,
            life: 0,
            cut: false,
            frozen_until: 0,
            busy: false,
            parked: Vec::new(),
            joined: 1,
            boot: Clock::new(rate, random.below(1_000_000 * SECOND)),
            raw: Clock::new(raw_rate(at, scenario), at as u64 * SECOND),
            known: scenario.limits.iter().map(Known::of).collect(),
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
            calls: BTreeMap::new(),
            places: Vec::new(),
        }
    }

    /// The process ends: what it held in memory is gone, and its calls with it.
    pub(super) fn die(&mut self) {
        self.up = false;
        self.life += 1;
        self.slots.clear();
        self.listed.clear();
        self.open.clear();
        self.waiting.clear();
        self.away.clear();
        self.parked.clear();
        self.calls.clear();
        self.places.clear();
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

    /// Of one key, on live leases.
    pub(super) fn live_places(&self, key: Key, now: Nanos) -> u64 {
        let live = |place: &&Place| place.cell.is_of(place.ticket) && now < place.cell.expiry();
        self.places.iter().filter(|place| place.key == key).filter(live).map(|place| place.ticket.cost.0).sum()
    }

    /// Of one key, of calls that run.
    pub(super) fn running_places(&self, key: Key) -> u64 {
        let runs = |place: &&Place| self.calls.values().any(|call| call.has(place.id));
        self.places.iter().filter(|place| place.key == key).filter(runs).map(|place| place.ticket.cost.0).sum()
    }

    fn next_number(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }
}

/// The faster a holder's clock, the more it makes of its part of a rate.
fn raw_rate(at: usize, scenario: &Scenario) -> Rate {
    let fastest = leader_fastest();
    if scenario.worst_clocks {
        fastest
    } else {
        Random::new(scenario.seed ^ at as u64).between(LEADER_SLOWEST, fastest)
    }
}

impl World {
    /// A newer document reaches a node; an older one that comes late does not.
    pub(super) fn learn(&mut self, node: usize, limit: usize, known: Known) {
        let before = &mut self.nodes[node].known[limit];
        if known.revision > before.revision {
            *before = known;
        }
    }

    fn slot(&mut self, node: usize, known: Known) -> &mut Slot {
        let at = self.now;
        let state = &mut self.nodes[node];
        if !state.slots.contains_key(&known.key) {
            let epoch = state.next_epoch();
            let slot = Slot {
                cell: Rc::default(),
                holding: Holding::of(known.key, epoch, known.nature()),
                known,
                taken: 0,
                debt: 0,
                window: 0,
                missed: 0,
                largest: 0,
                queued: 0,
                recalled: false,
                leaving: false,
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
