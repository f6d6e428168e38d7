//! What one release writes the next must read, and no bytes make a node fall over.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_cluster::codec;
use tidegate_model::{Incarnation, KeyId, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::protocol;
use tidegate_state::audit::{Actor, By};
use tidegate_state::endpoints::{Breaker, Place, Set, Verdict, What};
use tidegate_state::{
    Addresses, ClusterId, Command, CreateKey, Form, Format, Join, Proposal, Publish, Purge, RequestId, Role, State,
    lineage,
};

fn commands() -> Vec<Command> {
    let addresses = Addresses { peer: "10.0.0.1:7081".into(), http: "10.0.0.1:8080".into(), admin: String::new() };
    vec![
        Command::Form(Form {
            cluster: ClusterId(1),
            name: "a".into(),
            addresses: addresses.clone(),
            feature_level: 1,
            ca: vec![1],
            sealed_ca_key: vec![2],
            public_key: [3; 32],
            admin_token: [4; 32],
        }),
        Command::PublishDocument(Publish {
            document: "version: 1".into(),
            format: Format::Yaml,
            replaces: Some(Revision(0)),
            author: "ann".into(),
            note: "first".into(),
            policies: Revision(1),
        }),
        Command::CreateKey(CreateKey {
            tenant: "default".into(),
            consumer: "acme".into(),
            name: "ci".into(),
            hash: [5; 32],
            prefix: "tg_abc".into(),
            expires_at: Some(Millis(9)),
        }),
        Command::RevokeKey { id: KeyId(1) },
        Command::RotateKey { id: KeyId(1), hash: [6; 32], prefix: "tg_def".into(), grace_until: Millis(10) },
        Command::Join(Join {
            token: [7; 32],
            name: "b".into(),
            addresses: addresses.clone(),
            feature_level: 1,
            public_key: [8; 32],
        }),
        Command::UpdateNode { id: NodeId(1), addresses, feature_level: 2 },
        Command::RemoveNode { id: NodeId(2) },
        Command::CreateJoinToken { hash: [7; 32], expires_at: None, uses: 3 },
        Command::RevokeJoinToken { hash: [7; 32] },
        Command::CreateAdminToken { hash: [9; 32], name: "ops".into(), role: Role::Operator, expires_at: None },
        Command::RevokeAdminToken { id: 1 },
        Command::PutSealed { name: "partner".into(), bytes: vec![1, 2, 3] },
        Command::RemoveSealed { name: "partner".into() },
    ]
}

/// The second release's.
fn later_commands() -> Vec<Command> {
    let place = Place { upstream: "users".into(), endpoint: "10.0.0.5:8000".into() };
    let half_open = Breaker::HalfOpen { round: 2, node: NodeId(3) };
    let verdict = |replaces, what| Verdict { place: place.clone(), replaces, what };
    vec![
        Command::JudgeEndpoints(vec![verdict(0, What::Breaker(half_open)), verdict(1, What::Unhealthy(true))]),
        Command::SetEndpoint { place: place.clone(), set: Set::Weight(Some(3)) },
        Command::SetEndpoint { place, set: Set::Drained(true) },
    ]
}

/// Those of purges.
fn purges() -> Vec<Command> {
    let (tenant, url) = ("default".to_owned(), "example.com/a?b".to_owned());
    vec![
        Command::Purge(vec![Purge::All, Purge::Tenant(tenant.clone())]),
        Command::Purge(vec![
            Purge::Url { tenant: tenant.clone(), url },
            Purge::Prefix { tenant: tenant.clone(), prefix: "example.com/a".into() },
            Purge::Tag { tenant, tag: "users".into() },
        ]),
    ]
}

/// Those of keys with plans of their own.
fn key_plans() -> Vec<Command> {
    let key = CreateKey {
        tenant: "default".into(),
        consumer: "acme".into(),
        name: "batch".into(),
        hash: [10; 32],
        prefix: "tg_ghi".into(),
        expires_at: None,
    };
    vec![
        Command::CreateKeyOnPlan { key, plan: "gold".into() },
        Command::SetKeyPlan { id: KeyId(2), plan: Some("free".into()) },
        Command::SetKeyPlan { id: KeyId(1), plan: None },
    ]
}

/// Those about limits and callers.
fn orders() -> Vec<Command> {
    use tidegate_state::orders::{Draft, What, Whom, Withdrawn};
    let limit = |subject: Option<u128>| Whom::Limit {
        limit: LimitId(7),
        name: "per-key".into(),
        subject: subject.map(Subject),
        words: subject.map(|_| "key 3".into()).unwrap_or_default(),
    };
    let give = |whom, what, until: Option<u64>| {
        let (author, reason) = ("ann".into(), "launch".into());
        Command::GiveOrder(Draft { whom, what, author, reason, until: until.map(Millis) })
    };
    let consumer = Whom::Consumer { tenant: "default".into(), name: "acme".into() };
    vec![
        give(limit(None), What::Max(5), Some(350)),
        give(limit(Some(9)), What::Extra(3), None),
        give(limit(Some(9)), What::Reset, None),
        give(Whom::Key(KeyId(1)), What::Block, None),
        give(consumer.clone(), What::Block, Some(9_000)),
        Command::WithdrawOrder { whom: consumer, what: Withdrawn::Block, author: "bo".into() },
        Command::LapseOrders,
    ]
}

/// Those about rates of buckets.
fn rates() -> Vec<Command> {
    use tidegate_state::orders::{Draft, What, Whom};
    let give = |subject: Option<u128>, burst| {
        let (name, words) = ("per-key".into(), String::new());
        let whom = Whom::Limit { limit: LimitId(8), name, subject: subject.map(Subject), words };
        let what = What::Rate { permits: 20, per: Nanos(1_000_000_000), burst };
        Command::GiveOrder(Draft { whom, what, author: "ann".into(), reason: String::new(), until: None })
    };
    vec![give(None, None), give(Some(9), Some(40))]
}

/// What was used of language models.
fn usage() -> Vec<Command> {
    use tidegate_state::usage::{Amounts, Key, Report, Row, Tokens};
    let key = Key {
        tenant: "default".into(),
        team: "web".into(),
        consumer: "acme".into(),
        route: "llm".into(),
        model: "fast".into(),
        provider: "one".into(),
    };
    let tokens = Tokens {
        input: 1,
        cache_read: 2,
        cache_write: 3,
        output: 4,
        reasoning: 5,
        audio_in: 6,
        image_in: 7,
        audio_out: 8,
        image_out: 9,
    };
    let amounts = Amounts { calls: 300, failed: 1, estimated: 2, unpriced: 3, tokens, cost_nanos: 1 << 40 };
    let report = |number| Report {
        node: NodeId(1),
        life: 1 << 90,
        number,
        rows: vec![Row { day: 0, key: key.clone(), amounts }],
    };
    vec![Command::ReportUsage(report(1)), Command::ReportUsage(report(2)), Command::ReportUsage(report(2))]
}

/// Those of certificates and of orders of them.
fn certificates() -> Vec<Command> {
    use tidegate_state::certificates::{Issued, Step};
    let issued = |n: u8| Issued { chain: format!("chain {n}"), sealed_key: vec![n; 3] };
    let step = |replaces, sealed: &[u8], error: &str, issued| {
        let (name, sealed, error) = ("site".into(), sealed.to_vec(), error.into());
        let failures = u32::from(replaces > 0);
        Command::StepOrder(Step { name, replaces, sealed, failures, error, next_at: Millis(9_000), issued })
    };
    vec![
        Command::ImportCertificate { name: "api".into(), issued: issued(1) },
        Command::ImportCertificate { name: "old".into(), issued: issued(2) },
        Command::RemoveCertificate { name: "old".into() },
        Command::KeepAccount { directory: "https://ca.test/dir".into(), replaces: 0, sealed: vec![4, 5] },
        step(0, &[1, 2], "", None),
        step(5, &[1, 2], "no answer", None),
        step(6, &[], "", Some(issued(3))),
    ]
}

/// A proposal as the first releases have it. A log holds each by itself, so its end is where its bytes end.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Bare {
    request: RequestId,
    at: Millis,
    command: Command,
}

