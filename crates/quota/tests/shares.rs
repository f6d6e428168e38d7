//! Smooth limits: parts of the rate, who may hold them, and what a holder makes of one.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::cell::{Take, Ticket};
use tidegate_quota::holding::{Drawn, Surroundings};
use tidegate_quota::protocol::{
    Answer, Batch, Command, Entry, Flow, Item, Key, Kind, LEASE_TTL, Nature, Policy, Rate, Verdict,
};
use tidegate_quota::{Cell, Holding, Ledger};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const D: Nanos = Nanos::from_secs(4);

/// So many a second.
const fn flow(permits: u64) -> Flow {
    Flow(permits * 1_000)
}

/// What a node says of itself.
#[derive(Debug, Clone, Copy)]
struct Says {
    spent: u64,
    have: u64,
    flow: Flow,
    want: u64,
    waiting: u64,
}

const NOTHING: Says = Says { spent: 0, have: 0, flow: Flow::ZERO, want: 0, waiting: 0 };

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Holds { granted: u64, keep: u64, flow: Flow },
    Anew,
}

struct World {
    ledger: Ledger,
    seq: u64,
    recalled: Vec<u64>,
}

impl World {
    /// A thousand a second, a burst of `burst`.
    fn new(burst: u64) -> Self {
        let mut world = Self { ledger: Ledger::default(), seq: 0, recalled: Vec::new() };
        world.set(1, burst, 1_000);
        world
    }

    fn set(&mut self, revision: u64, burst: u64, rate: u64) {
        let kind = Kind::Smooth { rate: Rate { permits: rate, per: Nanos::SECOND } };
        let policies = vec![Policy { limit: KEY.limit, max: Permits(burst), ttl: D, kind }];
        let command = Command::SetPolicies { revision: Revision(revision), policies };
        self.ledger.apply(&Entry { dt: Nanos::ZERO, command });
    }

    fn pass(&mut self, millis: u64) {
        self.ledger.apply(&Entry { dt: Nanos::from_millis(millis), command: Command::Tick });
    }

