//! The shipped ledger, holdings and cells of three nodes under arbitrary schedules: batches and answers that are lost, late,
//! repeated and in any order; nodes that die and come again; reservations settled for anything. One omniscient judge for each
//! kind of limit.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::cell::{Take, Ticket};
use tidegate_quota::holding::{Reservation, Surroundings};
use tidegate_quota::protocol::{
    Answer, Batch, Command, Entry, Key, Kind, Opening, Period, Policy, Rate, Span, log_time,
};
use tidegate_quota::{Cell, Holding, Ledger};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const MAX: u64 = 20;
const D: Nanos = Nanos::from_millis(400);
const WINDOW: Nanos = Nanos::from_millis(300);
const RATE: Rate = Rate { permits: 40, per: Nanos::SECOND };
const NODES: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Op {
    Take {
        node: usize,
        cost: u64,
    },
    Reserve {
        node: usize,
        cost: u64,
    },
    /// Ends a place, or settles a reservation.
    End {
        node: usize,
        nth: usize,
        used: u64,
    },
    Report {
        node: usize,
        waiting: u64,
        recalled: bool,
    },
    /// The nth batch that was ever sent reaches the ledger, perhaps again.
    Batch(usize),
    /// The nth answer reaches its node, perhaps again.
    Answer(usize),
    Crash {
        node: usize,
    },
    Pass {
        millis: u64,
    },
    OpenWindow,
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NODES;
    prop_oneof![
        6 => (node.clone(), 1..6_u64).prop_map(|(node, cost)| Op::Take { node, cost }),
        2 => (node.clone(), 1..12_u64).prop_map(|(node, cost)| Op::Reserve { node, cost }),
        3 => (node.clone(), 0..4_usize, 0..16_u64).prop_map(|(node, nth, used)| Op::End { node, nth, used }),
        6 => (node.clone(), 0..12_u64, any::<bool>())
            .prop_map(|(node, waiting, recalled)| Op::Report { node, waiting, recalled }),
        // The newest mostly, and sometimes any.
        7 => prop_oneof![4 => Just(0), 1 => 0..12_usize].prop_map(Op::Batch),
        7 => prop_oneof![4 => Just(0), 1 => 0..12_usize].prop_map(Op::Answer),
        1 => node.prop_map(|node| Op::Crash { node }),
        4 => (0..150_u64).prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::OpenWindow),
    ]
}

struct Node {
    cell: Cell,
    holding: Holding,
    incarnation: u128,
    seq: u64,
    window: u64,
    places: Vec<Ticket>,
    /// Of a smooth limit: admissions that may be undone.
    taken: Vec<(usize, Ticket)>,
    reserved: Vec<(usize, Reservation)>,
}

/// What was admitted: when, how much, and in which calendar window.
#[derive(Debug, Clone, Copy)]
struct Admitted {
    at: Nanos,
    cost: u64,
    window: u64,
}

struct World {
    kind: Kind,
    ledger: Ledger,
    now: Nanos,
    stamped: Nanos,
    nodes: Vec<Node>,
    lives: u128,
    epochs: u64,
    minute: u64,
    batches: Vec<Batch>,
    answers: Vec<(usize, u128, u64, Answer)>,
    admitted: Vec<Admitted>,
}

impl World {
    fn new(kind: &Kind) -> Self {
        let mut world = Self {
            kind: kind.clone(),
            ledger: Ledger::default(),
            now: Nanos::from_secs(1),
            stamped: Nanos::from_secs(1),
            nodes: Vec::new(),
            lives: 0,
            epochs: 0,
            minute: 100,
            batches: Vec::new(),
            answers: Vec::new(),
            admitted: Vec::new(),
        };
        let policies = vec![Policy { limit: KEY.limit, max: Permits(MAX), ttl: D, kind: kind.clone() }];
        world.apply(Command::SetPolicies { revision: Revision(1), policies });
        world.nodes = (0..NODES).map(|_| world.born()).collect();
        world.open();
        world
    }

    fn born(&mut self) -> Node {
        self.lives += 1;
        self.epochs += 1;
        let (cell, holding) = (Cell::default(), Holding::of(KEY, self.epochs, self.kind.nature()));
        Node {
            cell,
            holding,
            incarnation: self.lives,
            seq: 0,
            window: 0,
            places: vec![],
            taken: vec![],
            reserved: vec![],
        }
    }

    fn open(&mut self) {
        self.minute += 1;
        let span = Span { start: Millis(self.minute * 60_000), end: Millis((self.minute + 1) * 60_000) };
        self.apply(Command::OpenWindows(vec![Opening { limit: KEY.limit, number: span.number(), span }]));
    }

    fn apply(&mut self, command: Command) -> Vec<Answer> {
        // The leader's clock, as fast as it may be.
        let dt = log_time(Nanos((self.now.0 - self.stamped.0) / 1000 * 1001));
        self.stamped = self.now;
        let outcome = self.ledger.apply(&Entry { dt, command });
        outcome.replies.into_iter().flat_map(|reply| reply.items).collect()
    }

