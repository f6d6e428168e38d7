//! Concurrency, calendar windows, budgets: the ledger, word by word.

use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{
    Alert, Batch, Budget, Command, Entry, Item, Key, Kind, Opening, Outcome, Period, Policy, Span, Unit, Verdict,
};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const D: Nanos = Nanos::from_secs(4);

struct World {
    ledger: Ledger,
    seq: u64,
}

/// What a node says and what it is told.
#[derive(Default, Clone, Copy)]
struct Say {
    epoch: u64,
    spent: u64,
    have: u64,
    idle: u64,
    waiting: u64,
}

impl World {
    fn new(max: u64, kind: Kind) -> Self {
        let mut world = Self { ledger: Ledger::default(), seq: 0 };
        world.set(1, max, kind);
        world
    }

    fn set(&mut self, revision: u64, max: u64, kind: Kind) {
        let policies = vec![Policy { limit: KEY.limit, max: Permits(max), ttl: D, kind }];
        self.apply(0, Command::SetPolicies { revision: Revision(revision), policies });
    }

    fn apply(&mut self, millis: u64, command: Command) -> Outcome {
        self.ledger.apply(&Entry { dt: Nanos::from_millis(millis), command })
    }

    fn pass(&mut self, millis: u64) {
        self.apply(millis, Command::Tick);
    }

    /// A minute that begins then, in minutes since 1970.
    fn open(&mut self, minute: u64) {
        let span = Span { start: Millis(minute * 60_000), end: Millis((minute + 1) * 60_000) };
        self.apply(0, Command::OpenWindows(vec![Opening { limit: KEY.limit, number: span.number(), span }]));
    }

    fn hear(&mut self, node: u64, say: Say) -> (Verdict, Outcome) {
        self.seq += 1;
        let Say { epoch, spent, have, idle, waiting } = say;
        let item = Item {
            key: KEY,
            epoch,
            spent: Permits(spent),
            have: Permits(have),
            want: Permits(waiting),
            waiting: Permits(waiting),
            reserve: false,
            reserved: Permits(idle),
        };
        let batch = Batch { node: NodeId(node), incarnation: Incarnation(1), seq: self.seq, items: vec![item] };
        let outcome = self.apply(0, Command::Batches(vec![batch]));
        (outcome.replies[0].items[0].verdict, outcome)
    }

    /// What was granted.
    fn ask(&mut self, node: u64, say: Say) -> u64 {
        match self.hear(node, say).0 {
            Verdict::Lease { granted, .. } | Verdict::Dated { granted, .. } => granted.0,
            other => panic!("{other:?}"),
        }
    }

    fn alerts(&mut self, node: u64, say: Say) -> Vec<(u64, u8)> {
        self.hear(node, say).1.alerts.iter().map(|Alert { window, percent, .. }| (*window, *percent)).collect()
    }
}

fn wants(waiting: u64) -> Say {
    Say { waiting, ..Say::default() }
}

#[test]
fn places_are_charged_while_they_are_held_and_no_longer() {
    let mut world = World::new(3, Kind::Concurrency);
    assert_eq!(world.ask(1, wants(2)), 2);
    assert_eq!(world.ledger.detail(KEY).expect("known").free, Permits(1));
    assert_eq!(world.ask(2, wants(1)), 1);
    world.pass(3_900);
    assert_eq!(world.ask(1, Say { have: 2, ..Say::default() }), 0, "renewed");
    world.pass(200);
    // Node 2 was silent for D: its place is another's, without lingering.
    assert_eq!(world.ask(3, wants(1)), 1);
    assert_eq!(world.ask(1, Say { have: 1, ..Say::default() }), 0);
    assert_eq!(world.ask(3, Say { have: 1, ..wants(1) }), 1, "handed back, free at once");
}

#[test]
fn a_lowered_number_of_places_ends_no_more_leases_than_it_must() {
    let mut world = World::new(12, Kind::Concurrency);
    let all = |world: &mut World| {
        [1, 2, 3].map(|node| match world.hear(node, Say { have: 4, ..Say::default() }).0 {
            Verdict::Lease { ttl, .. } => ttl == D,
            Verdict::Reset => false,
            other => panic!("{other:?}"),
        })
    };
    for node in [1, 2, 3] {
        assert_eq!(world.ask(node, wants(4)), 4);
        world.pass(10);
    }
    assert_eq!(all(&mut world), [true, true, true]);
    world.set(2, 11, Kind::Concurrency);
    world.pass(100);
    assert_eq!(all(&mut world), [false, true, true], "the oldest one");
    world.pass(3_000);
    assert_eq!(all(&mut world), [false, true, true], "and no other one later");
    assert_eq!(world.ledger.detail(KEY).expect("known").free, Permits::ZERO);
    world.pass(1_000);
    assert_eq!(world.ledger.detail(KEY).expect("known").free, Permits(3), "within D");
    world.set(3, 3, Kind::Concurrency);
    assert_eq!(all(&mut world), [false, false, false], "none of them fits");
}

