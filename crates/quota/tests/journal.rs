//! Journalled budgets: what a dead process may have spent is closed once, no more than that is lost, and no more than the
//! budget is ever spent. Shipped ledger, holdings and cells under arbitrary schedules of deaths, power failures, damaged
//! journals, late batches and closings that come late, in parts and twice.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::cell::Take;
use tidegate_quota::holding::{Reservation, Surroundings};
use tidegate_quota::protocol::{
    Answer, Batch, Budget, Closed, Closing, Command, Entry, Key, Kind, Note, Opening, Period, Policy, Rest, Span, Unit,
};
use tidegate_quota::{Cell, Holding, Ledger};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
/// A slice is a sixteenth of it: more than one step.
const MAX: u64 = 4_000;
const D: Nanos = Nanos::from_millis(400);
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
    Batch(usize),
    Answer(usize),
    /// A mark begins its way to the disk.
    Mark {
        node: usize,
    },
    Synced {
        node: usize,
    },
    Die {
        node: usize,
        how: Death,
    },
    /// The nth closing that was ever made reaches the log, perhaps again.
    Close(usize),
    Pass {
        millis: u64,
    },
    OpenWindow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Kill,
    PowerFailure,
    Damage,
}

fn op(deaths: &'static [Death]) -> impl Strategy<Value = Op> {
    let node = 0..NODES;
    prop_oneof![
        8 => (node.clone(), 1..40_u64).prop_map(|(node, cost)| Op::Take { node, cost }),
        2 => (node.clone(), 1..60_u64).prop_map(|(node, cost)| Op::Reserve { node, cost }),
        3 => (node.clone(), 0..4_usize, 0..60_u64).prop_map(|(node, nth, used)| Op::End { node, nth, used }),
        6 => (node.clone(), 0..200_u64, any::<bool>())
            .prop_map(|(node, waiting, recalled)| Op::Report { node, waiting, recalled }),
        7 => prop_oneof![5 => Just(0), 1 => 0..12_usize].prop_map(Op::Batch),
        7 => prop_oneof![5 => Just(0), 1 => 0..12_usize].prop_map(Op::Answer),
        6 => node.clone().prop_map(|node| Op::Mark { node }),
        6 => node.clone().prop_map(|node| Op::Synced { node }),
        1 => (node, prop::sample::select(deaths)).prop_map(|(node, how)| Op::Die { node, how }),
        2 => (0..6_usize).prop_map(Op::Close),
        3 => (0..250_u64).prop_map(|millis| Op::Pass { millis }),
        1 => Just(Op::OpenWindow),
    ]
}

/// What a journal holds of the epoch that lasts.
#[derive(Debug, Clone, Copy, Default)]
struct Entered {
    epoch: u64,
    mark: u64,
    taken: u64,
}

struct Node {
    cell: Cell,
    holding: Holding,
    incarnation: u128,
    seq: u64,
    window: u64,
    reserved: Vec<(usize, Reservation)>,
    journal: Option<Entered>,
    syncing: Option<(u64, Permits)>,
}

#[derive(Debug, Clone, Copy)]
struct Admitted {
    cost: u64,
    window: u64,
}

struct World {
    ledger: Ledger,
    now: Nanos,
    stamped: Nanos,
    nodes: Vec<Node>,
    lives: u128,
    epochs: u64,
    minute: u64,
    batches: Vec<Batch>,
    answers: Vec<(usize, u128, u64, Answer)>,
    closings: Vec<Closing>,
    admitted: Vec<Admitted>,
    /// Taken too late: told as spent, though nobody was admitted.
    burnt: u64,
}

