//! True time, and what happens next. Everything else in here lives on its own clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use tidegate_model::{Millis, NodeId};
use tidegate_quota::protocol::{Batch, Key, Recall, Reply};

use super::group::{Logged, Voter};
use super::known::Known;
use super::node::{Hold, Node, Origin, Request};
use super::oracle::Oracle;
use super::publish::Desk;
use super::random::Random;
use super::scenario::{MILLI, SECOND, Scenario};

pub(super) struct World {
    pub(super) now: u64,
    pub(super) scenario: Scenario,
    pub(super) random: Random,
    pub(super) oracle: Oracle,
    pub(super) nodes: Vec<Node>,
    pub(super) voters: Vec<Voter>,
    pub(super) desk: Desk,
    /// The log as the first voter applied it: what every other must agree with.
    pub(super) history: Vec<Applied>,
    pub(super) answers_leave_leader_dead: bool,
    pub(super) batches: u64,
    /// How deep a thread that was set aside waits for others that were.
    pub(super) depth: u8,
    /// When the newest leader was elected.
    pub(super) leads_since: u64,
    /// Clients that want much at once, by their limit: since when.
    pub(super) patient: BTreeMap<usize, u64>,
    traced: bool,
    queue: BinaryHeap<Reverse<Due>>,
    order: u64,
}

pub(super) struct Applied {
    pub(super) logged: Logged,
    pub(super) print: u64,
}

pub(super) enum Event {
    /// The next request of this node's clients.
    Arrive {
        node: usize,
    },
    /// `left` more requests for one key, as fast as they come.
    Burst {
        node: usize,
        limit: usize,
        left: u32,
        every: u64,
    },
    Tick {
        node: usize,
        life: u32,
    },
    Pressed {
        node: usize,
        life: u32,
    },
    /// A later look at a slot that nobody used.
    Look {
        node: usize,
        life: u32,
        key: Key,
    },
    /// No answer to this batch is waited for any more.
    Deadline {
        node: usize,
        life: u32,
        seq: u64,
    },
    Patience {
        node: usize,
        life: u32,
        request: u64,
    },
    /// The rate has brought what a request waited for.
    Wake {
        node: usize,
        life: u32,
        request: Request,
        known: Known,
        cost: u64,
    },
    /// A request that found no room for its key.
    TryAgain {
        node: usize,
        life: u32,
        request: Request,
    },
    GiveBack {
        node: usize,
        life: u32,
        held: Vec<Hold>,
    },
    /// A call asks for more than it reserved; it ends; its lease may have.
    Extend {
        node: usize,
        life: u32,
        call: u64,
    },
    End {
        node: usize,
        life: u32,
        call: u64,
    },
    Lapse {
        node: usize,
        life: u32,
        call: u64,
    },
    /// Somebody wants a third of a limit at once, and comes again until he has it.
    Patient {
        node: usize,
        limit: usize,
        since: u64,
    },
    TurnCalendar,
    OpenWindows {
        voter: usize,
        life: u32,
        asked: Millis,
        wrong: i64,
    },
    SetClockRight {
        voter: usize,
    },
    Reply {
        node: usize,
        reply: Rc<Reply>,
    },
    Recall {
        node: usize,
        recall: Recall,
    },
    Batch {
        voter: usize,
        batch: Rc<Batch>,
    },
    Learn {
        node: usize,
        limit: usize,
        known: Known,
    },
    Append {
        voter: usize,
        from: usize,
        term: u64,
        before: (usize, u64),
        entries: Vec<Logged>,
        commit: usize,
    },
    Ack {
        voter: usize,
        /// And on which of its disks.
        from: (usize, u32),
        term: u64,
        matched: Option<usize>,
    },
    Propose {
        voter: usize,
        life: u32,
    },
    Beat {
        voter: usize,
        life: u32,
        term: u64,
    },
    Watch,
    Fault,
    /// A node's clients fall silent, and maybe its network.
    Hush {
        node: usize,
        until: u64,
        cut: bool,
    },
    /// D becomes half of what it was.
    Shorten,
    /// A node that was removed is set up anew, under a new id.
    Rejoin {
        node: usize,
    },
    Restart {
        node: usize,
    },
    Heal {
        node: usize,
    },
    RestartVoter {
        voter: usize,
    },
    HealVoter {
        voter: usize,
    },
    Slew,
    Publish,
    /// Another node's request comes to the owner of its key; and the answer to it.
    Errand {
        node: usize,
        origin: Origin,
        key: Key,
        cost: u64,
    },
    Fetched {
        node: usize,
        life: u32,
        request: u64,
        taken: bool,
    },
    /// The owner did not answer.
    Shun {
        node: usize,
        life: u32,
        owner: usize,
        request: u64,
    },
    /// A process dies, and the next one is there at once.
    Crash {
        node: usize,
    },
    /// A machine is suspended.
    Suspend {
        node: usize,
        until: u64,
    },
    /// A voter stands for election, however much it has to apply.
    Lead {
        voter: usize,
    },
    Apply {
        voter: usize,
    },
    /// All nodes die for good.
    Desert,
}