    fn step(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Pass { millis } => self.now = now.saturating_add(Nanos::from_millis(millis)),
            Op::OpenWindow => self.open(),
            Op::Crash { node } => self.nodes[node] = self.born(),
            Op::Take { node, cost } => {
                let (smooth, node) = (self.is_smooth(), &mut self.nodes[node]);
                if smooth {
                    // The holder's clock, as fast as it may be.
                    node.holding.draw(&node.cell, Permits(cost), now, Nanos(now.0 / 1000 * 1001));
                }
                if let Some(grab) = node.cell.grab(Permits(cost)) {
                    match (node.cell.stamp(grab, now), &self.kind) {
                        (Take::Taken(ticket), Kind::Smooth { .. }) => {
                            node.taken.push((self.admitted.len(), ticket));
                            self.admitted.push(Admitted { at: now, cost, window: node.window });
                        }
                        (Take::Taken(ticket), Kind::Concurrency) => node.places.push(ticket),
                        (Take::Taken(_), _) => {
                            self.admitted.push(Admitted { at: now, cost, window: node.window });
                        }
                        (_, Kind::Concurrency) => _ = node.cell.ungrab(grab),
                        _ => {}
                    }
                }
            }
            Op::Reserve { node, cost } if self.kind != Kind::Concurrency => {
                let (smooth, node) = (self.is_smooth(), &mut self.nodes[node]);
                if smooth {
                    node.holding.draw(&node.cell, Permits(cost), now, Nanos(now.0 / 1000 * 1001));
                }
                if let Some(reservation) = node.holding.reserve(&node.cell, Permits(cost), || now) {
                    node.reserved.push((self.admitted.len(), reservation));
                    self.admitted.push(Admitted { at: now, cost, window: node.window });
                }
            }
            Op::Reserve { .. } => {}
            Op::End { node, nth, used } => self.end(node, nth, used),
            Op::Report { node, waiting, recalled } => self.report(node, waiting, recalled),
            Op::Batch(back) => {
                if let Some(batch) = self.batches.iter().rev().nth(back).cloned() {
                    let (node, incarnation, seq) = (batch.node.0 as usize, batch.incarnation.0, batch.seq);
                    let answers = self.apply(Command::Batches(vec![batch]));
                    self.answers.extend(answers.into_iter().map(|answer| (node, incarnation, seq, answer)));
                }
            }
            Op::Answer(back) => self.answer(back),
        }
    }

    fn end(&mut self, node: usize, nth: usize, used: u64) {
        let (now, smooth, node) = (self.now, self.is_smooth(), &mut self.nodes[node]);
        if smooth {
            if nth < node.reserved.len() {
                // All or nothing of it.
                let (at, reservation) = node.reserved.swap_remove(nth);
                let used = if used.is_multiple_of(2) { Permits::ZERO } else { reservation.cost };
                let refunded = node.holding.settle(&node.cell, reservation, used, || now).refunded;
                self.admitted[at].cost -= refunded.0;
            } else if nth < node.taken.len() {
                let (at, ticket) = node.taken.swap_remove(nth);
                if node.cell.put_back(ticket) {
                    self.admitted[at].cost = 0;
                }
            }
        } else if self.kind == Kind::Concurrency {
            if nth < node.places.len() {
                node.cell.put_back(node.places.swap_remove(nth));
            }
        } else if nth < node.reserved.len() {
            let (at, reservation) = node.reserved.swap_remove(nth);
            let reserved = reservation.cost.0;
            let settled = node.holding.settle(&node.cell, reservation, Permits(used), || now);
            self.admitted[at].cost = used.min(reserved);
            let beyond = used.saturating_sub(reserved) - settled.owed.0.min(used.saturating_sub(reserved));
            self.admitted.push(Admitted { at: now, cost: beyond, window: node.window });
        }
    }

    fn report(&mut self, at: usize, waiting: u64, recalled: bool) {
        let (now, span) = (self.now, self.kind.span(Permits(MAX)));
        let node = &mut self.nodes[at];
        node.seq += 1;
        let waiting = Permits(waiting);
        let (missed, queued, max) = (waiting, waiting, Permits(MAX));
        let around =
            Surroundings { now, window: span, max, missed, waiting, queued, recalled, reserve: false, leaving: false };
        let item = node.holding.report(&node.cell, node.seq, around);
        let incarnation = Incarnation(node.incarnation);
        self.batches.push(Batch { node: NodeId(at as u64), incarnation, seq: node.seq, items: vec![item] });
    }

    fn answer(&mut self, back: usize) {
        let Some((at, incarnation, seq, answer)) = self.answers.iter().rev().nth(back).copied() else { return };
        let (now, span) = (self.now, self.kind.span(Permits(MAX)));
        let node = &mut self.nodes[at];
        if node.incarnation != incarnation {
            return;
        }
        if let Some((window, _)) = node.holding.window_of(seq, &answer) {
            node.window = window;
        }
        let epochs = &mut self.epochs;
        node.holding.answer(&node.cell, seq, &answer, span, now, || {
            *epochs += 1;
            *epochs
        });
    }

    fn is_smooth(&self) -> bool {
        matches!(self.kind, Kind::Smooth { .. })
    }

    /// `Err`: more was admitted than the limit says.
    fn judge(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Sliding { window } => {
                for last in &self.admitted {
                    let inside = |a: &&Admitted| a.at <= last.at && last.at.0 - a.at.0 < window.0;
                    let sum: u64 = self.admitted.iter().filter(inside).map(|a| a.cost).sum();
                    within(sum, "in the window", last.at)?;
                }
            }
            Kind::Bucket { rate } | Kind::Smooth { rate } => {
                let mut of_time: Vec<_> = self.admitted.iter().map(|a| (a.at, a.cost)).collect();
                of_time.sort_unstable();
                let (mut drawn, mut before) = (0, Nanos::ZERO);
                for (at, cost) in of_time {
                    let came = u128::from(at.0 - before.0) * u128::from(rate.permits);
                    let per = u128::from(rate.per.0);
                    drawn = u128::saturating_sub(drawn, came) + u128::from(cost) * per;
                    before = at;
                    within(u64::try_from(drawn.div_ceil(per)).expect("small"), "of the bucket", at)?;
                }
            }
            Kind::Concurrency => {
                let live = |node: &Node| {
                    let lives = node.places.iter().filter(|ticket| node.cell.is_of(**ticket));
                    if self.now < node.cell.expiry() { lives.map(|ticket| ticket.cost.0).sum() } else { 0 }
                };
                within(self.nodes.iter().map(live).sum(), "at a time", self.now)?;
            }
            Kind::Calendar { .. } | Kind::Budget(_) => {
                let mut windows: BTreeMap<u64, u64> = BTreeMap::new();
                self.admitted.iter().for_each(|a| *windows.entry(a.window).or_default() += a.cost);
                windows.values().try_for_each(|sum| within(*sum, "in a calendar window", self.now))?;
            }
        }
        Ok(())
    }
}

