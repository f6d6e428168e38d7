//! A ledger that takes the place of another one, whose last grants nobody knows.

use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::ledger::reborn::Budgets;
use tidegate_quota::protocol::{
    Batch, Budget, Command, Entry, Item, Key, Kind, LEASE_TTL, Opening, Orders, Period, Policy, Rate, Reset, Span,
    Unit, Verdict,
};

const MAX: Permits = Permits(20);
const W: Nanos = Nanos::from_secs(10);
/// 2026-01-01 00:00 UTC.
const NOW: Millis = Millis(1_767_225_600_000);

fn key(limit: u64) -> Key {
    Key { limit: LimitId(limit), subject: Subject(7) }
}

fn policy(limit: u64, kind: Kind) -> Policy {
    Policy { limit: LimitId(limit), max: MAX, ttl: LEASE_TTL, kind }
}

fn calendar(limit: u64, period: Period) -> Policy {
    policy(limit, Kind::Calendar { period, zone: "UTC".into() })
}

/// 1: a window, 2: a bucket, 3: places, 4: a minute, 5: a day, 6: a budget.
fn ledger() -> Ledger {
    let budget =
        Budget { period: Period::Day, zone: "UTC".into(), unit: Unit::Count, carry: Permits::ZERO, alerts: Vec::new() };
    let policies = vec![
        policy(1, Kind::Sliding { window: W }),
        policy(2, Kind::Bucket { rate: Rate { permits: 2, per: Nanos::SECOND } }),
        policy(3, Kind::Concurrency),
        calendar(4, Period::Minute),
        calendar(5, Period::Day),
        policy(6, Kind::Budget(budget)),
    ];
    let mut ledger = Ledger::default();
    apply(&mut ledger, Nanos::SECOND, Command::SetPolicies { revision: Revision(1), policies });
    open_windows(&mut ledger, NOW);
    ledger
}

fn open_windows(ledger: &mut Ledger, now: Millis) {
    let due: Vec<Opening> = ledger.due_windows(now);
    apply(ledger, Nanos::ZERO, Command::OpenWindows(due));
}

fn apply(ledger: &mut Ledger, dt: Nanos, command: Command) -> tidegate_quota::protocol::Outcome {
    ledger.apply(&Entry { dt, command })
}

/// What a node is granted that wants so much at once.
fn ask(ledger: &mut Ledger, limit: u64, node: u64, seq: u64, want: u64) -> u64 {
    let zero = Permits::ZERO;
    let (want, waiting) = (Permits(want), Permits(1));
    let item =
        Item { key: key(limit), epoch: 1, spent: zero, have: zero, want, waiting, reserve: false, reserved: zero };
    let batch = Batch { node: NodeId(node), incarnation: Incarnation(u128::from(node)), seq, items: vec![item] };
    let outcome = apply(ledger, Nanos::ZERO, Command::Batches(vec![batch]));
    match outcome.replies[0].items[0].verdict {
        Verdict::Lease { granted, .. } | Verdict::Dated { granted, .. } => granted.0,
        other => panic!("{other:?}"),
    }
}

fn pass(ledger: &mut Ledger, time: Nanos) {
    apply(ledger, time, Command::Tick);
}

#[test]
fn a_window_a_bucket_and_places_are_closed_until_nothing_unknown_can_count_any_more() {
    let (mut reborn, reckoned) = ledger().reborn(NOW, Budgets::GoOn);
    assert_eq!(reckoned[0].closed_for, LEASE_TTL.saturating_add(W));
    assert!(reborn.is_charged(), "time must pass for it, though nobody asks");
    for limit in 1..=3 {
        assert_eq!(ask(&mut reborn, limit, 9, 1, 5), 0, "limit {limit}");
        assert_eq!(reborn.charged(key(limit)), MAX);
    }
    pass(&mut reborn, Nanos(LEASE_TTL.0 - 1));
    assert_eq!([1, 2, 3].map(|limit| ask(&mut reborn, limit, 9, 2, 5)), [0, 0, 0]);
    pass(&mut reborn, Nanos(1));
    // Places are free again when no lease lives. A bucket begins empty then.
    assert_eq!([1, 2, 3].map(|limit| ask(&mut reborn, limit, 9, 3, 5)), [0, 0, 5]);
    pass(&mut reborn, Nanos::SECOND);
    assert_eq!([1, 2].map(|limit| ask(&mut reborn, limit, 9, 4, 5)), [0, 2]);
    pass(&mut reborn, Nanos(W.0 - Nanos::SECOND.0 - 1));
    assert_eq!(ask(&mut reborn, 1, 9, 5, 5), 0);
    pass(&mut reborn, Nanos(1));
    assert_eq!(ask(&mut reborn, 1, 9, 6, 5), 5);
}

#[test]
fn a_key_that_is_first_heard_of_while_it_is_closed_is_closed_as_well_and_open_later() {
    let (mut reborn, _) = ledger().reborn(NOW, Budgets::GoOn);
    pass(&mut reborn, LEASE_TTL);
    assert_eq!(ask(&mut reborn, 1, 9, 1, 5), 0);
    assert_eq!(ask(&mut reborn, 2, 9, 1, 5), 0, "empty, as if it had been asked from the beginning");
    pass(&mut reborn, W);
    let other = Key { subject: Subject(8), ..key(1) };
    assert_eq!(reborn.charged(other), Permits::ZERO);
    assert!(
        !ledger().reborn(NOW, Budgets::GoOn).0.lasting().views_after(None, 9).iter().any(|view| view.key.limit.0 == 1)
    );
}

