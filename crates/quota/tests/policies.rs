//! Which limits are in force: those of the document that was published, and no others.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key, LEASE_TTL, Policy, Verdict};

const OLD: LimitId = LimitId(1);
const NEW: LimitId = LimitId(2);

fn policy(limit: LimitId, max: u64) -> Policy {
    Policy::sliding(limit, Permits(max), Nanos::SECOND, LEASE_TTL)
}

fn apply(ledger: &mut Ledger, seconds: u64, command: Command) {
    ledger.apply(&Entry { dt: Nanos::from_secs(seconds), command });
}

fn set(ledger: &mut Ledger, revision: u64, policies: &[Policy]) {
    apply(ledger, 0, Command::SetPolicies { revision: Revision(revision), policies: policies.to_vec() });
}

fn prepare(ledger: &mut Ledger, policies: &[Policy]) {
    apply(ledger, 0, Command::PreparePolicies { policies: policies.to_vec() });
}

/// What a node that wants everything is granted at once; `None`: no such limit.
fn granted(ledger: &Ledger, limit: LimitId) -> Option<u64> {
    let key = Key { limit, subject: Subject(7) };
    let zero = Permits::ZERO;
    let (want, waiting) = (Permits(1_000), Permits(1));
    let item = Item { key, epoch: 1, spent: zero, have: zero, want, waiting, reserve: false, reserved: zero };
    let batch = Batch { node: NodeId(1), incarnation: Incarnation(1), seq: 1, items: vec![item] };
    let entry = Entry { dt: Nanos::ZERO, command: Command::Batches(vec![batch]) };
    match ledger.clone().apply(&entry).replies[0].items[0].verdict {
        Verdict::Lease { granted, .. } | Verdict::Dated { granted, .. } => Some(granted.0),
        Verdict::Unknown => None,
        Verdict::Shared { .. } => panic!("of a smooth limit"),
        Verdict::Reset => panic!("nothing was claimed"),
    }
}

#[test]
fn an_announced_document_changes_nothing_that_is_in_force() {
    let mut ledger = Ledger::default();
    set(&mut ledger, 1, &[policy(OLD, 10)]);
    for max in [1, 1_000] {
        prepare(&mut ledger, &[policy(OLD, max)]);
        assert_eq!(granted(&ledger, OLD), Some(10));
    }
    prepare(&mut ledger, &[policy(NEW, 5)]); // Without OLD: nor is anything withdrawn.
    assert_eq!(granted(&ledger, OLD), Some(10));
    assert_eq!(ledger.revision(), Revision(1));
    assert!(ledger.policies().eq(&[policy(OLD, 10)]));
}

#[test]
fn a_new_limit_is_there_for_the_first_node_that_serves_its_document() {
    let mut ledger = Ledger::default();
    assert_eq!(granted(&ledger, NEW), None);
    prepare(&mut ledger, &[policy(NEW, 5)]);
    assert_eq!(granted(&ledger, NEW), Some(5));
    set(&mut ledger, 1, &[policy(NEW, 5)]);
    apply(&mut ledger, 3_600, Command::Tick);
    assert_eq!(granted(&ledger, NEW), Some(5));
}

#[test]
fn of_a_document_that_never_came_no_trace_stays() {
    let mut ledger = Ledger::default();
    set(&mut ledger, 1, &[policy(OLD, 10)]);
    prepare(&mut ledger, &[policy(OLD, 99), policy(NEW, 5)]);
    apply(&mut ledger, 61, Command::Tick);
    assert_eq!(granted(&ledger, NEW), None);
    assert!(ledger.policies().eq(&[policy(OLD, 10)]));
}

#[test]
fn of_two_documents_that_nobody_published_yet_the_smaller_maximum_counts() {
    let mut ledger = Ledger::default();
    prepare(&mut ledger, &[policy(NEW, 5)]);
    prepare(&mut ledger, &[policy(NEW, 50)]);
    assert_eq!(granted(&ledger, NEW), Some(5));
    set(&mut ledger, 1, &[policy(NEW, 50)]);
    assert_eq!(granted(&ledger, NEW), Some(50));
}
