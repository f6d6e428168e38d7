//! The state as its users see it, and the two properties everything rests on.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tidegate_model::{KeyId, Millis, NodeId, Revision};
use tidegate_state::{
    Addresses, Change, ClusterId, Command, CreateKey, Form, Format, Join, Outcome, Proposal, Publish, RequestId, Role,
    State,
};

struct Log {
    state: State,
    next: u128,
    now: u64,
}

impl Log {
    fn new() -> Self {
        Self { state: State::default(), next: 1, now: 1000 }
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.next += 1;
        self.state.apply(0, &Proposal { request: RequestId(self.next), at: Millis(self.now), command, by: None }).0
    }
}

fn publish(text: &str, replaces: Option<u64>) -> Command {
    Command::PublishDocument(Publish {
        document: text.into(),
        format: Format::Yaml,
        replaces: replaces.map(Revision),
        author: "ann".into(),
        note: String::new(),
        policies: Revision(0),
    })
}

fn key(hash: u8) -> Command {
    Command::CreateKey(CreateKey {
        tenant: "default".into(),
        consumer: "acme".into(),
        name: "ci".into(),
        hash: [hash; 32],
        prefix: "tg_".into(),
        expires_at: None,
    })
}

fn join(token: u8) -> Command {
    Command::Join(Join {
        token: [token; 32],
        name: "b".into(),
        addresses: Addresses::default(),
        feature_level: 1,
        public_key: [1; 32],
    })
}

fn form() -> Command {
    Command::Form(Form {
        cluster: ClusterId(7),
        name: "a".into(),
        addresses: Addresses::default(),
        feature_level: 1,
        ca: vec![1],
        sealed_ca_key: vec![2],
        public_key: [0; 32],
        admin_token: [9; 32],
    })
}

#[test]
fn a_document_is_replaced_only_by_who_saw_the_current_one() {
    let mut log = Log::new();
    assert_eq!(log.apply(publish("one", Some(0))), Outcome::Published { revision: Revision(1) });
    assert_eq!(log.apply(publish("two", Some(0))), Outcome::Conflict { current: Revision(1) });
    assert_eq!(log.apply(publish("two", Some(1))), Outcome::Published { revision: Revision(2) });
    assert_eq!(log.apply(publish("three", None)), Outcome::Published { revision: Revision(3) });
    assert_eq!(&*log.state.documents.revision(Revision(1)).unwrap().document, "one");
    assert_eq!(&*log.state.documents.latest().unwrap().document, "three");
}

#[test]
fn history_is_bounded_by_count_and_by_size() {
    let mut log = Log::new();
    for _ in 0..150 {
        log.apply(publish("small", None));
    }
    assert_eq!(log.state.documents.history().count(), 100);
    let large = "x".repeat(16 << 20);
    for _ in 0..6 {
        log.apply(publish(&large, None));
    }
    assert_eq!(log.state.documents.history().count(), 4);
    assert!(matches!(log.apply(publish(&format!("{large}x"), None)), Outcome::TooLarge { .. }));
}

#[test]
fn asking_twice_does_once() {
    let mut state = State::default();
    let proposal = Proposal { request: RequestId(5), at: Millis(1), command: publish("one", None), by: None };
    let (first, changes) = state.apply(0, &proposal);
    assert_eq!(changes, [Change::Document(Revision(1))]);
    let (second, changes) = state.apply(0, &proposal);
    assert_eq!((first, changes.len()), (second, 0));
    assert_eq!(state.documents.current(), Revision(1));
}

#[test]
fn a_revoked_key_stays_revoked_and_its_id_is_never_reused() {
    let mut log = Log::new();
    assert_eq!(log.apply(key(1)), Outcome::KeyCreated { id: KeyId(1) });
    assert_eq!(log.apply(key(1)), Outcome::Duplicate);
    assert_eq!(log.apply(Command::RevokeKey { id: KeyId(1) }), Outcome::Done);
    assert_eq!(log.apply(Command::RevokeKey { id: KeyId(9) }), Outcome::NotFound);
    assert_eq!(log.apply(key(1)), Outcome::Duplicate, "a revoked credential cannot come back as a new key");
    assert_eq!(log.apply(key(2)), Outcome::KeyCreated { id: KeyId(2) });
    assert!(!log.state.keys.by_hash(&[1; 32]).unwrap().is_good(&[1; 32], Millis(0)));
    assert!(log.state.keys.by_hash(&[2; 32]).unwrap().is_good(&[2; 32], Millis(0)));
}

#[test]
fn a_rotated_key_works_with_both_secrets_until_the_grace_ends() {
    let mut log = Log::new();
    log.apply(key(1));
    let rotate = Command::RotateKey { id: KeyId(1), hash: [2; 32], prefix: "tg_2".into(), grace_until: Millis(50) };
    assert_eq!(log.apply(rotate), Outcome::Done);
    let good = |hash: u8, now| log.state.keys.by_hash(&[hash; 32]).unwrap().is_good(&[hash; 32], Millis(now));
    assert!(good(1, 49) && good(2, 49) && good(2, 51));
    assert!(!good(1, 50));
}

#[test]
fn join_tokens_are_spent_and_expire() {
    let mut log = Log::new();
    assert_eq!(log.apply(form()), Outcome::Joined { node: NodeId(1) });
    assert!(matches!(log.apply(form()), Outcome::Conflict { .. }), "a cluster is formed once");
    let token = |hash: u8, expires_at, uses| Command::CreateJoinToken { hash: [hash; 32], expires_at, uses };
    log.apply(token(1, Some(Millis(2000)), 1));
    assert_eq!(log.apply(join(3)), Outcome::TokenUnknown);
    assert_eq!(log.apply(join(1)), Outcome::Joined { node: NodeId(2) });
    assert_eq!(log.apply(join(1)), Outcome::TokenUsed);
    log.apply(token(2, Some(Millis(2000)), 5));
    log.now = 2000;
    assert_eq!(log.apply(join(2)), Outcome::TokenExpired);
    // A proposer with a slow clock does not turn time back.
    log.now = 10;
    assert_eq!(log.apply(join(2)), Outcome::TokenExpired);
}

