use proptest::prelude::*;
use tidegate_model::{KeyId, Millis, NodeId};

use super::*;
use crate::{CreateKey, Form, Purge, RequestId, State};

fn ann() -> By {
    let actor = Actor::Token { id: 4, name: "ann".into(), role: Role::Operator };
    By { actor, address: "10.0.0.9".into(), request: "r-1".into() }
}

fn propose(state: &mut State, request: u128, by: Option<By>, command: Command) -> Outcome {
    let at = Millis(1_000 + u64::try_from(request).unwrap());
    state.apply(10 + u64::try_from(request).unwrap(), &Proposal { request: RequestId(request), at, command, by }).0
}

fn key(n: u8) -> Command {
    Command::CreateKey(CreateKey {
        tenant: "default".into(),
        consumer: "acme".into(),
        name: "ci".into(),
        hash: [n; 32],
        prefix: "tg_abc".into(),
        expires_at: None,
    })
}

/// As whoever checks a listing does it.
fn verified(audit: &Audit) -> Result<u64, u64> {
    let (mut seq, mut previous) = audit.before();
    for record in audit.records() {
        if record.seq != seq + 1 || record.follows(&previous) != record.hash {
            return Err(record.seq);
        }
        (seq, previous) = (record.seq, record.hash);
    }
    Ok(seq)
}

#[test]
fn whoever_changed_something_stands_in_the_records_once() {
    let mut state = State::default();
    propose(&mut state, 1, Some(ann()), key(1));
    propose(&mut state, 1, Some(ann()), key(1));
    propose(&mut state, 2, Some(ann()), key(1));
    propose(&mut state, 3, Some(By::node(NodeId(2))), Command::RevokeKey { id: KeyId(1) });
    propose(&mut state, 4, None, key(2));
    propose(&mut state, 5, Some(By::node(NodeId(2))), Command::LapseOrders);
    let told: Vec<_> = state.later.audit.records().collect();
    let lines: Vec<String> = told
        .iter()
        .map(|r| {
            format!("{} {} {} {} {} {}: {}", r.seq, r.index, r.by.actor.name(), r.action, r.target, r.detail, r.result)
        })
        .collect();
    assert_eq!(
        lines,
        [
            "1 11 ann key.create key 1 tg_abc… of default/acme ci: done",
            "2 12 ann key.create key tg_abc… of default/acme ci: refused: it exists already",
            "3 13 node 2 key.revoke key 1 : done",
        ]
    );
    assert_eq!(verified(&state.later.audit), Ok(3));
    assert_eq!((told[0].by.address.as_str(), told[0].at), ("10.0.0.9", Millis(1_001)));
}

#[test]
fn a_state_without_records_is_written_as_before_there_were_any() {
    let mut state = State::default();
    propose(&mut state, 1, None, key(1));
    let bare = bytes(&state);
    propose(&mut state, 2, Some(ann()), key(2));
    let longer = bytes(&state);
    let read: State = bincode::serde::decode_from_slice(&longer, bincode::config::standard()).unwrap().0;
    assert_eq!(read, state);
    let read: State = bincode::serde::decode_from_slice(&bare, bincode::config::standard()).unwrap().0;
    assert!(read.later.audit.is_new());
    let newest = bincode::serde::encode_to_vec(&read.ticket_keys, bincode::config::standard()).unwrap();
    assert!(bare.ends_with(&newest), "nothing stands behind the keys of tickets");
}

fn bytes(state: &State) -> Vec<u8> {
    bincode::serde::encode_to_vec(state, bincode::config::standard()).unwrap()
}

