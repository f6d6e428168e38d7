//! Reservations that wait, as ledger and holdings settle it between them: who wants much at once gets it, whoever else asks.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::holding::{Reservation, Surroundings};
use tidegate_quota::protocol::{Batch, Budget, Command, Entry, Item, Key, Kind, LEASE_TTL, Opening, Outcome, Period};
use tidegate_quota::protocol::{Policy, Span, Unit, Verdict};
use tidegate_quota::{Cell, Holding, Ledger};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const MAX: Permits = Permits(100);
const W: Nanos = Nanos::from_secs(10);

struct World {
    ledger: Ledger,
    nodes: Vec<Node>,
    now: Nanos,
}

struct Node {
    id: NodeId,
    cell: Cell,
    holding: Holding,
    seq: u64,
    /// Waits for so much, under this ticket.
    waits: Option<(Permits, u64)>,
    /// The largest that was refused since the last report.
    refused: u64,
    recalled: bool,
    journals: bool,
}

impl Node {
    fn new(id: u64, journals: bool) -> Self {
        let holding = Holding::new(KEY, 1);
        let holding = if journals { holding.with_journal() } else { holding };
        Self {
            id: NodeId(id),
            cell: Cell::default(),
            holding,
            seq: 0,
            waits: None,
            refused: 0,
            recalled: false,
            journals,
        }
    }

    fn wait(&mut self, cost: u64) {
        let ticket = self.holding.wait(Permits(cost)).expect("nobody else waits");
        self.waits = Some((Permits(cost), ticket));
    }

    /// What waits is refused: there is nothing for it yet.
    fn refuse(&mut self) {
        let (cost, ticket) = self.waits.take().expect("it waits");
        self.holding.leave(&self.cell, ticket);
        self.refused = cost.0;
    }

    /// All that small ones get.
    fn nibble(&mut self, now: Nanos) -> u64 {
        let mut taken = 0;
        while let Some(reservation) = self.holding.reserve(&self.cell, Permits(1), || now) {
            taken += reservation.cost.0;
        }
        taken
    }

    /// What waits comes to take what it was granted.
    fn redeem(&mut self, now: Nanos) -> Option<Reservation> {
        let (_, ticket) = self.waits?;
        let reservation = self.holding.redeem(&self.cell, ticket, || now)?;
        self.waits = None;
        Some(reservation)
    }

    /// All that was granted is on the disk at once, or as soon as `now`.
    fn journal(&mut self, now: Nanos) {
        let queued = self.waits.map_or(Permits::ZERO, |(cost, _)| cost);
        if let Some(mark) = self.holding.next_mark(&self.cell, queued) {
            self.holding.journalled(&self.cell, self.holding.epoch(), mark, now);
        }
    }
}

impl World {
    fn new(kind: Kind, nodes: u64, journals: bool) -> Self {
        let mut ledger = Ledger::default();
        let policies = vec![Policy { limit: KEY.limit, max: MAX, ttl: LEASE_TTL, kind }];
        ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
        let nodes = (1..=nodes).map(|id| Node::new(id, journals)).collect();
        Self { ledger, nodes, now: Nanos::from_secs(1) }
    }

    fn sliding(nodes: u64) -> Self {
        Self::new(Kind::Sliding { window: W }, nodes, false)
    }

    /// One node's report and what it is told.
    fn exchange(&mut self, at: usize, missed: u64, wanted: Option<u64>) -> (Item, Outcome) {
        let (window, now) = (W, self.now);
        let node = &mut self.nodes[at];
        node.seq += 1;
        let queued = node.waits.map_or(Permits::ZERO, |(cost, _)| cost);
        let around = Surroundings {
            now,
            window,
            max: MAX,
            missed: Permits(missed),
            waiting: queued.max(Permits(std::mem::take(&mut node.refused))),
            queued,
            recalled: std::mem::take(&mut node.recalled),
            reserve: false,
            leaving: false,
        };
        let item = node.holding.report(&node.cell, node.seq, around);
        let item = match wanted.map(Permits) {
            Some(wanted) => Item { want: wanted, waiting: wanted, ..item },
            None => item,
        };
        let batch = Batch { node: node.id, incarnation: Incarnation(9), seq: node.seq, items: vec![item] };
        let entry = Entry { dt: Nanos::from_millis(5), command: Command::Batches(vec![batch]) };
        let outcome = self.ledger.apply(&entry);
        let node = &mut self.nodes[at];
        node.holding.answer(&node.cell, node.seq, &outcome.replies[0].items[0], window, now, || 2);
        if node.journals {
            node.journal(now);
        }
        self.now = self.now.saturating_add(Nanos::from_millis(5));
        for recall in &outcome.recalls {
            self.nodes.iter_mut().filter(|node| node.id == recall.node).for_each(|node| node.recalled = true);
        }
        (item, outcome)
    }

