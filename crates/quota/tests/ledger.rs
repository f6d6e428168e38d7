//! What the ledger promises, as scripts: batches in, verdicts out.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key, LEASE_TTL, Outcome, Policy, RECALL_TAKES, Verdict};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const W: Nanos = Nanos::from_secs(1);

fn ledger(max: u64) -> Ledger {
    let mut ledger = Ledger::default();
    publish(&mut ledger, 1, max);
    ledger
}

fn publish(ledger: &mut Ledger, revision: u64, max: u64) {
    let policies = vec![Policy::sliding(KEY.limit, Permits(max), W, LEASE_TTL)];
    apply(ledger, 0, Command::SetPolicies { revision: Revision(revision), policies });
}

fn apply(ledger: &mut Ledger, millis: u64, command: Command) -> Outcome {
    ledger.apply(&Entry { dt: Nanos::from_millis(millis), command })
}

/// What a node says about KEY.
#[derive(Clone, Copy, Default)]
struct Say {
    node: u64,
    seq: u64,
    epoch: u64,
    spent: u64,
    have: u64,
    want: u64,
    waiting: u64,
    reserve: bool,
    reserved: u64,
}

fn say(ledger: &mut Ledger, millis: u64, say: Say) -> Option<Verdict> {
    let item = Item {
        key: KEY,
        epoch: say.epoch,
        spent: Permits(say.spent),
        have: Permits(say.have),
        want: Permits(say.want),
        waiting: Permits(say.waiting),
        reserve: say.reserve,
        reserved: Permits(say.reserved),
    };
    let batch = Batch { node: NodeId(say.node), incarnation: Incarnation(9), seq: say.seq, items: vec![item] };
    let outcome = apply(ledger, millis, Command::Batches(vec![batch]));
    outcome.replies[0].items.first().map(|answer| answer.verdict)
}

fn granted(verdict: Option<Verdict>) -> u64 {
    match verdict {
        Some(Verdict::Lease { granted, .. }) => granted.0,
        other => panic!("expected a lease, got {other:?}"),
    }
}

#[test]
fn it_never_charges_more_than_the_limit_whoever_asks() {
    let mut ledger = ledger(100);
    let mut sum = 0;
    for node in 1..=50 {
        sum += granted(say(&mut ledger, 0, Say { node, seq: 1, want: 40, waiting: 1, ..Say::default() }));
    }
    assert_eq!(sum, 100);
    assert_eq!(ledger.charged(KEY), Permits(100));
}

#[test]
fn a_permit_handed_back_is_free_at_once() {
    let mut ledger = ledger(10);
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() })), 10);
    say(&mut ledger, 0, Say { node: 1, seq: 2, spent: 4, have: 1, ..Say::default() });
    assert_eq!(ledger.charged(KEY), Permits(5));
}

#[test]
fn spend_is_charged_for_a_window_after_its_report() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    say(&mut ledger, 500, Say { node: 1, seq: 2, spent: 10, ..Say::default() });
    apply(&mut ledger, 999, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10));
    apply(&mut ledger, 1, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(0));
}

#[test]
fn what_a_silent_node_holds_stays_charged_for_its_lease_and_a_window() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    apply(&mut ledger, 4_999, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10));
    apply(&mut ledger, 1, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(0));
    assert!(!ledger.is_charged());
}

#[test]
fn a_report_of_a_lapsed_lease_renews_nothing() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    assert_eq!(say(&mut ledger, 5_000, Say { node: 1, seq: 2, have: 10, ..Say::default() }), Some(Verdict::Reset));
    assert_eq!(ledger.charged(KEY), Permits(0));
}

#[test]
fn repeated_and_late_batches_change_nothing() {
    let mut ledger = ledger(10);
    let first = Say { node: 1, seq: 1, want: 4, waiting: 4, ..Say::default() };
    assert_eq!(granted(say(&mut ledger, 0, first)), 4);
    say(&mut ledger, 0, Say { node: 1, seq: 2, spent: 1, have: 3, ..Say::default() });
    assert_eq!(say(&mut ledger, 0, first), None);
    assert_eq!(ledger.charged(KEY), Permits(4));
}

#[test]
fn a_lost_reply_costs_nothing_since_the_next_report_hands_its_grant_back() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 8, waiting: 8, ..Say::default() });
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 1, seq: 2, want: 10, waiting: 10, ..Say::default() })), 10);
    assert_eq!(ledger.charged(KEY), Permits(10));
}

#[test]
fn an_old_epoch_cannot_spend_from_a_new_one() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 4, waiting: 4, ..Say::default() });
    say(&mut ledger, 0, Say { node: 1, seq: 2, epoch: 1, want: 4, waiting: 4, ..Say::default() });
    assert_eq!(ledger.charged(KEY), Permits(8)); // The old one stays charged until it lapses.
    assert_eq!(say(&mut ledger, 0, Say { node: 1, seq: 3, epoch: 0, have: 4, ..Say::default() }), None);
}

