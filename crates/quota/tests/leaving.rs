//! Keys that make room for others: what is handed back, in what order they go, and what they find when they come back.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::cell::Take;
use tidegate_quota::holding::{Leaves, News, Surroundings};
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key, Kind, LEASE_TTL, Policy, Rate};
use tidegate_quota::{Cell, Holding, Ledger};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(1) };
const W: Nanos = Nanos::from_secs(10);
const MAX: Permits = Permits(100);

struct Node {
    id: NodeId,
    cell: Cell,
    holding: Holding,
    seq: u64,
    epoch: u64,
    now: Nanos,
}

fn ledger(kind: Kind) -> Ledger {
    let mut ledger = Ledger::default();
    let policies = vec![Policy { limit: KEY.limit, max: MAX, ttl: LEASE_TTL, kind }];
    ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
    ledger
}

impl Node {
    fn new(id: u64, kind: &Kind) -> Self {
        let holding = Holding::of(KEY, 1, kind.nature());
        Self { id: NodeId(id), cell: Cell::default(), holding, seq: 0, epoch: 1, now: Nanos::from_secs(1) }
    }

    /// A report of a node that missed so much since the last one, `millis` after it, and its answer.
    fn tells(&mut self, ledger: &mut Ledger, millis: u64, missed: u64, leaving: bool, reserve: bool) -> Item {
        (self.seq, self.now) = (self.seq + 1, self.now.saturating_add(Nanos::from_millis(millis)));
        let waiting = Permits(missed.min(1));
        let around = Surroundings {
            now: self.now,
            window: W,
            max: MAX,
            missed: Permits(missed),
            waiting,
            queued: Permits::ZERO,
            recalled: false,
            reserve,
            leaving,
        };
        let item = self.holding.report(&self.cell, self.seq, around);
        let batch =
            Batch { node: self.id, incarnation: Incarnation(self.id.0.into()), seq: self.seq, items: vec![item] };
        let entry = Entry { dt: Nanos::from_millis(millis), command: Command::Batches(vec![batch]) };
        let answer = ledger.apply(&entry).replies[0].items[0];
        let news = self.holding.answer(&self.cell, self.seq, &answer, W, self.now, || unreachable!("no reset"));
        assert!(matches!(news, News::Lease { .. }), "{news:?}");
        item
    }

    fn asks(&mut self, ledger: &mut Ledger, missed: u64) {
        self.tells(ledger, 5, missed, false, false);
    }

    fn leaves(&mut self, ledger: &mut Ledger) -> Item {
        self.tells(ledger, 5, 0, true, false)
    }

    fn takes(&self, permits: u64) -> u64 {
        (0..permits).filter(|_| matches!(self.cell.take(Permits(1), || self.now), Take::Taken(_))).count() as u64
    }

    /// Forgotten, and made anew.
    fn comes_back(&mut self) {
        self.epoch += 1;
        (self.cell, self.holding) = (Cell::default(), Holding::new(KEY, self.epoch));
    }

    /// A while after the last report.
    fn would(&self) -> Leaves {
        self.holding.leaves(&self.cell, self.now.saturating_add(Nanos::from_millis(100)))
    }
}

fn kinds() -> [Kind; 4] {
    let rate = |per| Rate { permits: 100, per };
    [
        Kind::Sliding { window: W },
        Kind::Bucket { rate: rate(W) },
        Kind::Concurrency,
        Kind::Smooth { rate: rate(Nanos::from_millis(10)) },
    ]
}

#[test]
fn who_leaves_hands_all_back_whatever_is_asked_of_it() {
    for kind in kinds() {
        let (mut ledger, mut node) = (ledger(kind.clone()), Node::new(1, &kind));
        node.asks(&mut ledger, 40);
        node.asks(&mut ledger, 40);
        assert_ne!(ledger.charged(KEY), Permits::ZERO, "{kind:?}: it holds something");
        let told = node.tells(&mut ledger, 5, 40, true, true);
        assert_eq!((told.have, told.want, told.waiting), Default::default(), "{kind:?}");
        assert!(!told.reserve, "{kind:?}");
        assert_eq!((node.holding.is_settled(&node.cell), node.takes(1)), (true, 0), "{kind:?}");
        assert_eq!(ledger.charged(KEY), Permits::ZERO, "{kind:?}");
    }
}

