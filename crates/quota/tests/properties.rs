//! The ledger under arbitrary entries: what holds whatever is said to it.

use proptest::prelude::*;
use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Batch, Command, Entry, Item, Key, Kind, Outcome, Policy, RESERVE_TTL, Rate, Verdict};

const MAX: u64 = 100;

fn key(limit: u64, subject: u128) -> Key {
    Key { limit: LimitId(limit), subject: Subject(subject) }
}

/// Small numbers mostly, and those that overflow.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..60_u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn span() -> impl Strategy<Value = Nanos> {
    prop_oneof![6 => (0..3_000_u64).prop_map(Nanos::from_millis), 1 => Just(Nanos::MAX), 1 => any::<u64>().prop_map(Nanos)]
}

prop_compose! {
    fn item()(
        limit in 1..4_u64, subject in 0..3_u128, epoch in 0..3_u64,
        spent in number(), have in number(), want in number(), waiting in number(),
        reserve in any::<bool>(), reserved in number(),
    ) -> Item {
        let key = key(limit, subject);
        let (spent, have, want) = (Permits(spent), Permits(have), Permits(want));
        Item { key, epoch, spent, have, want, waiting: Permits(waiting), reserve, reserved: Permits(reserved) }
    }
}

prop_compose! {
    fn batch()(
        node in 1..6_u64, incarnation in 0..2_u128, seq in number(), items in prop::collection::vec(item(), 0..6),
    ) -> Batch {
        Batch { node: NodeId(node), incarnation: Incarnation(incarnation), seq, items }
    }
}

fn policies() -> impl Strategy<Value = Command> {
    let policy = (1..4_u64, number(), span(), span());
    let policy =
        policy.prop_map(|(limit, max, window, ttl)| Policy::sliding(LimitId(limit), Permits(max), window, ttl));
    (0..12_u64, prop::collection::vec(policy, 0..4)).prop_map(|(revision, policies)| match revision {
        9.. => Command::PreparePolicies { policies },
        _ => Command::SetPolicies { revision: Revision(revision), policies },
    })
}

/// Anything a peer, a leader or a corrupt disk could put in the log.
fn hostile() -> impl Strategy<Value = Entry> {
    let command = prop_oneof![
        6 => prop::collection::vec(batch(), 0..4).prop_map(Command::Batches),
        2 => policies(),
        1 => Just(Command::Tick),
        1 => (1..6_u64).prop_map(|node| Command::RemoveNode { node: NodeId(node) }),
    ];
    (span(), command).prop_map(|(dt, command)| Entry { dt, command })
}

fn publish() -> Entry {
    let policy = |limit| {
        let plain = Policy::sliding(LimitId(limit), Permits(MAX), Nanos::SECOND, Nanos::from_secs(4));
        let kind = Kind::Smooth { rate: Rate { permits: 90 * MAX, per: Nanos::SECOND } };
        if limit == 3 { Policy { kind, ..plain } } else { plain }
    };
    let policies = (1..4).map(policy).collect();
    Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } }
}

fn applied(entries: &[Entry]) -> (Ledger, Vec<Outcome>) {
    let mut ledger = Ledger::default();
    ledger.apply(&publish());
    let outcomes = entries.iter().map(|entry| ledger.apply(entry)).collect();
    (ledger, outcomes)
}

fn restored(ledger: &Ledger) -> Ledger {
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(ledger, config).expect("plain data");
    bincode::serde::decode_from_slice(&bytes, config).expect("what it wrote").0
}

fn granted(outcome: &Outcome) -> u64 {
    let answers = outcome.replies.iter().flat_map(|reply| &reply.items);
    let granted = answers.map(|answer| match answer.verdict {
        Verdict::Lease { granted, .. } | Verdict::Dated { granted, .. } => granted.0,
        Verdict::Shared { granted, .. } => granted.0,
        Verdict::Reset | Verdict::Unknown => 0,
    });
    granted.fold(0, u64::saturating_add)
}