impl From<Proposal> for Bare {
    fn from(Proposal { request, at, command, by: _ }: Proposal) -> Self {
        Self { request, at, command }
    }
}

/// With whose doing they are.
fn signed() -> Vec<Proposal> {
    let by = |actor: Actor, address: &str| By { actor, address: address.into(), request: "r".into() };
    let token = Actor::Token { id: 1, name: "ops".into(), role: Role::Operator };
    let certificate = Actor::Certificate { name: "ann".into(), role: Role::Admin };
    let all = [
        (by(token, "10.0.0.9"), Command::RevokeKey { id: KeyId(1) }),
        (by(certificate, "::1"), Command::RevokeKey { id: KeyId(99) }),
        (By::node(NodeId(1)), Command::RemoveSealed { name: "partner".into() }),
    ];
    let number = |(at, (by, command))| {
        let request = RequestId(1 << 111 | at as u128);
        Proposal { request, at: Millis(1_000 + at as u64), command, by: Some(by) }
    };
    all.into_iter().enumerate().map(number).collect()
}

/// Keys of TLS session tickets.
fn ticket_keys() -> Vec<Command> {
    (0..4).map(|after| Command::RotateTicketKeys { after, sealed: vec![after as u8 + 1; 60] }).collect()
}

/// Operators' secrets.
fn secrets() -> Vec<Command> {
    use tidegate_state::secrets::{How, Put};
    let put = |name: &str, n: u8, how| {
        Command::PutSecret(Put { name: name.into(), sealed: vec![n; 40], author: "ann".into(), how })
    };
    vec![
        put("partner", 1, How::New),
        put("partner", 2, How::Again),
        put("old", 3, How::New),
        Command::RemoveSecret { name: "old".into() },
    ]
}