struct Due {
    at: u64,
    order: u64,
    event: Event,
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        let mut random = Random::new(scenario.seed.wrapping_mul(0x9E37_79B9).wrapping_add(1));
        let nodes = (0..scenario.nodes).map(|at| Node::new(at, &scenario, &mut random)).collect();
        let voters = (0..scenario.voters).map(|_| Voter::new(&scenario, &mut random)).collect();
        let faulty = !scenario.is_measured();
        let mut world = Self {
            now: SECOND,
            desk: Desk::new(&scenario),
            scenario,
            random,
            oracle: Oracle::counting_from(if faulty { 0 } else { 5 * SECOND }),
            nodes,
            voters,
            history: Vec::new(),
            answers_leave_leader_dead: false,
            batches: 0,
            depth: 0,
            leads_since: 0,
            patient: BTreeMap::new(),
            traced: std::env::var_os("TIDEGATE_SIM_TRACE").is_some(),
            queue: BinaryHeap::new(),
            order: 0,
        };
        world.elect();
        world.after(150 * MILLI, Event::Watch);
        world.after(0, Event::Publish);
        for node in 0..world.nodes.len() {
            world.after(100 * MILLI, Event::Arrive { node });
        }
        world.after(SECOND, Event::Slew);
        if world.scenario.limits.iter().any(|limit| Known::of(limit).is_dated()) {
            (0..world.voters.len()).for_each(|voter| world.set_clock_right(voter));
            world.after(50 * MILLI, Event::TurnCalendar);
        }
        world.await_patience();
        if world.scenario.demand_ends < u64::MAX {
            world.at(world.scenario.demand_ends, Event::Desert);
        }
        if let Some(mean) = world.scenario.faults {
            world.after(mean, Event::Fault);
        }
        world
    }

    /// Once everything has healed, somebody wants much of each limit that is reserved.
    fn await_patience(&mut self) {
        let since = self.scenario.serves_again_at() + SECOND;
        for limit in 0..self.scenario.limits.len() {
            if Known::of(&self.scenario.limits[limit]).promised && self.scenario.demand_ends == u64::MAX {
                let node = self.random.index(self.nodes.len());
                self.patient.insert(limit, since);
                self.at(since, Event::Patient { node, limit, since });
            }
        }
    }

    pub(super) fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Due { at, order: self.order, event }));
    }

    /// Lets the world go on until `end`. Also called in the middle of a step, for a thread that was set aside.
    pub(super) fn run_until(&mut self, end: u64) {
        while self.queue.peek().is_some_and(|due| due.0.at <= end) {
            let Reverse(due) = self.queue.pop().expect("peeked");
            self.now = self.now.max(due.at);
            self.happen(due.event);
        }
        self.now = self.now.max(end);
    }

    /// Some time passes for one thread of a node, while everything else goes on.
    pub(super) fn dawdle(&mut self, node: usize) {
        if self.depth >= 3 || !self.random.chance(self.scenario.slow_threads) {
            return;
        }
        self.depth += 1;
        let charged = self.scenario.lease + self.scenario.limits[0].window;
        let longest = self.random.one_of(&[MILLI, MILLI, MILLI, 30 * MILLI, 30 * MILLI, 500 * MILLI, 2 * charged]);
        let mut until = self.now + self.random.below(longest);
        if self.random.chance(0.3) {
            let state = &mut self.nodes[node]; // Not this thread alone: SIGSTOP.
            state.frozen_until = state.frozen_until.max(until);
        }
        loop {
            self.run_until(until);
            until = self.nodes[node].frozen_until;
            if until <= self.now {
                break;
            }
        }
        self.depth -= 1;
    }

    /// Tells what happens, when a single run is looked at: `TIDEGATE_SIM_TRACE=1`.
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>12.6} {}", self.now as f64 / 1e9, what());
        }
    }

    /// A message on its way; loses, repeats and delays it.
    pub(super) fn transmit(&mut self, make: impl Fn() -> Event) {
        let network = self.scenario.network;
        if self.random.chance(network.loss) {
            return;
        }
        let mut wait = self.random.between(network.quick, network.slow.max(network.quick));
        if self.random.chance(network.late) {
            wait += self.random.below(3 * SECOND);
        }
        self.after(wait, make());
        if self.random.chance(network.twice) {
            let longest = self.random.one_of(&[5 * MILLI, SECOND, 20 * SECOND]);
            wait += self.random.below(longest);
            self.after(wait, make());
        }
    }

    fn happen(&mut self, event: Event) {
        match self.asleep(&event) {
            Asleep::No => self.act(event),
            Asleep::Until(until) => self.at(until, event),
            Asleep::Busy(node) => self.nodes[node].parked.push(event),
        }
    }

    /// A node's task has finished its step.
    pub(super) fn rests(&mut self, node: usize) {
        self.nodes[node].busy = false;
        for event in std::mem::take(&mut self.nodes[node].parked) {
            self.after(0, event);
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Arrive { node } => self.arrive(node),
            Event::Burst { node, limit, left, every } => self.burst(node, limit, left, every),
            Event::Tick { node, life } if self.lives(node, life) => self.tick(node),
            Event::Pressed { node, life } if self.lives(node, life) => self.pressed(node),
            Event::Look { node, life, key } if self.lives(node, life) => self.look(node, key),
            Event::Deadline { node, life, seq } if self.lives(node, life) => self.unanswered(node, seq),
            Event::Patience { node, life, request } if self.lives(node, life) => self.lose_patience(node, request),
            Event::Wake { node, life, request, known, cost } if self.lives(node, life) => {
                self.wake(node, request, known, cost);
            }
            Event::TryAgain { node, life, request } if self.lives(node, life) => self.attempt(node, request),
            Event::GiveBack { node, life, held } if self.lives(node, life) => self.give_back(node, held),
            Event::Extend { node, life, call } if self.lives(node, life) => self.extend(node, call),
            Event::End { node, life, call } if self.lives(node, life) => self.end(node, call),
            Event::Lapse { node, life, call } if self.lives(node, life) => self.lapse(node, call),
            Event::Patient { node, limit, since } => self.patient(node, limit, since),
            Event::TurnCalendar => self.turn_calendar(),
            Event::OpenWindows { voter, life, asked, wrong } if self.voters[voter].life == life => {
                self.open_windows(voter, asked, wrong);
            }
            Event::SetClockRight { voter } => self.set_clock_right(voter),
            Event::Reply { node, reply } => self.reply(node, &reply),
            Event::Recall { node, recall } => self.recall(node, recall),
            Event::Learn { node, limit, known } => self.learn(node, limit, known),
            Event::Batch { voter, batch } => self.batch(voter, batch),
            Event::Append { voter, from, term, before, entries, commit } => {
                self.append(voter, from, term, before, entries, commit);
            }
            Event::Ack { voter, from, term, matched } => self.acknowledged(voter, from, term, matched),
            Event::Propose { voter, life } if self.voters[voter].life == life => self.propose_batches(voter),
            Event::Beat { voter, life, term } if self.voters[voter].life == life => self.beat(voter, term),
            Event::Watch => self.watch(),
            Event::Fault => self.fault(),
            Event::Hush { node, until, cut } => self.hush(node, until, cut),
            Event::Shorten => self.shorten(true),
            Event::Rejoin { node } => self.rejoin(node),
            Event::Restart { node } => self.restart(node),
            Event::Heal { node } => self.nodes[node].cut = false,
            Event::RestartVoter { voter } => self.restart_voter(voter),
            Event::HealVoter { voter } => self.voters[voter].cut = false,
            Event::Slew => self.slew(),
            Event::Publish => self.publish(),
            Event::Errand { node, origin, key, cost } => self.errand(node, origin, key, cost),
            Event::Fetched { node, life, request, taken } if self.lives(node, life) => {
                self.brought(node, request, taken)
            }
            Event::Shun { node, life, owner, request } if self.lives(node, life) => self.shun(node, owner, request),
            Event::Crash { node } => self.crash(node),
            Event::Suspend { node, until } => self.suspend(node, until),
            Event::Lead { voter } => self.elect_one(voter),
            Event::Apply { voter } => self.apply(voter),
            Event::Desert => self.nodes.iter_mut().for_each(Node::die),
            Event::Tick { .. }
            | Event::Pressed { .. }
            | Event::Look { .. }
            | Event::Deadline { .. }
            | Event::Patience { .. }
            | Event::Wake { .. }
            | Event::TryAgain { .. }
            | Event::GiveBack { .. }
            | Event::Extend { .. }
            | Event::End { .. }
            | Event::Lapse { .. }
            | Event::OpenWindows { .. }
            | Event::Fetched { .. }
            | Event::Shun { .. }
            | Event::Propose { .. }
            | Event::Beat { .. } => {} // Of a process that is dead.
        }
    }

    fn lives(&self, node: usize, life: u32) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    /// Is whoever this is for stopped, or his one task in the middle of a step?
    fn asleep(&self, event: &Event) -> Asleep {
        let (until, busy) = match event {
            Event::Arrive { node }
            | Event::Burst { node, .. }
            | Event::Patience { node, .. }
            | Event::Wake { node, .. }
            | Event::TryAgain { node, .. }
            | Event::GiveBack { node, .. }
            | Event::Extend { node, .. }
            | Event::End { node, .. }
            | Event::Lapse { node, .. }
            | Event::Errand { node, .. }
            | Event::Fetched { node, .. }
            | Event::Shun { node, .. }
            | Event::Learn { node, .. } => (self.nodes[*node].frozen_until, None),
            Event::Tick { node, .. }
            | Event::Pressed { node, .. }
            | Event::Look { node, .. }
            | Event::Deadline { node, .. }
            | Event::Reply { node, .. }
            | Event::Recall { node, .. } => {
                let state = &self.nodes[*node];
                (state.frozen_until, state.busy.then_some(*node))
            }
            Event::Batch { voter, .. }
            | Event::Append { voter, .. }
            | Event::Ack { voter, .. }
            | Event::Propose { voter, .. }
            | Event::OpenWindows { voter, .. }
            | Event::Beat { voter, .. } => (self.voters[*voter].frozen_until, None),
            _ => (0, None),
        };
        match busy {
            _ if until > self.now => Asleep::Until(until),
            Some(node) => Asleep::Busy(node),
            None => Asleep::No,
        }
    }

    /// The mean of the first limit's windows that lie in (from, to]. A limit that is used up at once is used up in bursts a
    /// little more than a window apart: what a fixed stretch of time holds depends on how many of them it happens to meet.
    pub(super) fn utilisation(&self, from: u64, to: u64) -> f64 {
        let known = self.desk.in_force(0);
        let long = known.window.0.max(SECOND);
        let begins: Vec<u64> = (from..=to.saturating_sub(long)).step_by((long / 64) as usize).collect();
        let shares = begins.iter().map(|begin| self.used(0, *begin, begin + long));
        shares.map(|(admitted, allowed)| admitted as f64 / allowed).sum::<f64>() / begins.len().max(1) as f64
    }

    /// Permits of a limit admitted in (from, to], and what the limit would allow in that time.
    pub(super) fn used(&self, limit: usize, from: u64, to: u64) -> (u64, f64) {
        let known = self.desk.in_force(limit);
        let admitted = self.oracle.admitted(known.key, from, to);
        (admitted, known.max.0 as f64 * (to - from) as f64 / known.window.0 as f64)
    }
}

/// Ids are never reused: a node that is set up anew after its removal has another.
pub(super) fn node_id(node: usize, joined: u64) -> NodeId {
    NodeId(joined * 1_000 + node as u64)
}

pub(super) fn node_of(id: NodeId) -> usize {
    usize::try_from(id.0 % 1_000).expect("small")
}

enum Asleep {
    No,
    Until(u64),
    Busy(usize),
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}