#[test]
fn a_claim_beyond_what_was_granted_is_reset_and_still_charged() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 4, waiting: 4, ..Say::default() });
    let lie = Say { node: 1, seq: 2, spent: 3, have: 9, ..Say::default() };
    assert_eq!(say(&mut ledger, 0, lie), Some(Verdict::Reset));
    assert_eq!(ledger.charged(KEY), Permits(4));
    let absurd = Say { node: 1, seq: 3, spent: u64::MAX, have: u64::MAX, want: u64::MAX, ..Say::default() };
    assert_eq!(say(&mut ledger, 0, absurd), Some(Verdict::Reset));
    assert_eq!(ledger.charged(KEY), Permits(u64::MAX));
}

#[test]
fn a_large_cost_is_not_nibbled_away_by_small_ones() {
    let mut ledger = ledger(100);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 50, waiting: 50, ..Say::default() });
    say(&mut ledger, 0, Say { node: 1, seq: 2, spent: 50, ..Say::default() });
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 2, seq: 1, want: 80, waiting: 80, ..Say::default() })), 0);
    for seq in 3..20 {
        let small = Say { node: 1, seq, spent: 50, want: 1, waiting: 1, ..Say::default() };
        assert_eq!(granted(say(&mut ledger, 10, small)), 0);
    }
    let again = Say { node: 2, seq: 2, want: 80, waiting: 80, ..Say::default() };
    assert_eq!(granted(say(&mut ledger, 840, again)), 80);
}

#[test]
fn a_node_alone_on_a_key_has_it_to_itself_and_what_several_have_at_hand_leaves_as_much_free() {
    let mut ledger = ledger(100);
    let alone = Say { node: 1, seq: 1, want: 90, ..Say::default() };
    assert_eq!(granted(say(&mut ledger, 0, alone)), 90, "an exclusive lease");
    say(&mut ledger, 0, Say { node: 1, seq: 2, have: 10, ..Say::default() });
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 2, seq: 1, want: 90, ..Say::default() })), 40);
    let more = Say { node: 1, seq: 3, have: 10, want: 80, ..Say::default() };
    assert_eq!(granted(say(&mut ledger, 0, more)), 1, "fifty are held, fifty stay free for whoever waits");
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 3, seq: 1, want: 49, waiting: 49, ..Say::default() })), 49);
}

#[test]
fn a_starving_node_calls_idle_permits_back() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    let item = Item {
        key: KEY,
        epoch: 1,
        spent: Permits(0),
        have: Permits(0),
        want: Permits(1),
        waiting: Permits(1),
        reserve: false,
        reserved: Permits(0),
    };
    let batch = Batch { node: NodeId(2), incarnation: Incarnation(9), seq: 1, items: vec![item] };
    let outcome = apply(&mut ledger, 100, Command::Batches(vec![batch]));
    assert_eq!(outcome.recalls.iter().map(|recall| recall.node).collect::<Vec<_>>(), [NodeId(1)]);
}

#[test]
fn who_has_just_handed_all_back_is_not_gone() {
    let mut ledger = ledger(100);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, ..Say::default() });
    say(&mut ledger, 0, Say { node: 1, seq: 2, ..Say::default() }); // Called back.
    let other = Say { node: 2, seq: 1, want: 90, waiting: 1, ..Say::default() };
    assert_eq!(granted(say(&mut ledger, 5, other)), 51, "not all of it, back and forth");
    say(&mut ledger, 0, Say { node: 2, seq: 2, ..Say::default() });
    assert_eq!(granted(say(&mut ledger, 300, Say { seq: 3, ..other })), 90, "now it is");
}

#[test]
fn a_report_that_was_on_its_way_when_its_node_was_asked_is_no_answer() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    let retry = |verdict| match verdict {
        Some(Verdict::Lease { retry, .. }) => retry,
        other => panic!("{other:?}"),
    };
    let starves = Say { node: 2, want: 1, waiting: 1, ..Say::default() };
    assert_eq!(retry(say(&mut ledger, 100, Say { seq: 1, ..starves })), RECALL_TAKES, "node 1 is asked");
    say(&mut ledger, 1, Say { node: 1, seq: 2, have: 10, ..Say::default() });
    assert_eq!(retry(say(&mut ledger, 6, Say { seq: 2, ..starves })), RECALL_TAKES, "it may not have known");
    say(&mut ledger, 10, Say { node: 1, seq: 3, have: 10, ..Say::default() });
    assert!(retry(say(&mut ledger, 0, Say { seq: 3, ..starves })) > Nanos::SECOND, "it needs all of it");
}