#[test]
fn what_is_in_use_reserved_or_asked_for_does_not_leave() {
    let kind = Kind::Concurrency;
    let (mut places, mut calls) = (ledger(kind.clone()), Node::new(1, &kind));
    calls.asks(&mut places, 3);
    assert_eq!(calls.takes(1), 1);
    assert_eq!(calls.would(), Leaves::NotNow, "a call runs");
    assert_eq!(calls.leaves(&mut places).have, Permits(1), "were it asked all the same");
    assert_eq!(calls.would(), Leaves::NotNow);

    let kind = Kind::Sliding { window: W };
    let (mut ledger, mut node) = (ledger(kind.clone()), Node::new(1, &kind));
    node.asks(&mut ledger, 5);
    let reservation = node.holding.reserve(&node.cell, Permits(2), || node.now).expect("they are there");
    assert_eq!(node.would(), Leaves::NotNow, "something is reserved");
    assert_eq!(node.leaves(&mut ledger).have, Permits(2), "were it asked all the same");
    let _settled = node.holding.settle(&node.cell, reservation, Permits(9), || node.now);
    assert_eq!(node.would(), Leaves::NotNow, "it owes seven");
    let waits = node.holding.wait(Permits(3)).expect("there is room");
    node.asks(&mut ledger, 3);
    assert_eq!(node.would(), Leaves::NotNow, "somebody waits");
    node.holding.leave(&node.cell, waits);
    assert_eq!(node.would(), Leaves::NotNow, "he may come again");
    node.tells(&mut ledger, 300, 0, false, false);
    node.tells(&mut ledger, 300, 0, false, false);
    assert_ne!(node.would(), Leaves::NotNow);
    node.holding.report(&node.cell, 99, Surroundings { leaving: true, ..quiet(node.now) });
    assert_eq!(node.would(), Leaves::NotNow, "its question is open");
}

fn quiet(now: Nanos) -> Surroundings {
    let none = Permits::ZERO;
    let (missed, waiting, queued) = (none, none, none);
    Surroundings { now, window: W, max: MAX, missed, waiting, queued, recalled: false, reserve: false, leaving: false }
}

#[test]
fn who_is_asked_for_again_and_again_leaves_after_others() {
    let kind = Kind::Sliding { window: W };
    let mut ledger = ledger(kind.clone());
    let (mut seldom, mut often, mut reserves) = (Node::new(1, &kind), Node::new(2, &kind), Node::new(3, &kind));
    assert_eq!(seldom.would(), Leaves::AfterOthers, "somebody is about to use it");
    seldom.asks(&mut ledger, 1);
    assert_eq!(seldom.takes(1), 1);
    assert_eq!(seldom.holding.leaves(&seldom.cell, seldom.now), Leaves::AfterOthers, "it was granted a moment ago");
    assert_eq!(seldom.would(), Leaves::OnceTold);
    for _ in 0..20 {
        often.tells(&mut ledger, 200, 1, false, false);
        often.takes(1);
    }
    assert_eq!(often.would(), Leaves::AfterOthers);
    for _ in 0..40 {
        often.tells(&mut ledger, 200, 0, false, false);
    }
    assert_ne!(often.would(), Leaves::AfterOthers, "nobody asks for it any more");
    reserves.tells(&mut ledger, 5, 1, false, true);
    assert_eq!(reserves.would(), Leaves::AfterOthers, "it has a partition reserve");
    reserves.tells(&mut ledger, 5, 0, true, true);
    assert_eq!(reserves.would(), Leaves::AtOnce, "and ends it");
}

#[test]
fn who_comes_back_begins_with_what_the_ledger_knows_of_it() {
    let kind = Kind::Sliding { window: W };
    let (mut ledger, mut one, mut two) = (ledger(kind.clone()), Node::new(1, &kind), Node::new(2, &kind));
    let mut admitted = 0;
    for round in 0..12 {
        for node in [&mut one, &mut two] {
            node.asks(&mut ledger, 15 + round);
            admitted += node.takes(1_000);
            node.leaves(&mut ledger);
            assert!(node.holding.is_settled(&node.cell));
            node.comes_back();
        }
    }
    assert_eq!(admitted, MAX.0);
    assert_eq!(ledger.charged(KEY), MAX);
}