fn kind() -> Kind {
    let (period, zone, unit) = (Period::Day, "UTC".into(), Unit::Tokens);
    Kind::Budget(Budget { period, zone, unit, carry: Permits::ZERO, alerts: vec![50] })
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::default(),
            now: Nanos::from_secs(1),
            stamped: Nanos::from_secs(1),
            nodes: Vec::new(),
            lives: 0,
            epochs: 0,
            minute: 100,
            batches: Vec::new(),
            answers: Vec::new(),
            closings: Vec::new(),
            admitted: Vec::new(),
            burnt: 0,
        };
        let policies = vec![Policy { limit: KEY.limit, max: Permits(MAX), ttl: D, kind: kind() }];
        world.apply(Command::SetPolicies { revision: Revision(1), policies });
        world.nodes = (0..NODES).map(|at| world.born(at)).collect();
        world.open();
        world
    }

    fn born(&mut self, at: usize) -> Node {
        self.lives += 1;
        self.epochs += 1;
        let (node, incarnation) = (NodeId(at as u64), Incarnation(self.lives));
        self.apply(Command::Note(Note::Begin { node, incarnation }));
        let holding = Holding::of(KEY, self.epochs, kind().nature()).with_journal();
        let (cell, incarnation) = (Cell::default(), self.lives);
        Node { cell, holding, incarnation, seq: 0, window: 0, reserved: vec![], journal: None, syncing: None }
    }

    fn open(&mut self) {
        self.minute += 1;
        let span = Span { start: Millis(self.minute * 60_000), end: Millis((self.minute + 1) * 60_000) };
        self.apply(Command::OpenWindows(vec![Opening { limit: KEY.limit, number: span.number(), span }]));
    }

    fn apply(&mut self, command: Command) -> Vec<Answer> {
        let dt = Nanos(self.now.0 - self.stamped.0);
        self.stamped = self.now;
        // As after a snapshot, each time: what is not in it would be missed here.
        let kept = self.ledger.clone();
        #[cfg(feature = "mutants")]
        let kept = kept.maimed();
        let bytes = bincode::serde::encode_to_vec(&kept, bincode::config::standard()).expect("plain data");
        let read = bincode::serde::decode_from_slice(&bytes, bincode::config::standard());
        self.ledger = read.expect("as written").0;
        assert_eq!(self.ledger, kept);
        let outcome = self.ledger.apply(&Entry { dt, command });
        outcome.replies.into_iter().flat_map(|reply| reply.items).collect()
    }

    fn step(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Pass { millis } => self.now = now.saturating_add(Nanos::from_millis(millis)),
            Op::OpenWindow => self.open(),
            Op::Take { node, cost } => {
                let node = &mut self.nodes[node];
                if let Some(grab) = node.cell.grab(Permits(cost)) {
                    let journal = node.journal.as_mut().expect("something is at hand, so there is an entry");
                    journal.taken += cost;
                    match node.cell.stamp(grab, now) {
                        Take::Taken(_) => self.admitted.push(Admitted { cost, window: node.window }),
                        _ => self.burnt += cost,
                    }
                }
            }
            Op::Reserve { node, cost } => {
                let node = &mut self.nodes[node];
                let left = node.cell.left();
                if let Some(reservation) = node.holding.reserve(&node.cell, Permits(cost), || now) {
                    node.journal.as_mut().expect("an entry").taken += cost;
                    node.reserved.push((self.admitted.len(), reservation));
                    self.admitted.push(Admitted { cost, window: node.window });
                } else {
                    self.burnt += left.0 - node.cell.left().0;
                }
            }
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
            Op::Mark { node } => {
                let node = &mut self.nodes[node];
                if let Some(mark) = node.holding.next_mark(&node.cell, Permits::ZERO) {
                    node.syncing = Some((node.holding.epoch(), mark));
                }
            }
            Op::Synced { node } => {
                let node = &mut self.nodes[node];
                if let Some((epoch, mark)) = node.syncing.take() {
                    if epoch == node.holding.epoch() {
                        let journal = node.journal.get_or_insert(Entered { epoch, ..Entered::default() });
                        journal.mark = journal.mark.max(mark.0);
                    }
                    node.holding.journalled(&node.cell, epoch, mark, now);
                }
            }
            Op::Die { node, how } => self.die(node, how),
            Op::Close(back) => {
                if let Some(closing) = self.closings.iter().rev().nth(back).cloned() {
                    self.apply(Command::Note(Note::Close(closing)));
                }
            }
        }
    }

    fn die(&mut self, at: usize, how: Death) {
        let born = self.born(at);
        let dead = std::mem::replace(&mut self.nodes[at], born);
        let leases = dead.journal.map(|Entered { epoch, mark, taken }| Closed {
            key: KEY,
            epoch,
            spent: match how {
                Death::Kill => Some(Permits(taken)),
                Death::PowerFailure => Some(Permits(mark)),
                Death::Damage => None,
            },
        });
        let rest = if how == Death::Damage { Rest::Spent } else { Rest::Unspent };
        let (node, incarnation) = (NodeId(at as u64), Incarnation(dead.incarnation));
        let part = |leases: Vec<Closed>, rest| Closing { node, incarnation, leases, rest };
        // In two parts; the second one may well come without the first.
        self.closings.push(part(leases.into_iter().collect(), None));
        self.closings.push(part(leases.into_iter().collect(), Some(rest)));
    }

    fn end(&mut self, node: usize, nth: usize, used: u64) {
        let (now, node) = (self.now, &mut self.nodes[node]);
        if nth >= node.reserved.len() {
            return;
        }
        let (at, reservation) = node.reserved.swap_remove(nth);
        let reserved = reservation.cost.0;
        let beyond = used.saturating_sub(reserved);
        if let Some(journal) = &mut node.journal {
            journal.taken += beyond;
        }
        let settled = node.holding.settle(&node.cell, reservation, Permits(used), || now);
        if settled.refunded != Permits::ZERO {
            node.journal.as_mut().expect("of this epoch").taken -= settled.refunded.0;
        }
        self.admitted[at].cost = used.min(reserved);
        self.admitted.push(Admitted { cost: beyond - settled.owed.0.min(beyond), window: node.window });
    }

    fn report(&mut self, at: usize, waiting: u64, recalled: bool) {
        let (now, window) = (self.now, kind().span(Permits(MAX)));
        let node = &mut self.nodes[at];
        node.seq += 1;
        let waiting = Permits(waiting);
        let (missed, queued, max) = (waiting, waiting, Permits(MAX));
        let around =
            Surroundings { now, window, max, missed, waiting, queued, recalled, reserve: false, leaving: false };
        let item = node.holding.report(&node.cell, node.seq, around);
        let incarnation = Incarnation(node.incarnation);
        self.batches.push(Batch { node: NodeId(at as u64), incarnation, seq: node.seq, items: vec![item] });
    }

    fn answer(&mut self, back: usize) {
        let Some((at, incarnation, seq, answer)) = self.answers.iter().rev().nth(back).copied() else { return };
        let (now, window) = (self.now, kind().span(Permits(MAX)));
        let node = &mut self.nodes[at];
        if node.incarnation != incarnation {
            return;
        }
        if let Some((window, _)) = node.holding.window_of(seq, &answer) {
            node.window = window;
        }
        let before = node.holding.epoch();
        let epochs = &mut self.epochs;
        node.holding.answer(&node.cell, seq, &answer, window, now, || {
            *epochs += 1;
            *epochs
        });
        if node.holding.epoch() != before {
            node.journal = None; // The entry is free for the next epoch.
        }
    }

    fn spent(&self) -> BTreeMap<u64, u64> {
        let mut windows = BTreeMap::new();
        self.admitted.iter().for_each(|a| *windows.entry(a.window).or_default() += a.cost);
        windows
    }

    fn judge(&self) -> Result<(), String> {
        self.spent().iter().try_for_each(|(window, sum)| match sum {
            0..=MAX => Ok(()),
            _ => Err(format!("{sum} of {MAX} in window {window}")),
        })
    }

    /// All die, all is closed, and everybody is heard of.
    fn bury(&mut self) {
        for node in 0..NODES {
            self.die(node, Death::Kill);
        }
        for closing in std::mem::take(&mut self.closings) {
            self.apply(Command::Note(Note::Close(closing)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_budget_is_exceeded_however_processes_die(
        ops in prop::collection::vec(op(&[Death::Kill, Death::PowerFailure, Death::Damage]), 0..220)
    ) {
        let mut world = World::new();
        for op in ops {
            world.step(op);
        }
        world.bury();
        // Whoever comes then gets what is left, and no more.
        for _ in 0..80 {
            for op in [
                Op::Report { node: 0, waiting: 50, recalled: false },
                Op::Batch(0),
                Op::Answer(0),
                Op::Mark { node: 0 },
                Op::Synced { node: 0 },
                Op::Take { node: 0, cost: 50 },
            ] {
                world.step(op);
            }
        }
        world.judge().map_err(TestCaseError::fail)?;
    }

    #[test]
    fn processes_that_are_killed_lose_nothing_but_what_was_burnt(
        ops in prop::collection::vec(op(&[Death::Kill]), 0..220)
    ) {
        let mut world = World::new();
        for op in ops {
            world.step(match op {
                // Debt is nobody's loss, but it is not admitted either.
                Op::End { node, nth, .. } => Op::End { node, nth, used: 0 },
                // A batch from before a window that is heard in it makes a lease there, which then is told the spend from before.
                Op::OpenWindow => Op::Pass { millis: 1 },
                // Nor is a report heard that was cut before its lease lapsed and came after: what it held then stays spent.
                Op::Pass { millis } => Op::Pass { millis: millis % 3 },
                op => op,
            });
        }
        world.bury();
        let admitted: u64 = world.spent().values().sum();
        let charged = world.ledger.charged(KEY).0;
        prop_assert!(charged >= admitted, "{charged} of {admitted}");
        prop_assert!(charged <= admitted + world.burnt, "{charged} charged, {admitted} admitted, {} burnt", world.burnt);
    }
}

#[test]
fn a_report_that_comes_between_the_parts_of_a_closing_opens_no_lease() {
    let mut world = World::new();
    let node = 2;
    for op in [
        Op::Report { node, waiting: 4, recalled: false },
        Op::Batch(0),
        Op::Answer(0),
        Op::Mark { node },
        Op::Synced { node },
        Op::Take { node, cost: 1 },
        Op::Die { node, how: Death::Kill },
        Op::Close(1),
        Op::Batch(0),
    ] {
        world.step(op);
    }
    assert_eq!(world.spent().values().sum::<u64>(), 1);
    world.bury();
    assert_eq!(world.ledger.charged(KEY), Permits(1), "named once, counted once");
}

/// A judge that never says no proves nothing: permits are taken between deaths.
#[test]
fn the_schedules_use_the_budget() {
    let mut world = World::new();
    for round in 0..200 {
        for node in 0..NODES {
            for op in [
                Op::Report { node, waiting: 40, recalled: false },
                Op::Batch(0),
                Op::Answer(0),
                Op::Mark { node },
                Op::Synced { node },
                Op::Take { node, cost: 20 },
                Op::Reserve { node, cost: 15 },
                Op::End { node, nth: 0, used: 3 },
            ] {
                world.step(op);
            }
            if round % 5 == 0 {
                world.step(Op::Die { node, how: Death::Kill });
                world.step(Op::Close(0));
            }
        }
        world.step(Op::Pass { millis: 30 });
    }
    let spent: u64 = world.spent().values().sum();
    assert!(spent > MAX * 9 / 10, "{spent}");
    world.judge().expect("exact");
}

fn begun() -> World {
    let mut world = World::new();
    for op in [
        Op::Report { node: 0, waiting: 100, recalled: false },
        Op::Batch(0),
        Op::Answer(0),
        Op::Mark { node: 0 },
        Op::Synced { node: 0 },
        Op::Take { node: 0, cost: 10 },
    ] {
        world.step(op);
    }
    assert_eq!(world.ledger.charged(KEY).0, 250, "a slice is granted");
    world
}

fn close(world: &mut World) {
    world.step(Op::Close(1));
    world.step(Op::Close(0));
}

#[test]
fn what_a_killed_process_did_not_spend_is_free_again_once_its_journal_is_closed() {
    let mut world = begun();
    world.step(Op::Die { node: 0, how: Death::Kill });
    close(&mut world);
    assert_eq!(world.ledger.charged(KEY), Permits(10));
    close(&mut world);
    assert_eq!(world.ledger.charged(KEY), Permits(10), "once");
}

#[test]
fn a_lease_that_has_lapsed_before_its_journal_is_closed_comes_back_as_well() {
    let mut world = begun();
    world.step(Op::Die { node: 0, how: Death::Kill });
    world.step(Op::Pass { millis: 100_000 });
    world.apply(Command::Tick);
    assert_eq!(world.ledger.charged(KEY), Permits(250), "it may have been spent");
    close(&mut world);
    assert_eq!(world.ledger.charged(KEY), Permits(10));
}

#[test]
fn after_a_power_failure_all_that_was_ever_at_hand_is_spent() {
    let mut world = begun();
    let mark = world.nodes[0].journal.expect("an entry").mark;
    assert!((10..250).contains(&mark), "a step, and not the slice: {mark}");
    world.step(Op::Die { node: 0, how: Death::PowerFailure });
    close(&mut world);
    assert_eq!(world.ledger.charged(KEY), Permits(mark));
}

#[test]
fn of_a_damaged_journal_all_leases_are_spent() {
    let mut world = begun();
    world.step(Op::Die { node: 0, how: Death::Damage });
    close(&mut world);
    assert_eq!(world.ledger.charged(KEY), Permits(250));
}

#[test]
fn a_process_that_was_cut_off_for_longer_than_its_lease_loses_nothing() {
    let mut world = begun();
    world.step(Op::Reserve { node: 0, cost: 7 });
    world.step(Op::Pass { millis: 10_000 });
    world.apply(Command::Tick);
    assert_eq!(world.ledger.charged(KEY), Permits(250));
    for op in [Op::Report { node: 0, waiting: 0, recalled: false }, Op::Batch(0)] {
        world.step(op);
    }
    assert_eq!(world.ledger.charged(KEY), Permits(17), "what was taken, and what is reserved still");
}

#[test]
fn nothing_is_accepted_of_a_process_that_was_closed() {
    let mut world = begun();
    world.step(Op::Report { node: 0, waiting: 0, recalled: true });
    let late = world.batches.len();
    world.step(Op::Die { node: 0, how: Death::Kill });
    close(&mut world);
    let mut batch = world.batches[late - 1].clone();
    batch.items[0].epoch += 100;
    (batch.items[0].spent, batch.items[0].have) = (Permits::ZERO, Permits::ZERO);
    batch.items[0].waiting = Permits(5);
    world.apply(Command::Batches(vec![batch]));
    assert_eq!(world.ledger.charged(KEY), Permits(10), "a grant to the dead would be lost");
}

#[test]
fn what_was_granted_and_never_at_hand_is_free_again() {
    let mut world = World::new();
    for op in [Op::Report { node: 0, waiting: 100, recalled: false }, Op::Batch(0), Op::Answer(0)] {
        world.step(op);
    }
    assert_eq!(world.ledger.charged(KEY), Permits(250));
    world.step(Op::Die { node: 0, how: Death::PowerFailure });
    close(&mut world);
    assert_eq!(world.ledger.charged(KEY), Permits::ZERO);
}

#[test]
fn a_process_that_does_not_journal_cannot_be_closed() {
    let mut world = begun();
    let incarnation = Incarnation(99);
    let mut batch = world.batches[0].clone();
    batch.incarnation = incarnation;
    world.apply(Command::Batches(vec![batch]));
    let charged = world.ledger.charged(KEY);
    assert!(charged > Permits(250));
    let closing = Closing { node: NodeId(0), incarnation, leases: vec![], rest: Some(Rest::Unspent) };
    world.apply(Command::Note(Note::Close(closing)));
    assert_eq!(world.ledger.charged(KEY), charged);
    world.step(Op::Pass { millis: 10_000 });
    world.apply(Command::Tick);
    assert_eq!(world.ledger.charged(KEY), charged, "a lost lease is spent, as ever");
}

#[test]
fn alerts_wait_until_they_were_told_once_somebody_keeps_them() {
    let mut world = World::new();
    world.apply(Command::Note(Note::KeepAlerts));
    for _ in 0..20 {
        for op in [
            Op::Report { node: 0, waiting: 125, recalled: false },
            Op::Batch(0),
            Op::Answer(0),
            Op::Mark { node: 0 },
            Op::Synced { node: 0 },
            Op::Take { node: 0, cost: 125 },
        ] {
            world.step(op);
        }
    }
    let untold: Vec<_> = world.ledger.untold().copied().collect();
    assert_eq!(untold.iter().map(|untold| untold.alert.percent).collect::<Vec<_>>(), [50]);
    world.apply(Command::Note(Note::Told(vec![untold[0].number + 1])));
    assert_eq!(world.ledger.untold().count(), 1, "another one");
    world.apply(Command::Note(Note::Told(vec![untold[0].number])));
    assert_eq!(world.ledger.untold().count(), 0);
}