#[test]
fn node_ids_are_never_reused() {
    let mut log = Log::new();
    log.apply(form());
    log.apply(Command::CreateJoinToken { hash: [1; 32], expires_at: None, uses: 9 });
    assert_eq!(log.apply(join(1)), Outcome::Joined { node: NodeId(2) });
    assert_eq!(log.apply(Command::RemoveNode { id: NodeId(2) }), Outcome::Done);
    assert!(log.state.members.was_removed(NodeId(2)));
    assert_eq!(log.apply(join(1)), Outcome::Joined { node: NodeId(3) });
    assert_eq!(log.state.members.removed().collect::<Vec<_>>(), [NodeId(2)]);
}

#[test]
fn a_key_may_have_a_plan_of_its_own_until_it_is_told_otherwise() {
    let mut log = Log::new();
    log.apply(form());
    let Command::CreateKey(create) = key(1) else { panic!("a key") };
    assert_eq!(
        log.apply(Command::CreateKeyOnPlan { key: create, plan: "gold".into() }),
        Outcome::KeyCreated { id: KeyId(1) }
    );
    assert_eq!(log.state.key_plans.of(KeyId(1)), Some("gold"));
    let set = |id, plan: Option<&str>| Command::SetKeyPlan { id: KeyId(id), plan: plan.map(str::to_owned) };
    assert_eq!(log.apply(set(1, Some("free"))), Outcome::Done);
    assert_eq!(log.state.key_plans.of(KeyId(1)), Some("free"));
    assert_eq!(log.apply(set(1, Some(""))), Outcome::TooLarge { limit: 256 });
    assert_eq!(log.apply(set(2, Some("free"))), Outcome::NotFound);
    assert_eq!(log.apply(set(1, None)), Outcome::Done);
    assert_eq!(log.state.key_plans.of(KeyId(1)), None);
    log.apply(Command::RevokeKey { id: KeyId(1) });
    assert_eq!(log.apply(set(1, Some("gold"))), Outcome::NotFound);
}

#[test]
fn nothing_secret_is_printed() {
    let mut log = Log::new();
    log.apply(form());
    log.apply(key(0xAB));
    log.apply(publish("password: hunter2", None));
    let printed = format!("{:?}", log.state);
    assert!(!printed.contains("hunter2") && !printed.contains("171, 171, 171"), "{printed}");
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = 0..6_u64;
    prop_oneof![
        Just(form()),
        ("[a-z]{0,9}", proptest::option::of(0..4_u64)).prop_map(|(text, replaces)| publish(&text, replaces)),
        (0..6_u8).prop_map(key),
        id.clone().prop_map(|id| Command::RevokeKey { id: KeyId(id) }),
        (id.clone(), proptest::option::of("[a-z]{0,3}"))
            .prop_map(|(id, plan)| Command::SetKeyPlan { id: KeyId(id), plan }),
        (0..6_u8, "[a-z]{0,3}").prop_map(|(hash, plan)| match key(hash) {
            Command::CreateKey(key) => Command::CreateKeyOnPlan { key, plan },
            other => other,
        }),
        (id.clone(), 0..9_u8, 0..3000_u64).prop_map(|(id, hash, until)| Command::RotateKey {
            id: KeyId(id),
            hash: [hash; 32],
            prefix: "tg".into(),
            grace_until: Millis(until),
        }),
        (0..3_u8).prop_map(join),
        id.clone().prop_map(|id| Command::RemoveNode { id: NodeId(id) }),
        (id.clone(), 0..4_u32).prop_map(|(id, feature_level)| Command::UpdateNode {
            id: NodeId(id),
            addresses: Addresses { peer: "p".into(), ..Addresses::default() },
            feature_level,
        }),
        (0..3_u8, proptest::option::of(0..3000_u64), 0..3_u32).prop_map(|(hash, end, uses)| Command::CreateJoinToken {
            hash: [hash; 32],
            expires_at: end.map(Millis),
            uses,
        }),
        (0..3_u8).prop_map(|hash| Command::RevokeJoinToken { hash: [hash; 32] }),
        (0..4_u8).prop_map(|hash| Command::CreateAdminToken {
            hash: [hash; 32],
            name: "ops".into(),
            role: Role::Operator,
            expires_at: None,
        }),
        id.prop_map(|id| Command::RevokeAdminToken { id }),
        "[ab]".prop_map(|name| Command::PutSealed { bytes: name.clone().into_bytes(), name }),
        "[ab]".prop_map(|name| Command::RemoveSealed { name }),
    ]
}

fn any_log() -> impl Strategy<Value = Vec<Proposal>> {
    let proposal = (0..40_u128, 0..3000_u64, any_command()).prop_map(|(request, at, command)| Proposal {
        request: RequestId(request),
        at: Millis(at),
        command,
        by: None,
    });
    proptest::collection::vec(proposal, 0..60)
}

proptest! {
    #[test]
    fn the_same_entries_make_the_same_state(log in any_log()) {
        let (mut one, mut two) = (State::default(), State::default());
        for proposal in &log {
            prop_assert_eq!(one.apply(0, proposal), two.apply(0, proposal));
        }
        prop_assert_eq!(one.hash(), two.hash());
    }
}