fn within(sum: u64, what: &str, at: Nanos) -> Result<(), String> {
    if sum <= MAX { Ok(()) } else { Err(format!("{sum} of {MAX} {what} at {at:?}")) }
}

fn holds(kind: &Kind, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut world = World::new(kind);
    for (nth, op) in ops.iter().enumerate() {
        world.step(*op);
        if *kind == Kind::Concurrency {
            world.judge().map_err(|why| TestCaseError::fail(format!("{why}, after step {nth}")))?;
        }
    }
    world.judge().map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_window_is_exceeded(ops in prop::collection::vec(op(), 0..160)) {
        holds(&Kind::Sliding { window: WINDOW }, &ops)?;
    }

    #[test]
    fn no_bucket_gives_more_than_it_has(ops in prop::collection::vec(op(), 0..160)) {
        holds(&Kind::Bucket { rate: RATE }, &ops)?;
    }

    #[test]
    fn no_smooth_limit_gives_more_than_it_has(ops in prop::collection::vec(op(), 0..160)) {
        holds(&Kind::Smooth { rate: RATE }, &ops)?;
    }

    #[test]
    fn no_more_places_are_in_use_on_live_leases_than_there_are(ops in prop::collection::vec(op(), 0..160)) {
        holds(&Kind::Concurrency, &ops)?;
    }

    #[test]
    fn no_calendar_window_is_exceeded_whenever_it_is_spent(ops in prop::collection::vec(op(), 0..160)) {
        holds(&Kind::Calendar { period: Period::Minute, zone: "UTC".into() }, &ops)?;
    }
}

/// A judge that never says no proves nothing: in these schedules permits are taken, reserved, settled, and run out.
#[test]
fn the_schedules_use_the_limits() {
    for kind in [
        Kind::Sliding { window: WINDOW },
        Kind::Bucket { rate: RATE },
        Kind::Smooth { rate: RATE },
        Kind::Concurrency,
        Kind::Calendar { period: Period::Minute, zone: "UTC".into() },
    ] {
        let mut world = World::new(&kind);
        for round in 0..40 {
            for node in 0..NODES {
                world.step(Op::Report { node, waiting: 7, recalled: round % 5 == 4 });
                world.step(Op::Batch(0));
                world.step(Op::Answer(0));
                for _ in 0..3 {
                    world.step(Op::Take { node, cost: 2 });
                }
                world.step(Op::Reserve { node, cost: 3 });
                world.step(Op::End { node, nth: 0, used: 1 });
            }
            world.step(Op::Pass { millis: 40 });
        }
        let most: u64 = world.admitted.iter().map(|a| a.cost).sum();
        let placed: usize = world.nodes.iter().map(|node| node.places.len()).sum();
        assert!(most >= MAX * 9 / 10 || placed >= 3, "{kind:?}: {most} admitted, {placed} in use");
        world.judge().expect("exact");
    }
}