fn keys() -> impl Iterator<Item = Key> {
    (1..4).flat_map(|limit| (0..3).map(move |subject| key(limit, subject)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_in_the_log_makes_it_panic(entries in prop::collection::vec(hostile(), 0..60)) {
        applied(&entries);
    }

    #[test]
    fn every_replica_and_every_restart_end_in_the_same_state(
        entries in prop::collection::vec(hostile(), 0..60), cut in 0..60_usize,
    ) {
        let (whole, outcomes) = applied(&entries);
        let cut = cut.min(entries.len());
        let (first, _) = applied(&entries[..cut]);
        let mut second = restored(&first);
        prop_assert_eq!(&second, &first);
        for (entry, outcome) in entries[cut..].iter().zip(&outcomes[cut..]) {
            prop_assert_eq!(&second.apply(entry), outcome);
        }
        prop_assert_eq!(second, whole);
    }

    #[test]
    fn a_grant_never_lifts_the_charge_above_the_limit(
        batches in prop::collection::vec((0..800_u64, batch()), 0..80),
    ) {
        let (mut ledger, _) = applied(&[]);
        for (millis, batch) in batches {
            let item = batch.items.first().copied();
            // One item at a time: what is charged before and after is then this item's doing.
            let batch = Batch { items: item.into_iter().collect(), ..batch };
            let dt = Nanos::from_millis(millis);
            let outcome = ledger.apply(&Entry { dt, command: Command::Batches(vec![batch]) });
            if let Some(item) = item && granted(&outcome) > 0 {
                prop_assert!(ledger.charged(item.key) <= Permits(MAX), "{:?}", ledger.charged(item.key));
            }
        }
    }

    #[test]
    fn only_what_a_node_itself_claims_can_overcharge(batches in prop::collection::vec((0..800_u64, batch()), 0..80)) {
        let (mut ledger, _) = applied(&[]);
        for (millis, mut batch) in batches {
            // Honest nodes of which the ledger knows nothing: they only ask.
            for item in &mut batch.items {
                (item.spent, item.have) = (Permits::ZERO, Permits::ZERO);
            }
            ledger.apply(&Entry { dt: Nanos::from_millis(millis), command: Command::Batches(vec![batch]) });
            for key in keys() {
                prop_assert!(ledger.charged(key) <= Permits(MAX));
            }
        }
    }

    #[test]
    fn once_time_has_passed_nothing_is_left(entries in prop::collection::vec((0..3_000_u64, batch()), 0..60)) {
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(millis, batch)| Entry { dt: Nanos::from_millis(millis), command: Command::Batches(vec![batch]) })
            .collect();
        let (mut ledger, _) = applied(&entries);
        ledger.apply(&Entry { dt: RESERVE_TTL.saturating_add(Nanos::from_secs(10)), command: Command::Tick });
        prop_assert!(!ledger.is_charged());
        prop_assert_eq!(ledger.views().count(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn its_state_stays_small_however_long_it_is_asked(seed in any::<u64>()) {
        let (mut ledger, _) = applied(&[]);
        let mut number = seed;
        for seq in 1..4_000 {
            number = number.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let waiting = Permits(2 + number % 90);
            let item = Item {
                key: key(1, 0),
                epoch: 0,
                spent: Permits::ZERO,
                have: Permits::ZERO,
                want: Permits(number >> 50),
                waiting,
                reserve: true,
                reserved: Permits::ZERO,
            };
            // A node per batch, again and again: every one of them wants something large held for it.
            let batch = Batch { node: NodeId(number >> 32 & 31), incarnation: Incarnation(1), seq, items: vec![item] };
            ledger.apply(&Entry { dt: Nanos::from_millis(7), command: Command::Batches(vec![batch]) });
        }
        // 32 nodes' records, a ring of 258 buckets, 16 held costs, reserves up to a quarter: a few kilobytes, never more.
        let bytes = bincode::serde::encode_to_vec(&ledger, bincode::config::standard()).expect("plain data");
        prop_assert!(bytes.len() < 8_192, "{} bytes", bytes.len());
    }
}