/// Zones of nodes.
fn zones() -> Vec<Command> {
    let set = |id, zone: &str| Command::SetZone { id: NodeId(id), zone: zone.into() };
    vec![set(1, "a"), set(1, "b"), set(99, "nowhere")]
}

/// Another key of the cluster.
fn cluster_keys() -> Vec<Command> {
    use tidegate_state::cluster_keys::{Place, Resealed, Step};
    let was = *blake3::hash(&[2; 40]).as_bytes();
    let resealed = Resealed { place: Place::Secret("partner".into()), was, sealed: vec![7; 40] };
    let steps = vec![
        Step::Begin { rotations: 0, replaces: None, mark: [1; 32], subjects: vec![5; 60] },
        Step::Begin { rotations: 0, replaces: Some([1; 32]), mark: [2; 32], subjects: vec![6; 60] },
        Step::Hold { node: NodeId(1), mark: [2; 32] },
        Step::Use { mark: [2; 32] },
        Step::Reseal(vec![resealed]),
        Step::Forget { rotations: 1 },
        Step::Begin { rotations: 1, replaces: None, mark: [3; 32], subjects: vec![5; 60] },
        Step::Hold { node: NodeId(1), mark: [3; 32] },
    ];
    steps.into_iter().map(Command::ClusterKey).collect()
}

fn proposals() -> Vec<Proposal> {
    let number = |(at, command)| Proposal {
        request: RequestId(1 << 100 | at as u128),
        at: Millis(at as u64),
        command,
        by: None,
    };
    commands().into_iter().enumerate().map(number).collect()
}

/// Reads the golden file of an earlier build, and checks that this build still writes it.
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let bytes = codec::encode(value);
    if std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &bytes).unwrap();
    }
    assert_eq!(read_golden(name, value), bytes, "{name} is written differently");
}

/// The same for what this build writes with more in it.
fn read_golden<T: DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let kept = std::fs::read(&path).expect("a golden file, written once with TIDEGATE_WRITE_GOLDEN=1");
    assert_eq!(&codec::decode::<T>(&kept).unwrap(), value, "{name} reads differently");
    kept
}

