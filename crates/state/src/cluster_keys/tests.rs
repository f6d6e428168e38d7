use tidegate_model::NodeId;

use super::*;
use crate::audit::{Actor, By};
use crate::certificates::{Issued, Step as OrderStep};
use crate::lineage::{Anew, Ending, First, Newcomer};
use crate::members::{Addresses, ClusterId};
use crate::secrets::{How, Put};
use crate::{CA_KEY, Command, Form, Join, Proposal, RequestId};

struct Cluster {
    state: State,
    asked: u128,
}

impl Cluster {
    /// Nodes 1, 2, 3.
    fn new() -> Self {
        let mut cluster = Self { state: State::default(), asked: 0 };
        cluster.apply(Command::Form(Form {
            cluster: ClusterId(1),
            name: "a".into(),
            addresses: Addresses::default(),
            feature_level: 4,
            ca: vec![1],
            sealed_ca_key: vec![2],
            public_key: [1; 32],
            admin_token: [3; 32],
        }));
        cluster.apply(Command::CreateJoinToken { hash: [9; 32], expires_at: None, uses: 9 });
        cluster.join(2);
        cluster.join(3);
        cluster
    }

    fn apply(&mut self, command: Command) -> (Outcome, Vec<Change>) {
        self.asked += 1;
        self.state.apply(0, &Proposal { request: RequestId(self.asked), at: Millis(5), command, by: None })
    }

    fn join(&mut self, key: u8) {
        let (name, addresses, feature_level) = (format!("n{key}"), Addresses::default(), 4);
        self.apply(Command::Join(Join { token: [9; 32], name, addresses, feature_level, public_key: [key; 32] }));
    }

    fn step(&mut self, step: Step) -> Outcome {
        self.apply(Command::ClusterKey(step)).0
    }

    fn begin(&mut self, rotations: u64, replaces: Option<u8>, mark: u8) -> Outcome {
        let replaces = replaces.map(|mark| [mark; 32]);
        self.step(Step::Begin { rotations, replaces, mark: [mark; 32], subjects: vec![mark; 60] })
    }

    fn hold(&mut self, node: u64, mark: u8) -> Outcome {
        self.step(Step::Hold { node: NodeId(node), mark: [mark; 32] })
    }

    fn keys(&self) -> &ClusterKeys {
        &self.state.later.cluster_keys
    }

    fn reseal(&mut self, place: Place, was: &[u8], sealed: &[u8]) -> Vec<Change> {
        let was = *blake3::hash(was).as_bytes();
        self.apply(Command::ClusterKey(Step::Reseal(vec![Resealed { place, was, sealed: sealed.to_vec() }]))).1
    }
}

const CONFLICT: fn(u64) -> Outcome = |rotations| Outcome::Conflict { current: Revision(rotations) };

#[test]
fn a_key_begins_is_held_seals_and_the_one_before_is_forgotten() {
    let mut cluster = Cluster::new();
    assert_eq!((cluster.keys().generation(), cluster.keys().is_empty()), (1, true));
    assert_eq!(cluster.begin(0, None, 1), Outcome::Done);
    assert_eq!(cluster.begin(0, None, 2), CONFLICT(0), "two who ask at once begin once");
    assert_eq!(cluster.hold(2, 1), Outcome::Done);
    assert_eq!(cluster.hold(9, 1), Outcome::NotFound, "no member");
    assert_eq!(cluster.hold(1, 7), Outcome::NotFound, "no such key");
    assert_eq!(cluster.keys().next().unwrap().holders, BTreeSet::from([NodeId(2)]));
    assert_eq!(cluster.step(Step::Use { mark: [7; 32] }), CONFLICT(0));
    assert_eq!((cluster.keys().generation(), cluster.keys().current()), (1, None), "it seals nothing yet");
    assert_eq!(cluster.step(Step::Use { mark: [1; 32] }), Outcome::Done);
    assert_eq!((cluster.keys().generation(), cluster.keys().current()), (2, Some([1; 32])));
    assert_eq!(cluster.begin(1, None, 3), CONFLICT(1), "the one before is still needed");
    assert_eq!(cluster.step(Step::Forget { rotations: 0 }), CONFLICT(1), "of a replacement before");
    assert_eq!(cluster.step(Step::Forget { rotations: 1 }), Outcome::Done);
    assert_eq!(cluster.begin(1, None, 3), Outcome::Done);
    assert_eq!(cluster.keys().subjects(), [1; 60], "counts of limits go by the first");
}

#[test]
fn a_key_that_was_lost_gives_way_to_another_and_never_seals() {
    let mut cluster = Cluster::new();
    cluster.begin(0, None, 1);
    cluster.hold(3, 1);
    assert_eq!(cluster.begin(0, Some(1), 2), Outcome::Done);
    assert_eq!((cluster.hold(3, 1), cluster.step(Step::Use { mark: [1; 32] })), (Outcome::NotFound, CONFLICT(0)));
    assert!(cluster.keys().next().unwrap().holders.is_empty());
}

#[test]
fn a_key_that_a_removed_node_may_have_never_seals() {
    let mut cluster = Cluster::new();
    cluster.begin(0, None, 1);
    for node in 1..=3 {
        cluster.hold(node, 1);
    }
    cluster.apply(Command::RemoveNode { id: NodeId(9) });
    assert!(!cluster.keys().next().unwrap().spoiled, "it was no member");
    cluster.apply(Command::RemoveNode { id: NodeId(3) });
    let next = cluster.keys().next().unwrap();
    assert_eq!((next.spoiled, &next.holders), (true, &BTreeSet::from([NodeId(1), NodeId(2)])));
    assert_eq!(cluster.step(Step::Use { mark: [1; 32] }), CONFLICT(0));
    assert_eq!(cluster.begin(0, Some(1), 2), Outcome::Done);
    cluster.hold(1, 2);
    assert_eq!(cluster.step(Step::Use { mark: [2; 32] }), Outcome::Done);
}