#[test]
fn idle_places_are_called_back_and_busy_ones_are_not() {
    let mut world = World::new(2, Kind::Concurrency);
    world.ask(1, wants(2));
    world.ask(1, Say { have: 2, idle: 0, ..Say::default() });
    assert!(world.hear(2, wants(1)).1.recalls.is_empty(), "both are in use");
    world.pass(200);
    world.ask(1, Say { have: 2, idle: 1, ..Say::default() });
    let recalls = world.hear(2, wants(1)).1.recalls;
    assert_eq!(recalls.iter().map(|recall| recall.node).collect::<Vec<_>>(), [NodeId(1)]);
}

fn minutes() -> Kind {
    Kind::Calendar { period: Period::Minute, zone: "UTC".into() }
}

#[test]
fn nothing_is_granted_before_a_window_is_open() {
    let mut world = World::new(10, minutes());
    assert_eq!(world.hear(1, wants(1)).0, Verdict::Unknown);
    world.open(100);
    let Verdict::Dated { granted, window, ends, .. } = world.hear(1, wants(4)).0 else { panic!("a dated lease") };
    assert_eq!((granted, window, ends), (Permits(4), 100, Millis(101 * 60_000)));
}

#[test]
fn a_window_holds_its_maximum_however_long_it_lasts() {
    let mut world = World::new(10, minutes());
    world.open(100);
    assert_eq!(world.ask(1, wants(10)), 10);
    world.ask(1, Say { spent: 10, ..Say::default() });
    for _ in 0..50 {
        world.pass(3_000);
        assert_eq!(world.ask(1, Say { spent: 10, ..wants(1) }), 0);
    }
    world.open(99);
    world.open(100);
    assert_eq!(world.ask(1, Say { spent: 10, ..wants(1) }), 0, "never backwards, never twice");
    world.open(101);
    assert_eq!(world.hear(1, Say { spent: 10, ..wants(1) }).0, Verdict::Reset, "what it holds is of the window before");
    assert_eq!(world.ask(1, Say { epoch: 1, ..wants(10) }), 10);
}

#[test]
fn what_is_held_when_a_window_ends_counts_to_that_window() {
    let mut world = World::new(10, minutes());
    world.open(100);
    assert_eq!(world.ask(1, wants(10)), 10);
    world.open(101);
    assert_eq!(world.ask(2, wants(10)), 10, "node 1 may spend its ten as well: they are tagged with window 100");
    assert_eq!(world.hear(1, Say { spent: 3, have: 7, ..wants(1) }).0, Verdict::Reset);
}

#[test]
fn what_a_lost_lease_held_may_have_been_spent() {
    let mut world = World::new(10, minutes());
    world.open(100);
    assert_eq!(world.ask(1, wants(6)), 6);
    world.pass(4_001);
    assert_eq!(world.ask(2, wants(4)), 4);
    assert_eq!(world.ask(2, Say { have: 4, ..wants(1) }), 0, "in this window the six do not come back");
    assert_eq!(world.ledger.charged(KEY), Permits(10));
}

#[test]
fn windows_are_due_when_they_begin_and_in_order() {
    let mut world = World::new(10, minutes());
    let due = |world: &World, at: u64| {
        world.ledger.due_windows(Millis(at)).iter().map(|opening| opening.number).collect::<Vec<_>>()
    };
    assert_eq!(due(&world, 100 * 60_000 + 5), [100]);
    world.open(100);
    assert_eq!(due(&world, 101 * 60_000 - 1), [0_u64; 0]);
    assert_eq!(due(&world, 101 * 60_000), [101]);
    assert_eq!(due(&world, 107 * 60_000 + 1), [107], "after a long silence");
    assert_eq!(world.ledger.next_end(), Some(Millis(101 * 60_000)));
}