#[test]
fn what_was_written_once_is_read_for_ever() {
    let bare: Vec<Bare> = proposals().into_iter().map(Bare::from).collect();
    golden("proposals-1.bin", &bare);
    for (bare, proposal) in bare.iter().zip(proposals()) {
        assert_eq!(codec::encode(bare), codec::encode(&proposal), "written as before, while it is nobody's doing");
        assert_eq!(codec::decode::<Proposal>(&codec::encode(bare)), Ok(proposal));
    }
    let mut state = State::default();
    for proposal in proposals() {
        state.apply(0, &proposal);
    }
    read_golden("state-1.bin", &state);
    for (at, command) in later_commands().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 101 | at as u128), at: Millis(100), command, by: None });
    }
    golden("commands-2.bin", &later_commands());
    read_golden("state-2.bin", &state);
    for (at, command) in purges().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 102 | at as u128), at: Millis(200), command, by: None });
    }
    golden("commands-3.bin", &purges());
    read_golden("state-3.bin", &state);
    for (at, command) in key_plans().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 103 | at as u128), at: Millis(300), command, by: None });
    }
    assert_eq!(state.key_plans.of(KeyId(2)), Some("free"));
    golden("commands-4.bin", &key_plans());
    read_golden("state-4.bin", &state);
    for (at, command) in orders().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 104 | at as u128), at: Millis(400), command, by: None });
    }
    assert_eq!(state.orders.in_force().count(), 2);
    golden("orders-1.bin", &orders());
    read_golden("state-5.bin", &state);
    for (at, command) in rates().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 105 | at as u128), at: Millis(500), command, by: None });
    }
    golden("orders-2.bin", &rates());
    read_golden("state-6.bin", &state);
    for (at, command) in usage().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 106 | at as u128), at: Millis(600), command, by: None });
    }
    assert_eq!(state.usage.rows().map(|(_, _, amounts)| amounts.calls).sum::<u64>(), 600);
    golden("usage-1.bin", &usage());
    read_golden("state-7.bin", &state);
    for (at, command) in certificates().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 107 | at as u128), at: Millis(700), command, by: None });
    }
    assert_eq!(state.certificates.stored().map(|(name, _)| name).collect::<Vec<_>>(), ["api", "site"]);
    golden("certificates-1.bin", &certificates());
    read_golden("state-8.bin", &state);
    for (at, command) in ticket_keys().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 108 | at as u128), at: Millis(800), command, by: None });
    }
    assert_eq!(state.ticket_keys.keys().map(|key| key.generation).collect::<Vec<_>>(), [4, 3, 2]);
    golden("tickets-1.bin", &ticket_keys());
    golden("state-9.bin", &state);
    let first = lineage::First::Survivor(NodeId(1));
    let how = lineage::Ending::Recovered;
    state.begin_anew(&lineage::Anew { cluster: ClusterId(2), how, at: Millis(900), first });
    assert_eq!(state.later.lineage.epoch(), 2);
    golden("state-10.bin", &state);
    for (at, command) in secrets().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 109 | at as u128), at: Millis(1_000), command, by: None });
    }
    assert_eq!(state.later.secrets.by_name("partner").map(|secret| secret.generation), Some(2));
    golden("secrets-1.bin", &secrets());
    golden("state-11.bin", &state);
    for (at, command) in zones().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 110 | at as u128), at: Millis(1_100), command, by: None });
    }
    assert_eq!(state.later.zones.of(NodeId(1)), Some("b"));
    golden("zones-1.bin", &zones());
    golden("state-12.bin", &state);
    for (at, proposal) in signed().iter().enumerate() {
        state.apply(100 + at as u64, proposal);
    }
    assert_eq!(state.later.audit.records().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3]);
    for (at, proposal) in signed().iter().enumerate() {
        golden(&format!("signed-{}.bin", at + 1), proposal);
    }
    golden("state-13.bin", &state);
    for (at, command) in cluster_keys().into_iter().enumerate() {
        state.apply(0, &Proposal { request: RequestId(1 << 112 | at as u128), at: Millis(1_200), command, by: None });
    }
    assert_eq!((state.later.cluster_keys.generation(), state.later.cluster_keys.subjects()), (2, &[5; 60][..]));
    assert_eq!(state.later.secrets.by_name("partner").map(|secret| secret.sealed[0]), Some(7));
    golden("cluster-keys-1.bin", &cluster_keys());
    golden("state-14.bin", &state);
    let key = protocol::Key { limit: LimitId(1), subject: Subject(2) };
    let policy = protocol::Policy::sliding(LimitId(1), Permits(10), Nanos(60), Nanos(4));
    let entries = vec![
        protocol::Entry { dt: Nanos(5), command: protocol::Command::Tick },
        protocol::Entry {
            dt: Nanos(6),
            command: protocol::Command::SetPolicies { revision: Revision(1), policies: vec![policy] },
        },
        protocol::Entry { dt: Nanos(7), command: protocol::Command::RemoveNode { node: NodeId(3) } },
    ];
    golden("quota-entries-1.bin", &entries);
    golden("quota-recall-1.bin", &protocol::Recall { node: NodeId(1), key });
    assert_eq!(Incarnation(0).0, 0);
}