#[test]
fn a_restored_cluster_hands_out_another_key_than_its_ancestor_began_with() {
    let mut cluster = Cluster::new();
    cluster.begin(0, None, 1);
    cluster.hold(1, 1);
    let new = Newcomer { name: "r".into(), feature_level: 4, public_key: [4; 32], admin_token: [5; 32] };
    let anew = Anew { cluster: ClusterId(7), how: Ending::Restored, at: Millis(9), first: First::New(new) };
    cluster.state.begin_anew(&anew).unwrap();
    let next = cluster.keys().next().unwrap();
    assert!(next.spoiled && next.holders.is_empty());
}

/// Something in each place where sealed values are.
fn with_all_places() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.apply(Command::PutSealed { name: "kept".into(), bytes: vec![10] });
    cluster.apply(Command::PutSecret(Put { name: "p".into(), sealed: vec![11], author: "ann".into(), how: How::New }));
    let issued = Issued { chain: "chain".into(), sealed_key: vec![12] };
    cluster.apply(Command::ImportCertificate { name: "api".into(), issued });
    cluster.apply(Command::StepOrder(OrderStep {
        name: "site".into(),
        replaces: 0,
        sealed: vec![13],
        failures: 0,
        error: String::new(),
        next_at: Millis(0),
        issued: None,
    }));
    cluster.apply(Command::KeepAccount { directory: "https://ca.test".into(), replaces: 0, sealed: vec![14] });
    cluster.apply(Command::RotateTicketKeys { after: 0, sealed: vec![15] });
    cluster.begin(0, None, 1);
    cluster
}

#[test]
fn all_that_is_sealed_is_found_and_sealed_anew_where_it_is_still_the_same() {
    let mut cluster = with_all_places();
    let all = cluster.state.all_sealed();
    let bytes: BTreeSet<u8> = all.iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(bytes, BTreeSet::from([1, 2, 10, 11, 12, 13, 14, 15]), "{all:?}");
    let names: BTreeSet<String> = all.iter().map(|(place, _)| place.name()).collect();
    assert_eq!(names.len(), 8, "a name of its own each: {names:?}");
    let before = cluster.state.later.secrets.by_name("p").unwrap().clone();
    for (place, was) in &all {
        let changes = cluster.reseal(place.clone(), was, &[was[0] + 100]);
        assert_eq!(changes.len(), 1, "{place:?}");
        assert!(cluster.reseal(place.clone(), was, &[99]).is_empty(), "somebody was faster: {place:?}");
    }
    let after: BTreeSet<u8> = cluster.state.all_sealed().iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(after, bytes.iter().map(|byte| byte + 100).collect());
    assert_eq!(cluster.state.sealed.bytes(CA_KEY), Some(&[102][..]));
    // The value is the same: nobody has to read a document anew.
    let now = cluster.state.later.secrets.by_name("p").unwrap();
    assert_eq!((now.generation, now.put_at), (before.generation, before.put_at));
    assert!(cluster.reseal(Place::Secret("p".into()), &[111], &vec![0; LONGEST + 1]).is_empty(), "too long");
    assert!(cluster.reseal(Place::Secret("gone".into()), &[], &[1]).is_empty());
    let was = *blake3::hash(&[110]).as_bytes();
    let new = Resealed { place: Place::Sealed("kept".into()), was, sealed: vec![1] };
    let many = vec![Resealed { was: [0; 32], ..new.clone() }; AT_ONCE];
    let changes = cluster.apply(Command::ClusterKey(Step::Reseal([many, vec![new]].concat()))).1;
    assert!(changes.is_empty(), "no more than so many at once: {changes:?}");
}

#[test]
fn who_asked_for_another_key_and_when_it_sealed_is_recorded_and_nothing_else_of_it() {
    let mut cluster = Cluster::new();
    let by = By {
        actor: Actor::Token { id: 1, name: "ops".into(), role: crate::Role::Admin },
        address: "10.0.0.9".into(),
        request: "r".into(),
    };
    let steps = [
        (by, Step::Begin { rotations: 0, replaces: None, mark: [1; 32], subjects: vec![5; 60] }),
        (By::node(NodeId(1)), Step::Hold { node: NodeId(1), mark: [1; 32] }),
        (By::node(NodeId(1)), Step::Use { mark: [1; 32] }),
        (By::node(NodeId(1)), Step::Reseal(Vec::new())),
        (By::node(NodeId(1)), Step::Forget { rotations: 1 }),
    ];
    for (at, (by, step)) in steps.into_iter().enumerate() {
        let (request, command) = (RequestId(1 << 80 | at as u128), Command::ClusterKey(step));
        cluster.state.apply(7, &Proposal { request, at: Millis(5), command, by: Some(by) });
    }
    let told: Vec<_> = cluster
        .state
        .later
        .audit
        .records()
        .map(|record| (record.by.actor.name(), record.action.clone(), record.detail.clone()))
        .collect();
    let is = |actor: &str, action: &str, detail: &str| (actor.to_owned(), action.to_owned(), detail.to_owned());
    assert_eq!(
        told,
        [
            is("ops", "cluster.rotate_key", "generation 2, mark 01010101"),
            is("node 1", "cluster.use_key", "mark 01010101"),
            is("node 1", "cluster.forget_key", "those before generation 2"),
        ]
    );
}