fn budget(carry: u64) -> Kind {
    let (period, zone, unit) = (Period::Minute, "UTC".into(), Unit::Tokens);
    Kind::Budget(Budget { period, zone, unit, carry: Permits(carry), alerts: vec![50, 80, 100] })
}

#[test]
fn each_threshold_is_told_once_in_a_period() {
    let mut world = World::new(100, budget(0));
    world.open(100);
    assert_eq!(world.ask(1, wants(100)), 100);
    assert_eq!(world.alerts(1, Say { spent: 49, have: 51, ..Say::default() }), []);
    assert_eq!(world.alerts(1, Say { spent: 85, have: 15, ..Say::default() }), [(100, 50), (100, 80)]);
    assert_eq!(world.alerts(1, Say { spent: 90, have: 10, ..Say::default() }), []);
    assert_eq!(world.alerts(1, Say { spent: 100, ..Say::default() }), [(100, 100)]);
    world.open(101);
    world.hear(1, Say { spent: 100, ..Say::default() });
    assert_eq!(world.ask(1, Say { epoch: 1, ..wants(60) }), 60);
    assert_eq!(world.alerts(1, Say { epoch: 1, spent: 60, ..Say::default() }), [(101, 50)]);
}

#[test]
fn what_was_left_is_carried_over_up_to_its_bound() {
    let mut world = World::new(100, budget(30));
    world.open(100);
    assert_eq!(world.ask(1, wants(110)), 0, "nothing was before the first period");
    assert_eq!(world.ask(1, wants(90)), 90);
    world.ask(1, Say { spent: 90, ..Say::default() });
    world.open(101);
    assert_eq!(world.ask(2, wants(111)), 0);
    assert_eq!(world.ask(2, wants(110)), 110, "ten were left");
    world.ask(2, Say { spent: 10, ..Say::default() });
    world.open(102);
    assert_eq!(world.ask(2, Say { epoch: 1, ..wants(131) }), 0);
    assert_eq!(world.ask(2, Say { epoch: 1, ..wants(130) }), 130, "a hundred were left, thirty are carried");
}

#[test]
fn who_asks_for_nothing_in_a_whole_period_has_left_all_of_it() {
    let mut world = World::new(100, budget(30));
    world.open(100);
    world.ask(1, wants(100));
    world.ask(1, Say { spent: 100, ..Say::default() });
    world.open(101);
    world.open(102);
    assert_eq!(world.ask(2, wants(131)), 0);
    assert_eq!(world.ask(2, wants(130)), 130, "a hundred were left of the minute before, thirty are carried");
}

#[test]
fn a_key_that_used_up_its_budget_does_not_get_more_by_being_forgotten() {
    let mut world = World::new(100, budget(30));
    world.open(100);
    world.ask(1, wants(100));
    world.ask(1, Say { spent: 100, ..Say::default() });
    world.open(101);
    for _ in 0..5 {
        world.pass(700_000); // Long enough to be looked at several times.
    }
    assert_eq!(world.ask(2, wants(101)), 0, "nothing was left to carry");
    assert_eq!(world.ask(2, wants(100)), 100);
}

#[test]
fn an_opening_that_comes_late_changes_nothing() {
    let mut world = World::new(10, minutes());
    world.open(100);
    world.open(99);
    assert_eq!(world.ledger.next_end(), Some(Millis(101 * 60_000)));
    let Verdict::Dated { window, .. } = world.hear(1, wants(4)).0 else { panic!("a dated lease") };
    assert_eq!(window, 100);
}

#[test]
fn what_is_carried_over_is_counted_by_the_maximum_that_was_in_force() {
    let mut world = World::new(100, budget(30));
    world.open(100);
    world.ask(1, wants(90));
    world.ask(1, Say { spent: 90, ..Say::default() });
    world.open(101);
    // Nobody has looked at the key since the period began.
    world.set(2, 200, budget(30));
    assert_eq!(world.ledger.detail(KEY).expect("known").free, Permits(210), "ten of a hundred were left");

    // Lowered, it takes nothing away that was left.
    let mut world = World::new(100, budget(30));
    world.open(100);
    world.ask(1, wants(80));
    world.ask(1, Say { spent: 80, ..Say::default() });
    world.open(101);
    world.set(2, 50, budget(30));
    assert_eq!(world.ledger.detail(KEY).expect("known").free, Permits(70), "twenty of a hundred were left");
}