    /// Gets exactly so much to be at hand.
    fn hold(&mut self, at: usize, permits: u64) {
        self.nodes[at].waits = None;
        self.exchange(at, permits, Some(permits));
        assert_eq!(self.nodes[at].cell.left(), Permits(permits));
    }

    fn ask(&mut self, node: u64, seq: u64, waiting: u64, spent: u64) -> u64 {
        let item = Item {
            key: KEY,
            epoch: 1,
            spent: Permits(spent),
            have: Permits::ZERO,
            want: Permits(waiting),
            waiting: Permits(waiting),
            reserve: false,
            reserved: Permits::ZERO,
        };
        let batch = Batch { node: NodeId(node), incarnation: Incarnation(9), seq, items: vec![item] };
        let entry = Entry { dt: Nanos::ZERO, command: Command::Batches(vec![batch]) };
        match self.ledger.apply(&entry).replies[0].items[0].verdict {
            Verdict::Lease { granted, .. } => granted.0,
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, millis: u64) {
        self.ledger.apply(&Entry { dt: Nanos::from_millis(millis), command: Command::Tick });
    }
}

#[test]
fn who_is_refused_keeps_his_turn_for_two_seconds_whatever_else_his_node_says() {
    let mut world = World::sliding(0);
    assert_eq!(world.ask(1, 1, 50, 0), 50);
    assert_eq!(world.ask(1, 2, 0, 50), 0, "spent for ten seconds");
    assert_eq!(world.ask(2, 1, 80, 0), 0, "it has to wait");
    assert_eq!(world.ask(2, 2, 0, 0), 0, "a report in between, for which nobody waits");
    assert_eq!(world.ask(1, 3, 1, 50), 0, "fifty are free, and gather for who was first");
    world.pass(1_900);
    assert_eq!(world.ask(1, 4, 1, 50), 0, "he may come again");
    world.pass(200);
    assert_eq!(world.ask(1, 5, 1, 50), 1, "he did not");
}

#[test]
fn who_comes_again_in_time_is_served_before_the_small_ones() {
    let mut world = World::sliding(0);
    assert_eq!(world.ask(1, 1, 50, 0), 50);
    assert_eq!(world.ask(1, 2, 0, 50), 0);
    for round in 0..10 {
        assert_eq!(world.ask(2, 2 * round + 1, 80, 0), 0);
        assert_eq!(world.ask(2, 2 * round + 2, 1, 0), 0, "its own node's small ones do not eat it up either");
        assert_eq!(world.ask(1, 3 + round, 1, 50), 0);
        world.pass(990);
    }
    world.pass(100);
    assert_eq!(world.ask(2, 21, 80, 0), 80);
}

#[test]
fn a_cost_above_half_of_the_limit_waits_only_for_what_its_node_lacks() {
    let mut world = World::sliding(1);
    world.hold(0, 40);
    world.nodes[0].wait(80);
    let (item, _) = world.exchange(0, 80, None);
    assert_eq!((item.have, item.waiting), (Permits(40), Permits(40)), "sixty are free: all eighty never will be");
    assert!(world.nodes[0].redeem(world.now).is_some());
}

#[test]
fn a_cost_above_half_of_a_journalled_budget_waits_only_for_what_its_node_lacks() {
    let budget = Budget {
        period: Period::Total,
        zone: "UTC".into(),
        carry: Permits::ZERO,
        alerts: Vec::new(),
        unit: Unit::Count,
    };
    let mut world = World::new(Kind::Budget(budget), 1, true);
    let span = Span { start: tidegate_model::Millis(60_000), end: tidegate_model::Millis(u64::MAX) };
    let opening = Opening { limit: KEY.limit, number: 1, span };
    world.ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::OpenWindows(vec![opening]) });
    world.exchange(0, 40, Some(6));
    let node = &world.nodes[0];
    let here = node.cell.left().saturating_add(node.holding.in_vault());
    assert_ne!(here, Permits::ZERO);
    world.nodes[0].wait(80);
    for _ in 0..40 {
        if world.nodes[0].redeem(world.now).is_some() {
            return;
        }
        let (item, _) = world.exchange(0, 80, None);
        assert!(item.waiting.saturating_add(item.have) <= Permits(80), "{item:?}");
    }
    panic!("eighty of a hundred that nobody else wants: {:?}", world.nodes[0].holding);
}