#[test]
fn no_secret_and_no_body_is_in_a_record() {
    let mut state = State::default();
    let form = Form {
        cluster: crate::ClusterId(1),
        name: "a".into(),
        addresses: crate::Addresses::default(),
        feature_level: 3,
        ca: vec![1],
        sealed_ca_key: b"sealed-ca-key".to_vec(),
        public_key: [0xAB; 32],
        admin_token: [0xCD; 32],
    };
    propose(&mut state, 1, Some(ann()), Command::Form(form));
    propose(&mut state, 2, Some(ann()), Command::PutSealed { name: "partner".into(), bytes: b"sealed-bytes".to_vec() });
    let url = "example.com/a?token=querysecret".to_owned();
    propose(&mut state, 3, Some(ann()), Command::Purge(vec![Purge::Url { tenant: "default".into(), url }]));
    let said =
        format!("{:?}", state.later.audit.records().map(|r| (&r.action, &r.target, &r.detail)).collect::<Vec<_>>());
    for secret in ["sealed-ca-key", "sealed-bytes", "querysecret", "cdcdcd", "ababab"] {
        assert!(!said.to_lowercase().contains(secret), "{secret} in {said}");
    }
    assert!(said.contains("sealed partner") && said.contains("example.com/a of default"), "{said}");
}

#[test]
fn the_oldest_are_forgotten_and_the_rest_still_fits() {
    let mut audit = Audit::default();
    let told = |n: usize| Told {
        action: "key.revoke",
        target: format!("key {n}"),
        detail: "x".repeat(400),
        result: "done".into(),
    };
    let count = MOST_BYTES / 400;
    (0..count).for_each(|n| audit.add(0, Millis(5), &ann(), told(n)));
    assert!(audit.records().len() < count);
    assert!(audit.bytes < MOST_BYTES as u64);
    assert_eq!(audit.bytes, audit.records().map(|record| record.size() as u64).sum::<u64>());
    assert_eq!(verified(&audit), Ok(count as u64));
    let (forgotten, before) = audit.before();
    assert_eq!(audit.previous(forgotten + 1), Some(before));
    assert_eq!(audit.previous(forgotten), None);
    assert_eq!(audit.after(forgotten + 2).next().map(|record| record.seq), Some(forgotten + 3));
    assert_eq!(audit.after(0).count(), audit.records().len());
    assert_eq!(audit.after(u64::MAX).count(), 0);
}

#[test]
fn long_names_are_cut() {
    let mut audit = Audit::default();
    let by = By { actor: Actor::Certificate { name: "ä".repeat(900), role: Role::Admin }, ..ann() };
    let long = || "é".repeat(900);
    let told = Told { action: "x", target: long(), detail: long(), result: long() };
    audit.add(0, Millis(5), &by, told);
    let record = audit.records().next().unwrap();
    for text in [&record.target, &record.detail, &record.result, &record.by.actor.name()] {
        assert!(text.len() <= MAX_TEXT && text.len() > MAX_TEXT - 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever of one record is changed, whichever is left out or moved: the first that does not fit is named.
    #[test]
    fn a_changed_record_is_found_and_named(count in 2..30_u64, at in any::<prop::sample::Index>(), how in 0..11_u8) {
        let mut state = State::default();
        for n in 0..count {
            let by = if n % 3 == 0 { By::node(NodeId(n)) } else { ann() };
            propose(&mut state, u128::from(n) + 1, Some(by), key(u8::try_from(n % 7).unwrap()));
        }
        prop_assert_eq!(verified(&state.later.audit), Ok(count));
        let mut audit = state.later.audit.clone();
        let at = at.index(usize::try_from(count).unwrap());
        let record = &mut audit.records[at];
        let mut named = record.seq;
        match how {
            0 => record.seq += 1,
            1 => record.index += 1,
            2 => record.at = Millis(record.at.0 + 1),
            3 => record.by.actor = Actor::Token { id: 5, name: "bob".into(), role: Role::Admin },
            4 => record.by.address.push('1'),
            5 => record.by.request.push('1'),
            6 => record.action.push('d'),
            7 => { let moved = record.target.pop().unwrap(); record.detail.insert(0, moved); }
            8 => record.result = "done, really".into(),
            9 => record.hash[31] ^= 1,
            _ => { audit.records.remove(at); named += 1; }
        }
        if how == 0 { named += 1; }
        let gone_at_the_end = how > 9 && at + 1 == usize::try_from(count).unwrap();
        if gone_at_the_end {
            prop_assert_eq!(verified(&audit), Ok(count - 1), "its end cannot be missed from the list alone: the head says so");
        } else {
            prop_assert_eq!(verified(&audit), Err(named));
        }
    }
}