#[test]
fn budgets_and_days_go_on_and_what_was_held_counts_as_spent() {
    let mut ledger = ledger();
    for limit in [5, 6] {
        assert_ne!(ask(&mut ledger, limit, 1, 1, 1), 0);
    }
    let held: Vec<u64> = [5, 6].map(|limit| ledger.charged(key(limit)).0).to_vec();
    let (mut reborn, reckoned) = ledger.reborn(NOW, Budgets::GoOn);
    assert_eq!(reckoned[5].held[&NodeId(1)].0, held[1]);
    assert!(!reckoned[5].is_closed && !reckoned[4].is_closed && reckoned[3].is_closed);
    for (limit, held) in [5, 6].into_iter().zip(held) {
        assert_eq!(reborn.charged(key(limit)), Permits(held));
        pass(&mut reborn, Nanos::from_secs(60));
        assert_eq!(reborn.charged(key(limit)), Permits(held), "time does not bring it back");
        let mut sum = 0;
        for seq in 1..=40 {
            sum += ask(&mut reborn, limit, 8 + seq, 1, 1);
        }
        assert_eq!(sum + held, MAX.0);
    }
}

#[test]
fn a_minute_is_closed_until_the_next_one_begins_and_so_is_a_budget_that_shall_be() {
    let (mut reborn, _) = ledger().reborn(NOW, Budgets::Close);
    for limit in [4, 5, 6] {
        assert_eq!(ask(&mut reborn, limit, 9, 1, 5), 0, "limit {limit}");
    }
    open_windows(&mut reborn, Millis(NOW.0 + 60_000));
    assert_ne!(ask(&mut reborn, 4, 9, 2, 5), 0);
    assert_eq!([5, 6].map(|limit| ask(&mut reborn, limit, 9, 2, 5)), [0, 0]);
    open_windows(&mut reborn, Millis(NOW.0 + 86_400_000));
    assert_ne!(ask(&mut reborn, 6, 9, 3, 5), 0);
}

#[test]
fn a_window_that_begins_after_the_last_known_entry_is_closed_too() {
    // The lost cluster lived for ten minutes more: the minute it was in at last is not in its ledger.
    let (mut reborn, _) = ledger().reborn(Millis(NOW.0 + 600_000), Budgets::GoOn);
    assert_eq!(ask(&mut reborn, 4, 9, 1, 5), 0);
    open_windows(&mut reborn, Millis(NOW.0 + 600_000));
    assert_eq!(ask(&mut reborn, 4, 9, 2, 5), 0);
    open_windows(&mut reborn, Millis(NOW.0 + 660_000));
    assert_ne!(ask(&mut reborn, 4, 9, 3, 5), 0);
}

#[test]
fn an_operator_who_knows_better_opens_a_limit_by_a_reset() {
    let (mut reborn, _) = ledger().reborn(NOW, Budgets::GoOn);
    assert_eq!(ask(&mut reborn, 1, 9, 1, 5), 0);
    let resets = vec![Reset { id: 1, limit: LimitId(1), subject: None }];
    apply(&mut reborn, Nanos::ZERO, Command::SetOrders(Orders { epoch: 1, resets, ..Orders::default() }));
    assert_eq!(ask(&mut reborn, 1, 9, 2, 5), 5);
    assert_eq!(reborn.charged(Key { subject: Subject(8), ..key(1) }), Permits::ZERO);
}

#[test]
fn it_is_written_and_read_as_it_is() {
    let config = bincode::config::standard();
    let (mut reborn, _) = ledger().reborn(NOW, Budgets::Close);
    ask(&mut reborn, 1, 9, 1, 5);
    let bytes = bincode::serde::encode_to_vec(&reborn, config).expect("plain data");
    let (read, used): (Ledger, _) = bincode::serde::decode_from_slice(&bytes, config).expect("as written");
    assert_eq!((read, used), (reborn, bytes.len()));
    assert_eq!(Span { start: NOW, end: NOW }.number(), NOW.0 / 60_000);
}

#[test]
fn a_limit_that_is_withdrawn_and_comes_back_is_closed_still() {
    let (mut reborn, _) = ledger().reborn(NOW, Budgets::GoOn);
    // A long window: longer than a withdrawn policy is kept for.
    let long = policy(1, Kind::Sliding { window: Nanos::from_secs(600) });
    let set = |revision, policies: &[Policy]| Command::SetPolicies {
        revision: Revision(revision),
        policies: policies.to_vec(),
    };
    apply(&mut reborn, Nanos::ZERO, set(2, std::slice::from_ref(&long)));
    apply(&mut reborn, Nanos::ZERO, set(3, &[]));
    pass(&mut reborn, Nanos::from_secs(200));
    apply(&mut reborn, Nanos::ZERO, set(4, &[long]));
    assert_eq!(ask(&mut reborn, 1, 9, 1, 5), 0);
    pass(&mut reborn, Nanos::from_secs(404));
    assert_ne!(ask(&mut reborn, 1, 9, 2, 5), 0);
}