    fn say(&mut self, node: u64, says: Says) -> Told {
        self.seq += 1;
        let Says { spent, have, flow, want, waiting } = says;
        let item = Item {
            key: KEY,
            epoch: 1,
            spent: Permits(spent),
            have: Permits(have),
            want: Permits(want),
            waiting: Permits(waiting),
            reserve: false,
            reserved: Permits(flow.0),
        };
        let batch = Batch { node: NodeId(node), incarnation: Incarnation(1), seq: self.seq, items: vec![item] };
        let outcome = self.ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::Batches(vec![batch]) });
        self.recalled.extend(outcome.recalls.iter().map(|recall| recall.node.0));
        match outcome.replies[0].items[0].verdict {
            Verdict::Shared { granted, keep, flow, .. } => Told::Holds { granted: granted.0, keep: keep.0, flow },
            Verdict::Reset => Told::Anew,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_node_alone_has_all_of_the_rate_and_the_burst() {
    let mut world = World::new(5);
    let told = world.say(1, Says { want: 1, waiting: 1, ..NOTHING });
    assert_eq!(told, Told::Holds { granted: 5, keep: 5, flow: flow(1_000) });
    let told = world.say(1, Says { have: 5, flow: flow(1_000), want: 1_500, ..NOTHING });
    assert_eq!(told, Told::Holds { granted: 0, keep: 5, flow: flow(1_000) });
}

#[test]
fn a_part_of_the_rate_is_handed_on_only_after_its_holder_has_said_that_it_let_go() {
    let mut world = World::new(20);
    let all = Says { have: 20, flow: flow(1_000), want: 500, ..NOTHING };
    world.say(1, Says { want: 500, ..NOTHING });
    assert_eq!(world.say(1, all), Told::Holds { granted: 0, keep: 20, flow: flow(1_000) });
    let asks = Says { want: 500, waiting: 1, ..NOTHING };
    assert_eq!(world.say(2, asks), Told::Holds { granted: 0, keep: 0, flow: Flow::ZERO });
    assert_eq!(world.recalled, [1], "the other is asked what it holds");
    assert_eq!(world.say(1, all), Told::Holds { granted: 0, keep: 10, flow: flow(500) }, "told to let go");
    assert_eq!(world.say(2, asks), Told::Holds { granted: 0, keep: 0, flow: Flow::ZERO }, "it may not have heard");
    let less = Says { spent: 10, have: 10, flow: flow(500), want: 500, waiting: 0 };
    assert_eq!(world.say(1, less), Told::Holds { granted: 0, keep: 10, flow: flow(500) });
    assert_eq!(world.say(2, asks), Told::Holds { granted: 0, keep: 10, flow: flow(500) }, "room without permits");
}

#[test]
fn a_part_whose_holder_is_gone_is_handed_on_when_its_lease_has_lapsed() {
    let mut world = World::new(20);
    world.say(1, Says { want: 500, ..NOTHING });
    let asks = Says { want: 500, waiting: 1, ..NOTHING };
    world.pass(3_999);
    assert_eq!(world.say(2, asks), Told::Holds { granted: 0, keep: 0, flow: Flow::ZERO });
    world.pass(1);
    let told = world.say(2, asks);
    assert_eq!(told, Told::Holds { granted: 0, keep: 20, flow: flow(1_000) }, "its level is gone with it");
}

#[test]
fn room_that_its_holder_gives_up_comes_back_empty_whatever_was_in_it() {
    let mut world = World::new(20);
    world.say(1, Says { want: 500, ..NOTHING });
    let asks = Says { want: 500, waiting: 1, ..NOTHING };
    world.say(2, asks);
    let told = world.say(1, Says { have: 8, flow: flow(500), want: 500, ..NOTHING });
    assert_eq!(told, Told::Holds { granted: 0, keep: 10, flow: flow(500) }, "room without permits");
    assert_eq!(world.say(2, asks), Told::Holds { granted: 0, keep: 10, flow: flow(500) });
}

#[test]
fn what_nobody_holds_fills_up_at_the_rest_of_the_rate() {
    let mut world = World::new(20);
    world.say(1, Says { want: 1, ..NOTHING });
    // It has spent and gives the room up, but not the rate yet.
    world.say(1, Says { spent: 20, flow: flow(1_000), ..NOTHING });
    world.pass(50);
    let told = world.say(2, Says { want: 1, waiting: 1, ..NOTHING });
    assert_eq!(told, Told::Holds { granted: 0, keep: 20, flow: Flow::ZERO });
    world.say(1, Says { spent: 20, ..NOTHING });
    world.say(2, Says { spent: 20, ..NOTHING });
    world.pass(10);
    world.pass(10);
    let told = world.say(1, Says { spent: 20, want: 1, waiting: 1, ..NOTHING });
    assert!(matches!(told, Told::Holds { granted: 10..=20, keep: 20, .. }), "{told:?}: the rest is all of it now");
}

#[test]
fn a_claim_of_more_than_the_part_that_is_charged_begins_anew() {
    let mut world = World::new(20);
    world.say(1, Says { want: 1, ..NOTHING });
    assert_eq!(world.say(1, Says { have: 20, flow: flow(1_001), want: 1, ..NOTHING }), Told::Anew);
    assert_eq!(world.say(2, Says { have: 0, flow: flow(1), want: 1, ..NOTHING }), Told::Anew);
    assert_eq!(world.say(1, Says { have: 21, flow: flow(1), want: 1, ..NOTHING }), Told::Anew);
}

#[test]
fn a_lowered_rate_and_burst_are_held_by_nobody_after_the_next_report() {
    let mut world = World::new(20);
    world.say(1, Says { want: 1, ..NOTHING });
    world.set(2, 4, 100);
    let told = world.say(1, Says { have: 20, flow: flow(1_000), want: 1, ..NOTHING });
    assert_eq!(told, Told::Holds { granted: 0, keep: 4, flow: flow(100) });
}

#[test]
fn a_large_cost_is_given_the_room_it_takes() {
    let mut world = World::new(20);
    world.say(1, Says { want: 900, ..NOTHING });
    let asks = Says { want: 100, waiting: 15, ..NOTHING };
    world.say(2, asks);
    let Told::Holds { keep, .. } = world.say(1, Says { have: 20, flow: flow(1_000), want: 900, ..NOTHING }) else {
        panic!("it is charged")
    };
    assert!(keep <= 5, "room is made: {keep}");
    world.say(1, Says { spent: 20 - keep, have: keep, flow: flow(900), want: 900, waiting: 0 });
    let told = world.say(2, asks);
    assert!(matches!(told, Told::Holds { keep: 15, .. }), "{told:?}");
}

/// A holder, and the answers it gets.
struct Holder {
    cell: Cell,
    holding: Holding,
    seq: u64,
}

impl Holder {
    fn new() -> Self {
        Self { cell: Cell::default(), holding: Holding::of(KEY, 1, Nature::Refilled), seq: 0 }
    }

    /// Reports, and is told at once.
    fn told(&mut self, now: Nanos, granted: u64, keep: u64, flow: Flow) -> Item {
        self.seq += 1;
        let around = Surroundings {
            now,
            window: Nanos::from_millis(5),
            max: Permits(1_000),
            missed: Permits(10),
            waiting: Permits(1),
            queued: Permits(1),
            recalled: false,
            reserve: false,
            leaving: false,
        };
        let item = self.holding.report(&self.cell, self.seq, around);
        let (granted, keep, free) = (Permits(granted), Permits(keep), Permits::ZERO);
        let verdict = Verdict::Shared { granted, keep, flow, free, ttl: LEASE_TTL, retry: Nanos::ZERO };
        let answer = Answer { key: KEY, epoch: 1, verdict };
        self.holding.answer(&self.cell, self.seq, &answer, Nanos::from_millis(5), now, || 2);
        item
    }

    /// All that can be taken at this instant, one by one.
    fn drain(&mut self, now: Nanos) -> u64 {
        let mut taken = 0;
        loop {
            match self.cell.take(Permits(1), || now) {
                Take::Taken(_) => taken += 1,
                _ if self.holding.draw(&self.cell, Permits(1), now, now) == Drawn::There => {}
                _ => return taken,
            }
        }
    }

    fn take(&mut self, now: Nanos) -> Ticket {
        loop {
            match self.cell.take(Permits(1), || now) {
                Take::Taken(ticket) => return ticket,
                _ => assert_eq!(self.holding.draw(&self.cell, Permits(1), now, now), Drawn::There),
            }
        }
    }
}

fn at(millis: u64) -> Nanos {
    Nanos::from_millis(1_000 + millis)
}

#[test]
fn a_holder_spends_what_came_with_its_part_and_then_what_the_rate_brings() {
    let mut holder = Holder::new();
    holder.told(at(0), 3, 8, flow(1_000));
    assert_eq!(holder.drain(at(0)), 3, "granted; the rest of the room is empty");
    assert_eq!(holder.drain(at(1)), 0, "a clock that may be a thousandth fast");
    assert_eq!(holder.drain(Nanos(at(1).0 + 2_000)), 1);
    assert_eq!(holder.drain(at(5)), 3);
    let drawn = holder.holding.draw(&holder.cell, Permits(1), at(5), at(5));
    assert!(matches!(drawn, Drawn::In(wait) if wait <= Nanos::from_millis(1)), "{drawn:?}");
    holder.holding.queue(Permits(4));
    let drawn = holder.holding.draw(&holder.cell, Permits(1), at(5), at(5));
    assert!(matches!(drawn, Drawn::In(wait) if wait > Nanos::from_millis(4)), "after who waits: {drawn:?}");
    assert_eq!(holder.holding.draw(&holder.cell, Permits(9), at(5), at(5)), Drawn::Nothing, "more than its room");
}

#[test]
fn a_holder_fills_up_no_further_than_its_room_however_long_it_sleeps() {
    let mut holder = Holder::new();
    holder.told(at(0), 8, 8, flow(1_000));
    let _one_of_two_in_the_cell = holder.take(at(0));
    assert_eq!(holder.drain(at(900)), 7, "nobody knows when it was taken: a moment ago, for all that is known");
    assert_eq!(holder.drain(at(900)), 0);
}

#[test]
fn a_raised_part_counts_from_when_it_is_known() {
    let mut holder = Holder::new();
    holder.told(at(0), 0, 500, flow(10));
    assert_eq!(holder.drain(at(0)), 0);
    holder.told(at(1_000), 0, 500, flow(1_000));
    let brought = holder.drain(at(1_000));
    assert!((9..=10).contains(&brought), "{brought}: of a second at ten a second");
    let brought = holder.drain(at(1_100));
    assert!((99..=100).contains(&brought), "{brought}");
}

#[test]
fn a_lowered_part_counts_at_once_and_is_told_of_at_once() {
    let mut holder = Holder::new();
    holder.told(at(0), 20, 20, flow(1_000));
    assert_eq!(holder.drain(at(0)), 20);
    holder.told(at(10), 0, 5, flow(100));
    assert!(holder.holding.is_due(&holder.cell, at(10)));
    let brought = holder.drain(at(20));
    assert!(brought <= 2, "{brought}: two hundredths of a second at a hundred a second");
    let item = holder.told(at(20), 0, 5, flow(100));
    assert_eq!((item.spent, item.have, item.reserved), (Permits(15), Permits(5), Permits(flow(100).0)));
}

#[test]
fn what_was_taken_before_a_refill_is_not_put_back_beside_what_came_in_its_place() {
    let mut holder = Holder::new();
    holder.told(at(0), 8, 8, flow(1_000));
    let early = holder.take(at(0));
    assert_eq!(holder.drain(at(0)), 7);
    assert!(!holder.cell.put_back(early));
    let late = holder.take(at(2));
    assert!(holder.cell.put_back(late), "nothing came in its place yet");
}

#[test]
fn after_its_lease_a_part_gives_nothing_and_holds_nothing() {
    let mut holder = Holder::new();
    holder.told(at(0), 8, 8, flow(1_000));
    let later = at(3_400);
    assert_eq!(holder.drain(later), 0);
    let item = holder.told(later, 0, 0, Flow::ZERO);
    assert_eq!((item.spent, item.have, item.reserved), (Permits(8), Permits::ZERO, Permits::ZERO));
}

#[test]
fn who_asks_for_nothing_hands_its_part_back() {
    let mut holder = Holder::new();
    holder.told(at(0), 8, 8, flow(1_000));
    let quiet = |now| Surroundings {
        now,
        window: Nanos::from_millis(5),
        max: Permits(8),
        missed: Permits::ZERO,
        waiting: Permits::ZERO,
        queued: Permits::ZERO,
        recalled: false,
        reserve: false,
        leaving: false,
    };
    let item = holder.holding.report(&holder.cell, 9, quiet(at(2_000)));
    assert_eq!((item.spent, item.have, item.want, item.reserved), (Permits(8), Permits(0), Permits(0), Permits(0)));
    assert_eq!(holder.drain(at(2_001)), 0);
}

#[test]
fn what_was_reserved_comes_back_while_its_part_is_held_and_not_after() {
    let mut holder = Holder::new();
    holder.told(at(0), 4, 4, flow(1_000));
    let reserve = |holder: &mut Holder, now| {
        assert_eq!(holder.holding.draw(&holder.cell, Permits(1), now, now), Drawn::There);
        holder.holding.reserve(&holder.cell, Permits(1), || now).expect("one is there")
    };
    let unused = reserve(&mut holder, at(0));
    assert_eq!(holder.drain(at(900)), 3, "what is reserved keeps its place");
    let settled = holder.holding.settle(&holder.cell, unused, Permits::ZERO, || at(900));
    assert_eq!(settled.refunded, Permits(1));
    assert_eq!(holder.drain(at(900)), 1);

    let old = reserve(&mut holder, at(910));
    holder.told(at(5_000), 4, 4, flow(1_000)); // its lease had ended
    let new = reserve(&mut holder, at(5_000));
    assert_eq!(holder.drain(at(5_000)), 3);
    let settled = holder.holding.settle(&holder.cell, old, Permits::ZERO, || at(5_000));
    assert_eq!(settled.refunded, Permits::ZERO, "of a part that is gone");
    assert_eq!(holder.drain(at(5_000)), 0);
    assert_eq!(holder.holding.settle(&holder.cell, new, Permits(1), || at(5_000)).refunded, Permits::ZERO);
}
