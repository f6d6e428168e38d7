//! Directed scenarios, for promises that random faults break too rarely, or that no window tells of.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::holding::Surroundings;
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key, LEASE_TTL, Policy, Verdict, oldest_decided};
use tidegate_quota::{Cell, Holding, Ledger, guard};

use crate::sim::{Scenario, run};

type Check = (&'static str, fn() -> Result<(), String>);

pub const ALL: &[Check] = &[
    ("an idle cluster forgets what nobody uses", idle_cluster_forgets),
    ("a key that comes back is served", returning_key_is_served),
    ("a new process frees nothing of the one before", new_process_frees_nothing),
    ("small limits are used, with few messages", small_limits_are_used),
    ("nothing is granted to who asked long ago", nothing_for_who_asked_long_ago),
];

fn idle_cluster_forgets() -> Result<(), String> {
    nothing_broken(Scenario::deserted(1))
}

fn returning_key_is_served() -> Result<(), String> {
    let verdict = run(Scenario::forgetful(1));
    match verdict.refused {
        0 => Ok(()),
        refused => Err(format!("{refused} of {} were refused, far below the limit", verdict.asked)),
    }
}

/// A process is granted all there is, spends it, and dies before it reports. The next one begins with nothing.
fn new_process_frees_nothing() -> Result<(), String> {
    let key = Key { limit: LimitId(1), subject: Subject(1) };
    let mut ledger = Ledger::default();
    let policies = vec![Policy::sliding(key.limit, Permits(10), Nanos::SECOND, LEASE_TTL)];
    ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
    let mut ask = |process: u128, seq| {
        let incarnation = Incarnation(if guard!("incarnation-is-new") { process } else { 0 });
        let (cell, mut holding) = (Cell::default(), Holding::new(key, 1));
        let around = Surroundings {
            now: Nanos::SECOND,
            window: Nanos::SECOND,
            max: Permits(10),
            missed: Permits(10),
            waiting: Permits(10),
            queued: Permits(10),
            recalled: false,
            reserve: false,
            leaving: false,
        };
        let batch = Batch { node: NodeId(1), incarnation, seq, items: vec![holding.report(&cell, seq, around)] };
        let entry = Entry { dt: Nanos::from_millis(5), command: Command::Batches(vec![batch]) };
        match ledger.apply(&entry).replies[0].items.first().map(|answer| answer.verdict) {
            Some(Verdict::Lease { granted, .. }) => granted.0,
            _ => 0,
        }
    };
    match (ask(1, 1), ask(2, 2)) {
        (10, 0) => Ok(()),
        (first, second) => Err(format!("granted {first} and then {second} of 10")),
    }
}

/// A leader that stopped finds a batch whose node is gone by now. Granted all there is, that would be nobody's for D and W.
fn nothing_for_who_asked_long_ago() -> Result<(), String> {
    let key = Key { limit: LimitId(1), subject: Subject(1) };
    let mut ledger = Ledger::default();
    let policies = vec![Policy::sliding(key.limit, Permits(10), Nanos::SECOND, LEASE_TTL)];
    ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
    let item = Item {
        key,
        epoch: 1,
        spent: Permits::ZERO,
        have: Permits::ZERO,
        want: Permits(10),
        waiting: Permits(10),
        reserve: false,
        reserved: Permits::ZERO,
    };
    let batch =
        |node| Batch { node: NodeId(node), incarnation: Incarnation(u128::from(node)), seq: 1, items: vec![item] };
    let now = Nanos::from_secs(100);
    let inbox = [
        (now.saturating_sub(Nanos::from_millis(1_001)), batch(1)),
        (now.saturating_sub(Nanos::from_millis(999)), batch(2)),
    ];
    let oldest = oldest_decided(now, LEASE_TTL);
    let batches = inbox.into_iter().filter(|(since, _)| *since >= oldest).map(|(_, batch)| batch).collect();
    let outcome = ledger.apply(&Entry { dt: Nanos::from_millis(5), command: Command::Batches(batches) });
    let last = outcome.replies.last().and_then(|reply| reply.items.first()).map(|answer| answer.verdict);
    match last {
        Some(Verdict::Lease { granted: Permits(10), .. }) => Ok(()),
        other => Err(format!("a batch of a moment ago is told {other:?}")),
    }
}

/// 20 permits a second for 20 nodes, at twice that: an ideal central counter would use all of it, and a lease for each
/// node asks the leader seven times for each request.
fn small_limits_are_used() -> Result<(), String> {
    let verdict = run(Scenario::scarce(1, 20, 2.0));
    let (used, batches) = (verdict.utilisation, verdict.batches as f64 / verdict.asked as f64);
    if used < 0.93 {
        return Err(format!("only {used:.3} of the limit was admitted"));
    }
    if batches > 4.0 { Err(format!("{batches:.1} batches for a request")) } else { Ok(()) }
}

fn nothing_broken(scenario: Scenario) -> Result<(), String> {
    run(scenario).broken.into_iter().next().map_or(Ok(()), Err)
}