#[test]
fn nodes_that_hold_parts_of_reservations_do_not_wait_for_each_other() {
    let mut world = World::sliding(2);
    for at in [0, 1] {
        world.hold(at, 40);
    }
    for at in [0, 1] {
        world.nodes[at].wait(70);
    }
    for _round in 0..100 {
        for at in [0, 1] {
            world.exchange(at, 70, None);
            if world.nodes[at].redeem(world.now).is_some() {
                return; // The other one's turn is a window later.
            }
        }
    }
    let stand: Vec<_> = world.nodes.iter().map(|node| &node.holding).collect();
    panic!("a hundred were free, and nobody has seventy: {stand:?}");
}

#[test]
fn who_waits_asks_for_what_is_owed_as_well_since_that_is_paid_first() {
    let mut world = World::sliding(1);
    world.hold(0, 10);
    let now = world.now;
    let node = &mut world.nodes[0];
    let reservation = node.holding.reserve(&node.cell, Permits(10), || now).expect("ten are there");
    assert_eq!(node.holding.settle(&node.cell, reservation, Permits(16), || now).owed, Permits(6));
    node.wait(40);
    let (item, _) = world.exchange(0, 40, None);
    assert_eq!(item.waiting, Permits(46));
    assert_eq!(world.nodes[0].holding.debt(), Permits::ZERO);
    assert!(
        world.nodes[0].redeem(world.now).is_some(),
        "with forty alone, six would be missing: a part to be called back"
    );
}

#[test]
fn who_is_called_back_keeps_nothing_for_what_was_missed() {
    let mut world = World::sliding(1);
    world.hold(0, 40);
    for _try_of_eighty in 0..20 {
        world.exchange(0, 80, None);
    }
    world.nodes[0].recalled = true;
    assert_eq!(world.exchange(0, 80, None).0.have, Permits::ZERO, "eighty again and again, and nothing was spent");
}

#[test]
fn what_is_granted_between_two_tries_is_there_at_the_second() {
    let mut world = World::sliding(2);
    world.hold(1, 80);
    world.nodes[0].wait(60);
    let (_, outcome) = world.exchange(0, 60, None);
    assert_eq!(outcome.recalls.len(), 1);
    world.nodes[0].refuse();
    world.exchange(1, 0, Some(0));
    let (item, _) = world.exchange(0, 0, None);
    assert_eq!(item.waiting, Permits(60), "refused, and asked for still");
    world.nodes[0].nibble(world.now);
    world.nodes[0].recalled = true;
    world.exchange(0, 0, None);
    world.nodes[0].wait(60);
    assert!(world.nodes[0].redeem(world.now).is_some(), "neither small ones nor other nodes had of it");
}

#[test]
fn what_is_kept_for_who_does_not_come_again_is_everybodys_after_a_moment() {
    let mut world = World::sliding(1);
    world.nodes[0].wait(60);
    world.nodes[0].refuse();
    world.exchange(0, 0, None);
    let small = world.nodes[0].nibble(world.now);
    assert!(small <= 40, "{small}");
    for _report in 0..60 {
        world.exchange(0, 0, None);
    }
    let charged = world.ledger.charged(KEY);
    assert!(charged.0 <= small + 10, "a quarter of a second later {charged} are charged");
}

#[test]
fn what_was_gathered_for_a_large_cost_is_not_for_small_ones_that_came_before_it() {
    let mut world = World::sliding(2);
    world.hold(1, 40);
    let small = world.nodes[0].holding.wait(Permits(10)).expect("nobody else waits");
    world.nodes[0].wait(60);
    world.exchange(0, 70, None);
    assert!(world.nodes[0].redeem(world.now).is_some(), "sixty were free, and are for whom they were granted");
    let node = &mut world.nodes[0];
    assert!(node.holding.redeem(&node.cell, small, || world.now).is_none());
}