#[test]
fn lowering_binds_at_once_for_new_grants_and_an_older_document_is_refused() {
    let mut ledger = ledger(100);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 60, waiting: 60, ..Say::default() });
    publish(&mut ledger, 3, 50);
    publish(&mut ledger, 2, 1_000);
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 2, seq: 1, want: 5, waiting: 1, ..Say::default() })), 0);
}

#[test]
fn a_removed_node_gets_nothing_and_what_it_held_stays_charged() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 4, waiting: 4, ..Say::default() });
    apply(&mut ledger, 0, Command::RemoveNode { node: NodeId(1) });
    let more = Say { node: 1, seq: 2, have: 4, want: 4, waiting: 1, ..Say::default() };
    assert_eq!(say(&mut ledger, 0, more), Some(Verdict::Reset));
    assert_eq!(ledger.charged(KEY), Permits(4));
}

#[test]
fn a_reserve_is_charged_whole_and_one_window_beyond_its_end() {
    let mut ledger = ledger(320);
    let ask = Say { node: 1, seq: 1, reserve: true, ..Say::default() };
    assert!(matches!(say(&mut ledger, 0, ask), Some(Verdict::Lease { reserve: Permits(10), .. })));
    assert_eq!(ledger.charged(KEY), Permits(10));
    say(&mut ledger, 0, Say { node: 1, seq: 2, ..Say::default() });
    assert_eq!(ledger.charged(KEY), Permits(10));
    apply(&mut ledger, 1_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(0));
}

#[test]
fn a_lease_above_a_lowered_limit_is_not_renewed_and_binds_within_its_time() {
    let mut ledger = ledger(100);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 60, waiting: 60, ..Say::default() });
    publish(&mut ledger, 2, 50);
    let held = Say { node: 1, seq: 2, have: 60, ..Say::default() };
    assert!(matches!(say(&mut ledger, 1_000, held), Some(Verdict::Lease { ttl: Nanos::ZERO, .. })));
    // Renewed, it would be charged until 6 s, and could be kept and spent for ever.
    apply(&mut ledger, 4_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(0));
}

#[test]
fn a_shortened_lease_stays_charged_for_as_long_as_its_holder_may_use_it() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    let policies = vec![Policy::sliding(KEY.limit, Permits(10), W, Nanos::from_secs(1))];
    apply(&mut ledger, 0, Command::SetPolicies { revision: Revision(2), policies });
    say(&mut ledger, 100, Say { node: 1, seq: 2, have: 10, ..Say::default() });
    apply(&mut ledger, 4_800, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10));
}

#[test]
fn a_reserve_above_a_lowered_limit_is_charged_until_its_node_gave_it_up() {
    let mut ledger = ledger(320);
    let ask = Say { node: 1, reserve: true, ..Say::default() };
    say(&mut ledger, 0, Say { seq: 1, ..ask });
    publish(&mut ledger, 2, 32);
    let told = say(&mut ledger, 0, Say { seq: 2, reserved: 10, ..ask });
    assert!(matches!(told, Some(Verdict::Lease { reserve: Permits(1), .. })));
    apply(&mut ledger, 3_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10)); // Its node may not have heard.
    say(&mut ledger, 0, Say { seq: 3, reserved: 1, ..ask });
    assert_eq!(ledger.charged(KEY), Permits(10)); // Nine may have been spent a moment ago.
    apply(&mut ledger, 1_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(1));
}

#[test]
fn late_batches_of_this_life_do_not_end_a_reserve() {
    let mut ledger = ledger(320);
    let wish = Say { node: 1, reserve: true, ..Say::default() };
    say(&mut ledger, 0, Say { seq: 7, ..wish });
    // The lease is forgotten, the reserve is not; then an old batch arrives that did not wish for one.
    apply(&mut ledger, 60_000, Command::Tick);
    say(&mut ledger, 0, Say { node: 1, seq: 3, ..Say::default() });
    apply(&mut ledger, 60_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10));
}

#[test]
fn late_batches_of_a_former_life_do_not_end_a_reserve() {
    let mut ledger = ledger(320);
    let speak = |ledger: &mut Ledger, incarnation, seq, reserve, reserved| {
        let item = Item {
            key: KEY,
            epoch: seq,
            spent: Permits(0),
            have: Permits(0),
            want: Permits(0),
            waiting: Permits(0),
            reserve,
            reserved: Permits(reserved),
        };
        let batch = Batch { node: NodeId(1), incarnation: Incarnation(incarnation), seq, items: vec![item] };
        apply(ledger, 0, Command::Batches(vec![batch]));
    };
    speak(&mut ledger, 1, 1, true, 0);
    speak(&mut ledger, 2, 1, true, 0); // Started anew: it inherits.
    speak(&mut ledger, 1, 8, true, 0);
    speak(&mut ledger, 1, 9, false, 0); // Late words of the first life.
    apply(&mut ledger, 60_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10));
    speak(&mut ledger, 2, 2, false, 0);
    apply(&mut ledger, 60_000, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(0));
}

