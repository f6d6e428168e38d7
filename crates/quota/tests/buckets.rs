//! Token buckets: the sum of what is there and what is held is capped, and only time brings back what was spent.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key, Kind, Policy, Rate, Verdict};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const D: Nanos = Nanos::from_secs(4);

struct World {
    ledger: Ledger,
    seq: u64,
}

impl World {
    /// Ten a second, a burst of `burst`.
    fn new(burst: u64) -> Self {
        let mut world = Self { ledger: Ledger::default(), seq: 0 };
        world.set(1, burst, 10);
        world
    }

    fn set(&mut self, revision: u64, burst: u64, rate: u64) {
        let kind = Kind::Bucket { rate: Rate { permits: rate, per: Nanos::SECOND } };
        let policies = vec![Policy { limit: KEY.limit, max: Permits(burst), ttl: D, kind }];
        let command = Command::SetPolicies { revision: Revision(revision), policies };
        self.ledger.apply(&Entry { dt: Nanos::ZERO, command });
    }

    fn pass(&mut self, millis: u64) {
        self.ledger.apply(&Entry { dt: Nanos::from_millis(millis), command: Command::Tick });
    }

    /// `waiting` are asked for and somebody waits for them; what was granted.
    fn ask(&mut self, node: u64, spent: u64, have: u64, waiting: u64) -> u64 {
        self.seq += 1;
        let (want, waiting) = (Permits(waiting), Permits(waiting));
        let (spent, have, reserved) = (Permits(spent), Permits(have), Permits::ZERO);
        let item = Item { key: KEY, epoch: 1, spent, have, want, waiting, reserve: true, reserved };
        let batch = Batch { node: NodeId(node), incarnation: Incarnation(1), seq: self.seq, items: vec![item] };
        let outcome = self.ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::Batches(vec![batch]) });
        match outcome.replies[0].items[0].verdict {
            Verdict::Lease { granted, reserve, .. } => {
                assert_eq!(reserve, Permits::ZERO, "a bucket has no partition reserve");
                granted.0
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_burst_is_there_at_once_and_then_what_time_brings() {
    let mut world = World::new(30);
    assert_eq!(world.ask(1, 0, 0, 30), 30);
    assert_eq!(world.ask(1, 30, 0, 1), 0, "spent");
    world.pass(99);
    assert_eq!(world.ask(1, 30, 0, 1), 0);
    world.pass(1);
    assert_eq!(world.ask(1, 30, 0, 1), 1);
    world.pass(550);
    assert_eq!(world.ask(1, 31, 0, 5), 5);
    world.pass(50);
    assert_eq!(world.ask(1, 36, 0, 1), 1, "half a permit was not lost");
}

#[test]
fn nothing_fills_up_in_the_place_of_what_is_held() {
    let mut world = World::new(30);
    assert_eq!(world.ask(1, 0, 0, 30), 30);
    world.pass(3_000);
    assert_eq!(world.ask(2, 0, 0, 1), 0, "node 1 may spend all 30 in this moment");
    assert_eq!(world.ask(1, 10, 20, 0), 0);
    assert_eq!(world.ask(2, 0, 0, 1), 0, "what was spent is not there again at once");
    world.pass(500);
    assert_eq!(world.ask(2, 0, 0, 5), 5);
    assert_eq!(world.ledger.charged(KEY), Permits(25));
}

#[test]
fn what_comes_back_unspent_is_there_again_and_what_lapses_is_not() {
    let mut world = World::new(30);
    world.ask(1, 0, 0, 30);
    world.ask(1, 10, 0, 0);
    assert_eq!(world.ask(2, 0, 0, 20), 20, "handed back by node 1");
    world.pass(3_999);
    assert_eq!(world.ask(3, 0, 0, 10), 10, "only what filled up beside the 20");
    world.pass(1);
    // The lease of node 2 has ended. What it held may have been spent a moment before.
    assert_eq!(world.ask(4, 0, 0, 1), 0);
    world.pass(1_000);
    assert_eq!(world.ask(4, 0, 0, 10), 10);
}

#[test]
fn a_lowered_burst_binds_at_once_and_a_raised_rate_from_then_on() {
    let mut world = World::new(30);
    world.ask(1, 0, 0, 10);
    world.set(2, 15, 10);
    let free = world.ledger.detail(KEY).expect("known").free;
    assert_eq!(free, Permits(5), "beside the 10 that are held");
    assert_eq!(world.ask(2, 0, 0, 5), 5);
    assert_eq!(world.ask(1, 10, 0, 0) + world.ask(2, 5, 0, 0), 0);
    world.set(3, 15, 1_000);
    world.pass(5);
    assert_eq!(world.ask(2, 5, 0, 1), 0, "the time before the change counts at the slower rate");
    world.pass(5);
    assert_eq!(world.ask(2, 5, 0, 5), 5);
}

#[test]
fn a_bucket_is_remembered_until_it_is_full() {
    let mut world = World::new(30);
    world.ask(1, 0, 0, 30);
    world.ask(1, 30, 0, 0);
    world.pass(2_999);
    world.pass(0);
    assert!(world.ledger.is_charged(), "29 of 30");
    world.pass(2_000);
    world.pass(0);
    assert!(!world.ledger.is_charged());
}

#[test]
fn a_bucket_that_nobody_holds_is_not_full_for_that() {
    let mut world = World::new(100);
    assert_eq!(world.ask(1, 0, 0, 100), 100);
    world.ask(1, 100, 0, 0);
    world.pass(4_500); // The lease is over; ten seconds would fill the bucket.
    world.pass(0);
    assert!(world.ask(2, 0, 0, 45) <= 45 && world.ask(3, 0, 0, 20) == 0, "45 came in 4.5 s");
}