#[test]
fn other_versions_and_leftovers_are_refused() {
    let mut bytes = codec::encode(&7_u64);
    assert_eq!(codec::decode::<u64>(&bytes), Ok(7));
    bytes.push(0);
    assert_eq!(codec::decode::<u64>(&bytes), Err(codec::Error::Trailing(1)));
    bytes[0] = 9;
    assert_eq!(codec::decode::<u64>(&bytes), Err(codec::Error::Version(9)));
    assert_eq!(codec::decode::<u64>(&[]), Err(codec::Error::Empty));
}

#[test]
fn a_lying_length_gets_no_memory() {
    let mut bytes = codec::encode(&(1_u64 << 30)); // The length of a text of a gigabyte, and no text.
    for _ in 0..2 {
        let read = codec::decode_snapshot::<String>(&bytes);
        assert!(matches!(&read, Err(codec::Error::Malformed(what)) if what.contains("Limit")), "{read:?}");
        bytes.resize(1 << 20, 0);
    }
    let numbers = vec![u128::from(u8::MAX - 5); 60_000];
    assert_eq!(codec::decode(&codec::encode(&numbers)), Ok(numbers), "what is true is read");
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_fall_over(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut versioned = vec![codec::VERSION];
        versioned.extend_from_slice(&bytes);
        let mut packed = versioned.clone();
        packed[0] = codec::NEWEST;
        for bytes in [&bytes, &versioned, &packed] {
            _ = codec::decode_frame(bytes);
            _ = codec::decode_record(bytes);
            _ = codec::decode::<Vec<Proposal>>(bytes);
            _ = codec::decode_packed::<Vec<Proposal>>(bytes);
            _ = codec::decode_snapshot::<State>(bytes);
        }
    }

    #[test]
    fn a_changed_byte_never_makes_the_decoder_fall_over(at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = codec::encode(&proposals());
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        _ = codec::decode::<Vec<Proposal>>(&bytes);
    }

    #[test]
    fn replaying_onto_a_snapshot_is_as_good_as_replaying_all(
        picks in proptest::collection::vec((0..14_usize, 0..40_u128, 0..3000_u64), 0..60),
        cut in any::<prop::sample::Index>(),
    ) {
        let commands = commands();
        let proposal = |(pick, request, at): (usize, u128, u64)| Proposal {
            request: RequestId(request),
            at: Millis(at),
            command: commands[pick].clone(),
            by: None,
        };
        let log: Vec<Proposal> = picks.into_iter().map(proposal).collect();
        let cut = if log.is_empty() { 0 } else { cut.index(log.len()) };
        let (mut whole, mut first) = (State::default(), State::default());
        log.iter().for_each(|proposal| _ = whole.apply(0, proposal));
        log[..cut].iter().for_each(|proposal| _ = first.apply(0, proposal));
        let mut restored: State = codec::decode_snapshot(&codec::encode(&first)).unwrap();
        prop_assert_eq!(restored.hash(), first.hash());
        log[cut..].iter().for_each(|proposal| _ = restored.apply(0, proposal));
        prop_assert_eq!(restored.hash(), whole.hash());
        prop_assert_eq!(restored, whole);
    }
}