#[test]
fn an_unknown_limit_is_named_as_such_and_keeps_no_state() {
    let mut ledger = Ledger::default();
    assert_eq!(say(&mut ledger, 0, Say { node: 1, seq: 1, ..Say::default() }), Some(Verdict::Unknown));
    assert!(!ledger.is_charged());
}

#[test]
fn a_grant_of_a_long_window_is_a_small_part_of_it() {
    let mut ledger = Ledger::default();
    let policies = vec![Policy::sliding(KEY.limit, Permits(1_600), Nanos::from_secs(3_600), LEASE_TTL)];
    apply(&mut ledger, 0, Command::SetPolicies { revision: Revision(1), policies });
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 1, seq: 1, want: 1_600, waiting: 1, ..Say::default() })), 100);
    assert_eq!(granted(say(&mut ledger, 0, Say { node: 1, seq: 2, have: 100, want: 1_600, ..Say::default() })), 1);
}

#[test]
fn a_large_cost_is_not_nibbled_away_by_its_own_nodes_small_ones() {
    let mut ledger = ledger(100);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 50, waiting: 50, ..Say::default() });
    say(&mut ledger, 0, Say { node: 1, seq: 2, spent: 50, ..Say::default() });
    for seq in 3..20 {
        let both = Say { node: 1, seq, spent: 50, want: 90, waiting: 80, ..Say::default() };
        assert_eq!(granted(say(&mut ledger, 10, both)), 0, "the fifty that are free wait for thirty more");
    }
    let again = Say { node: 1, seq: 20, spent: 50, want: 80, waiting: 80, ..Say::default() };
    assert_eq!(granted(say(&mut ledger, 840, again)), 80);
}

#[test]
fn a_shorter_window_under_the_same_id_forgets_nothing_early() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    say(&mut ledger, 0, Say { node: 1, seq: 2, spent: 10, ..Say::default() });
    let policies = vec![Policy::sliding(KEY.limit, Permits(10), Nanos::from_millis(100), LEASE_TTL)];
    apply(&mut ledger, 0, Command::SetPolicies { revision: Revision(2), policies });
    apply(&mut ledger, 500, Command::Tick);
    assert_eq!(ledger.charged(KEY), Permits(10));
}

#[test]
fn a_withdrawn_limit_that_comes_back_remembers_what_was_spent() {
    let mut ledger = ledger(10);
    say(&mut ledger, 0, Say { node: 1, seq: 1, want: 10, waiting: 10, ..Say::default() });
    // At 5 s the ledger looks at the key; spent this late, it is charged until 5.9 s.
    say(&mut ledger, 4_900, Say { node: 1, seq: 2, spent: 10, ..Say::default() });
    apply(&mut ledger, 10, Command::SetPolicies { revision: Revision(2), policies: Vec::new() });
    apply(&mut ledger, 140, Command::Tick);
    publish(&mut ledger, 3, 10);
    assert_eq!(ledger.charged(KEY), Permits(10));
}

#[test]
fn no_more_counts_are_remembered_than_there_is_room_for_and_who_has_one_keeps_it() {
    let mut ledger = Ledger::with_room_for(2);
    publish(&mut ledger, 1, 100);
    let mut seq = 0;
    let mut ask = |ledger: &mut Ledger, millis, subject, spent| {
        seq += 1;
        let key = Key { subject: Subject(subject), ..KEY };
        let [spent, have, want, waiting, reserved] = [spent, 0, 1, 1, 0].map(Permits);
        let item = Item { key, epoch: 1, spent, have, want, waiting, reserve: false, reserved };
        let batch = Batch { node: NodeId(1), incarnation: Incarnation(9), seq, items: vec![item] };
        apply(ledger, millis, Command::Batches(vec![batch])).replies[0].items[0].verdict
    };
    let got = |verdict| matches!(verdict, Verdict::Lease { granted, .. } if granted >= Permits(1));
    assert!(got(ask(&mut ledger, 0, 1, 0)) && got(ask(&mut ledger, 0, 2, 0)));
    assert_eq!(ask(&mut ledger, 0, 3, 0), Verdict::Unknown);
    assert!(got(ask(&mut ledger, 0, 2, 1)), "who is known goes on");
    assert_eq!(ledger.views().count(), 2);
    // What was held lapses, what was spent passes: then there is room.
    apply(&mut ledger, 20_000, Command::Tick);
    assert!(got(ask(&mut ledger, 0, 3, 0)));
}
