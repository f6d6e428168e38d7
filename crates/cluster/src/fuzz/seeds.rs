//! Real frames, records and files: what the fuzzer starts from. Written with
//! `TIDEGATE_WRITE_SEEDS=tests/fuzz/corpus cargo test -p tidegate-cluster seeds`; always read back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::{BasicNode, EntryPayload};
use tidegate_model::{Incarnation, LimitId, Millis, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{self, Answer, Key, Reply, Verdict};
use tidegate_state::{Addresses, ClusterId, Outcome, RequestId, State};

use super::*;
use crate::certificate::Validity;
use crate::raft::{LeaderId, Membership, Payload};
use crate::store::Counters;
use crate::transport::joining::Welcome;
use crate::wire::{GroupId, Hello, Lane, LeaseView, PROTOCOL, Renewal};

pub(super) const ID: LeaderId = LeaderId { term: 3, node_id: 1 };
pub(super) const KEY: Key = Key { limit: LimitId(1), subject: Subject(2) };

pub(super) fn vote() -> Vote {
    openraft::Vote::new_committed(3, 1)
}

fn entry(index: u64, payload: EntryPayload<Payload, u64, BasicNode>) -> Entry {
    Entry { log_id: LogId::new(ID, index), payload }
}

fn normal(index: u64, command: &impl Serialize) -> Entry {
    entry(index, EntryPayload::Normal(Payload(Bytes::from(codec::encode(command)))))
}

fn membership() -> openraft::Membership<u64, BasicNode> {
    let nodes: BTreeMap<u64, BasicNode> = (1..4).map(|id| (id, BasicNode::new(format!("10.0.0.{id}:7081")))).collect();
    openraft::Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).expect("three voters that are nodes")
}

pub(super) fn addresses() -> Addresses {
    Addresses { peer: "10.0.0.1:7081".into(), http: "10.0.0.1:8080".into(), admin: String::new() }
}

fn proposals() -> Vec<Proposal> {
    let golden = include_bytes!("../../tests/golden/proposals-1.bin");
    // As the first releases wrote them: nobody's doing.
    let all: Vec<(RequestId, Millis, tidegate_state::Command)> = codec::decode(golden).expect("a golden file");
    all.into_iter().map(|(request, at, command)| Proposal { request, at, command, by: None }).collect()
}

fn batch(seq: u64, spent: u64, have: u64, want: u64) -> Batch {
    let item = Item {
        key: KEY,
        epoch: 1,
        spent: Permits(spent),
        have: Permits(have),
        want: Permits(want),
        waiting: Permits(1),
        reserve: true,
        reserved: Permits(0),
    };
    Batch { node: NodeId(1), incarnation: Incarnation(5), seq, items: vec![item] }
}

fn policies() -> Vec<Policy> {
    vec![Policy::sliding(KEY.limit, Permits(100), Nanos::SECOND, LEASE_TTL)]
}

fn opening() -> protocol::Opening {
    let span = protocol::Span { start: Millis(1_767_225_600_000), end: Millis(1_769_904_000_000) };
    protocol::Opening { limit: LimitId(4), number: span.number(), span }
}

/// Of the kinds that came after the first.
fn later_policies() -> Vec<Policy> {
    let rate = protocol::Rate { permits: 10, per: Nanos::SECOND };
    let budget = protocol::Budget {
        period: protocol::Period::Month,
        zone: "Europe/Berlin".into(),
        unit: protocol::Unit::NanoMoney,
        carry: Permits(5),
        alerts: vec![50, 80, 100],
    };
    let calendar = protocol::Kind::Calendar { period: protocol::Period::Day, zone: "UTC".into() };
    let kinds =
        [protocol::Kind::Bucket { rate }, protocol::Kind::Concurrency, calendar, protocol::Kind::Budget(budget)];
    let policy = |(kind, limit)| Policy { limit: LimitId(limit), max: Permits(100), ttl: LEASE_TTL, kind };
    kinds.into_iter().zip(2..).map(policy).collect()
}

fn quota_entries() -> Vec<protocol::Entry> {
    let commands = [
        Command::SetPolicies { revision: Revision(1), policies: policies() },
        Command::Batches(vec![batch(1, 0, 0, 8)]),
        Command::Tick,
        Command::Batches(vec![batch(2, 5, 3, 8), Batch { node: NodeId(2), ..batch(1, 0, 0, 90) }]),
        Command::RemoveNode { node: NodeId(2) },
        Command::Batches(vec![batch(3, 9, 0, 0)]),
        Command::PreparePolicies { policies: policies() },
    ];
    commands.into_iter().map(|command| protocol::Entry { dt: Nanos::from_millis(300), command }).collect()
}

/// What the releases after the first write besides.
fn later_quota_entries() -> Vec<protocol::Entry> {
    let item = |limit: u64, spent, have, want| {
        let key = Key { limit: LimitId(limit), subject: Subject(7) };
        Item { key, ..batch(0, spent, have, want).items[0] }
    };
    let batch = |seq, items| Batch { node: NodeId(1), incarnation: Incarnation(5), seq, items };
    let commands = [
        Command::SetPolicies { revision: Revision(2), policies: later_policies() },
        Command::OpenWindows(vec![opening()]),
        Command::Batches(vec![batch(1, (2..6).map(|limit| item(limit, 0, 0, 8)).collect())]),
        Command::Batches(vec![batch(2, (2..6).map(|limit| item(limit, 1, 2, 3)).collect())]),
    ];
    commands.into_iter().map(|command| protocol::Entry { dt: Nanos::from_millis(300), command }).collect()
}

/// Orders of operators came later.
pub(super) fn orders_entries() -> Vec<protocol::Entry> {
    let orders = protocol::Orders {
        epoch: 3,
        maxima: vec![
            protocol::Maximum { limit: KEY.limit, subject: None, max: Permits(50) },
            protocol::Maximum { limit: KEY.limit, subject: Some(KEY.subject), max: Permits(70) },
        ],
        extras: vec![protocol::Extra { id: 2, key: KEY, permits: Permits(5) }],
        resets: vec![protocol::Reset { id: 3, limit: KEY.limit, subject: None }],
    };
    let commands = [
        Command::SetPolicies { revision: Revision(1), policies: policies() },
        Command::SetOrders(orders),
        Command::Batches(vec![batch(1, 0, 0, 90)]),
    ];
    commands.into_iter().map(|command| protocol::Entry { dt: Nanos::from_millis(300), command }).collect()
}

/// Rates among orders came later still.
fn rated_entries() -> Vec<protocol::Entry> {
    let rate = protocol::Rate { permits: 20, per: Nanos::SECOND };
    let key = Key { limit: LimitId(6), subject: Subject(7) };
    let kind = protocol::Kind::Bucket { rate: protocol::Rate { permits: 1, ..rate } };
    let policy = Policy { limit: key.limit, max: Permits(20), ttl: LEASE_TTL, kind };
    let maxima = vec![protocol::Maximum { limit: key.limit, subject: Some(key.subject), max: Permits(40) }];
    let rates = vec![
        protocol::Rated { limit: key.limit, subject: None, rate: protocol::Rate { permits: 10, ..rate } },
        protocol::Rated { limit: key.limit, subject: Some(key.subject), rate },
    ];
    let item = Item { key, ..batch(0, 0, 0, 90).items[0] };
    let commands = [
        Command::SetPolicies { revision: Revision(1), policies: vec![policy] },
        Command::SetRatedOrders(protocol::Orders { epoch: 3, maxima, ..protocol::Orders::default() }, rates),
        Command::Batches(vec![Batch { items: vec![item], ..batch(1, 0, 0, 90) }]),
    ];
    commands.into_iter().map(|command| protocol::Entry { dt: Nanos::from_millis(300), command }).collect()
}

pub(super) fn rated_log() -> Vec<Entry> {
    rated_entries().iter().zip(8..).map(|(command, index)| normal(index, command)).collect()
}

pub(super) fn rated_ledger() -> Vec<u8> {
    let mut ledger = Ledger::default();
    rated_entries().iter().for_each(|entry| _ = ledger.apply(entry));
    codec::encode(&ledger)
}

/// A ledger that took another one's place.
pub(super) fn reborn_ledger() -> Vec<u8> {
    let ledger: Ledger = codec::decode_bulk(&later_ledger()).expect("a ledger");
    let (reborn, _) = ledger.reborn(Millis(1_767_225_600_000), tidegate_quota::ledger::reborn::Budgets::GoOn);
    codec::encode(&reborn)
}

/// Smooth limits came later still.
fn smooth_entries() -> Vec<protocol::Entry> {
    let kind = protocol::Kind::Smooth { rate: protocol::Rate { permits: 1_000, per: Nanos::SECOND } };
    let policy = Policy { limit: LimitId(6), max: Permits(20), ttl: LEASE_TTL, kind };
    let key = Key { limit: LimitId(6), subject: Subject(7) };
    let item = |spent, have, want, flow| {
        let item = batch(0, spent, have, want).items[0];
        Item { key, reserve: false, reserved: Permits(flow), ..item }
    };
    let batch = |node, seq, item| Batch { node: NodeId(node), incarnation: Incarnation(5), seq, items: vec![item] };
    let commands = [
        Command::SetPolicies { revision: Revision(3), policies: vec![policy] },
        Command::Batches(vec![batch(1, 1, item(0, 0, 500, 0))]),
        Command::Batches(vec![batch(2, 1, item(0, 0, 500, 0)), batch(1, 2, item(0, 20, 500, 1_000_000))]),
        Command::Batches(vec![batch(1, 3, item(10, 10, 500, 500_000)), batch(2, 2, item(0, 0, 500, 0))]),
    ];
    commands.into_iter().map(|command| protocol::Entry { dt: Nanos::from_millis(300), command }).collect()
}

pub(super) fn smooth_log() -> Vec<Entry> {
    smooth_entries().iter().zip(8..).map(|(command, index)| normal(index, command)).collect()
}

/// What the file was once written from.
pub(super) fn smooth_ledger() -> Vec<u8> {
    let mut ledger = Ledger::default();
    smooth_entries().iter().for_each(|entry| _ = ledger.apply(entry));
    codec::encode(&ledger)
}

/// Journals and alerts came after these.
pub(super) fn notes_entries() -> Vec<protocol::Entry> {
    use protocol::{Closed, Closing, Note, Rest};
    let (node, incarnation) = (NodeId(1), Incarnation(5));
    let key = Key { limit: LimitId(5), subject: Subject(7) };
    let item = |spent, have, waiting| {
        let (spent, have, waiting, reserve) = (Permits(spent), Permits(have), Permits(waiting), false);
        Item { key, spent, have, want: waiting, waiting, reserve, ..batch(0, 0, 0, 0).items[0] }
    };
    let batch = |seq, item| Command::Batches(vec![Batch { node, incarnation, seq, items: vec![item] }]);
    let lease = |epoch, spent| Closed { key, epoch, spent };
    let closing = |incarnation, leases, rest| Command::Note(Note::Close(Closing { node, incarnation, leases, rest }));
    let commands = [
        Command::SetPolicies { revision: Revision(2), policies: later_policies() },
        Command::OpenWindows(vec![protocol::Opening { limit: key.limit, ..opening() }]),
        Command::Note(Note::Begin { node, incarnation }),
        Command::Note(Note::KeepAlerts),
        batch(1, item(0, 0, 60)),
        batch(2, item(55, 5, 0)),
        Command::Note(Note::Told(vec![9])),
        closing(incarnation, vec![lease(8, Some(Permits(3))), lease(9, None)], None),
        closing(Incarnation(6), vec![], Some(Rest::Unspent)),
        closing(Incarnation(7), vec![], Some(Rest::Spent)),
        Command::Tick,
    ];
    let seconds = |command: &Command| if *command == Command::Tick { 5 } else { 0 };
    let entry = |command| protocol::Entry { dt: Nanos::from_secs(seconds(&command)), command };
    commands.into_iter().map(entry).collect()
}

pub(super) fn notes_log() -> Vec<Entry> {
    notes_entries().iter().zip(8..).map(|(command, index)| normal(index, command)).collect()
}

pub(super) fn notes_ledger() -> Vec<u8> {
    let mut ledger = Ledger::default();
    notes_entries().iter().for_each(|entry| _ = ledger.apply(entry));
    assert_eq!(ledger.untold().count(), 1, "an alert waits");
    kept_ledger(include_bytes!("../../tests/golden/records/snapshot-quota-notes.bin"))
}

pub(super) fn later_log() -> Vec<Entry> {
    later_quota_entries().iter().zip(8..).map(|(command, index)| normal(index, command)).collect()
}

pub(super) fn later_ledger() -> Vec<u8> {
    kept_ledger(include_bytes!("../../tests/golden/records/snapshot-quota-later.bin"))
}

/// A ledger as a snapshot that was written once has it: what is granted may change from release to release, what is
/// written may not.
fn kept_ledger(snapshot: &'static [u8]) -> Vec<u8> {
    let (_, state) = snapshots::parse(Bytes::from_static(snapshot)).unwrap_or_else(|(_, why)| panic!("{why}"));
    let ledger: Ledger = codec::decode_bulk(&state).expect("a ledger");
    let written = codec::encode(&ledger);
    assert_eq!(written, state, "a ledger is written differently");
    written
}

pub(super) fn orders_log() -> Vec<Entry> {
    orders_entries().iter().zip(8..).map(|(command, index)| normal(index, command)).collect()
}

pub(super) fn orders_ledger() -> Vec<u8> {
    let mut ledger = Ledger::default();
    orders_entries().iter().for_each(|entry| _ = ledger.apply(entry));
    codec::encode(&ledger)
}

pub(super) fn logs() -> [Vec<Entry>; 2] {
    let control = proposals().iter().zip(2..).map(|(proposal, index)| normal(index, proposal)).collect::<Vec<_>>();
    let head = [entry(0, EntryPayload::Blank), entry(1, EntryPayload::Membership(membership()))];
    let quota = quota_entries().iter().zip(8..).map(|(command, index)| normal(index, command)).collect();
    [head.into_iter().chain(control).collect(), quota]
}

pub(super) fn renewal() -> Renewal {
    Renewal {
        node: NodeId(2),
        applied: 9,
        in_effect: 8,
        feature_level: 1,
        addresses: addresses(),
        ready: true,
        draining: false,
        revision: Revision(3),
        version: "0.1.0".into(),
    }
}

pub(super) fn meta() -> SnapshotMeta {
    let last = LogId::new(ID, 15);
    SnapshotMeta { last_log_id: Some(last), last_membership: Membership::new(Some(last), membership()) }
}

pub(super) fn state() -> Vec<u8> {
    let mut state = State::default();
    proposals().iter().for_each(|proposal| _ = state.apply(0, proposal));
    codec::encode(&state)
}

pub(super) fn ledger() -> Vec<u8> {
    kept_ledger(include_bytes!("../../tests/golden/records/snapshot-quota.bin"))
}

pub(super) fn requests() -> Vec<Request> {
    let (group, last) = (GroupId::Control, Some(LogId::new(ID, 7)));
    let ballot = || VoteRequest::new(openraft::Vote::new(4, 2), last);
    let [control, quota] = logs();
    let hello = Hello {
        protocol: PROTOCOL,
        cluster: ClusterId(7),
        node: NodeId(2),
        lane: Lane::Calls,
        feature_level: 1,
        addresses: addresses(),
    };
    let append = |group, prev_log_id, entries| {
        let rpc = AppendEntriesRequest { vote: vote(), prev_log_id, entries, leader_commit: last };
        Request::Append { group, rpc }
    };
    let mut requests = vec![
        Request::Hello(hello),
        append(group, None, control),
        append(GroupId::Quota(0), last, quota),
        append(group, last, Vec::new()),
        Request::Vote { group, rpc: ballot() },
        Request::PreVote { group, rpc: ballot() },
        Request::Transfer { group, rpc: TransferLeaderRequest::new(vote(), 2, last) },
        Request::Snapshot { group, vote: vote(), meta: meta(), data: state().into() },
        Request::Snapshot { group: GroupId::Quota(0), vote: vote(), meta: meta(), data: ledger().into() },
        Request::Renew(renewal()),
        Request::Leases,
        Request::Leader(GroupId::Quota(0)),
        Request::Exchange(batch(1, 0, 0, 8)),
        Request::SetPolicies { revision: Revision(1), policies: policies() },
        Request::Recall(vec![KEY]),
        Request::QuotaVoters(BTreeSet::from([1, 2, 3])),
        Request::Transferring { group, to: Some(NodeId(2)) },
        Request::Report,
        Request::ReadIndex,
        Request::Message { topic: 1, body: Bytes::from_static(&[1, 2, 3]) },
        Request::PreparePolicies(policies()),
        Request::WallClock,
        Request::Lasting,
        Request::ClusterKey([3; 32]),
    ];
    requests.extend(proposals().iter().map(|proposal| Request::Propose(codec::encode(proposal).into())));
    requests
}

fn replies() -> Vec<Vec<u8>> {
    let lease = Verdict::Lease {
        granted: Permits(8),
        free: Permits(92),
        ttl: LEASE_TTL,
        retry: Nanos::ZERO,
        reserve: Permits(3),
    };
    let items = vec![Answer { key: KEY, epoch: 1, verdict: lease }];
    let view = LeaseView { live: true, unknown: false, age_ms: 40, renewal: Some(renewal()) };
    let part = crate::status::Part { failure: Some("disk full".into()), ..Default::default() };
    vec![
        codec::encode(&Greeting::Welcome { node: NodeId(1), feature_level: 1 }),
        codec::encode(&Greeting::Refused { removed: true, reason: "removed".into() }),
        codec::encode(&Proposed::Applied { index: 4, outcome: Outcome::Conflict { current: Revision(3) } }),
        codec::encode(&Renewed::Kept { committed: 9, voters: BTreeSet::from([1, 2, 3]) }),
        codec::encode(&LeasesReply::Are(BTreeMap::from([(NodeId(2), view)]))),
        codec::encode(&Exchanged::Reply(Reply { node: NodeId(1), incarnation: Incarnation(5), seq: 1, items })),
        codec::encode(&PoliciesSet::NotLeader(Some(NodeId(2)))),
        codec::encode(&Done::Err("not the leader".into())),
        codec::encode(&NodeReport { node: NodeId(1), control: part.clone(), quota: part }),
        codec::encode(&Answered::Ok(AppendEntriesResponse::<Types>::PartialSuccess(Some(LogId::new(ID, 7))))),
        codec::encode(&Answered::Ok(VoteResponse::<Types> { vote: vote(), vote_granted: true, last_log_id: None })),
        codec::encode(&Answered::Ok(SnapshotResponse::<Types>::new(vote()))),
    ]
}

fn joining() -> [Vec<u8>; 2] {
    // Keys are random: written once, these stay as they are.
    let cluster = ClusterId(7);
    let (ca, ca_key) = identity::new_ca(cluster).expect("randomness");
    let signing_request = identity::signing_request(&identity::new_key().expect("randomness")).expect("a key signs");
    let validity = Validity { from: 1_700_000_000, until: 1_800_000_000 };
    let certificate =
        identity::sign(&signing_request, &ca, &ca_key, cluster, NodeId(2), validity).expect("a good request");
    assert_eq!(identity::node_in(&certificate, cluster), Some(NodeId(2)));
    let request =
        JoinRequest { secret: [7; 32], name: "b".into(), addresses: addresses(), feature_level: 1, signing_request };
    let members = BTreeMap::from([(NodeId(1), "10.0.0.1:7081".to_owned())]);
    let welcome = Welcome { cluster, node: NodeId(2), ca, certificate, cluster_key: [8; 32], members, index: 12 };
    [codec::encode(&request), codec::encode(&JoinReply::Welcome(Box::new(welcome)))]
}

/// As [`log_record`] takes a whole log.
fn rows(vote: &[u8], purged: &[u8], last: u64, entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let last = last.to_le_bytes();
    let entries: Vec<Vec<u8>> = entries.iter().map(codec::encode).collect();
    for body in [vote, purged, &last].into_iter().chain(entries.iter().map(Vec::as_slice)) {
        bytes.extend(u16::try_from(body.len()).expect("short").to_le_bytes());
        bytes.extend(body);
    }
    bytes
}

fn records() -> Vec<Vec<u8>> {
    let [control, quota] = logs();
    let purged = codec::encode(&LogId::new(ID, 7));
    let mut records = vec![
        codec::encode(&vote()),
        purged.clone(),
        record::seal(0, &codec::encode(&Some(LogId::new(ID, 7)))),
        record::seal(0, &codec::encode(&control[0])),
        rows(&codec::encode(&vote()), &[], 15, &control),
        rows(&codec::encode(&vote()), &purged, 13, &quota),
    ];
    for state in [state(), ledger()] {
        let folder = tempfile::tempdir().expect("a folder");
        let files = snapshots::Snapshots::new(folder.path(), std::sync::Arc::new(Counters::default()));
        files.write(&meta(), &state).expect("a writable folder");
        let file = fs::read_dir(folder.path()).expect("a folder").flatten().next().expect("a snapshot").path();
        records.push(fs::read(file).expect("a snapshot"));
    }
    records.extend(control.iter().chain(&quota).map(codec::encode));
    let long = (0..200).map(|n| format!("- {{name: route-{n}, path: /{}}}\n", n * 7919)).collect::<String>();
    let command = tidegate_state::Command::PutSealed { name: "long".into(), bytes: long.into_bytes() };
    let proposal = Proposal { request: RequestId(1), at: Millis(1), command, by: None };
    let packed = codec::pack(codec::encode(&proposal));
    assert_eq!(packed[0], codec::NEWEST);
    records.push(codec::encode(&entry(16, EntryPayload::Normal(Payload(packed.into())))));
    records
}

#[test]
fn every_seed_is_read_as_what_it_is() {
    let frames: Vec<Vec<u8>> = requests().iter().map(codec::encode).collect();
    for frame in &frames {
        assert!(codec::decode::<Request>(frame).is_ok());
    }
    let [request, reply] = joining();
    let asked = codec::decode::<JoinRequest>(&request).expect("a request");
    assert!(identity::requested_key(&asked.signing_request).is_ok());
    assert!(codec::decode::<JoinReply>(&reply).is_ok());
    let frames = [frames, replies(), vec![request, reply]].concat();
    frames.iter().for_each(|frame| peer_frame(frame));
    records().iter().for_each(|record| log_record(record));
    if let Some(corpus) = std::env::var_os("TIDEGATE_WRITE_SEEDS") {
        write(&Path::new(&corpus).join("peer_frame"), &frames);
        write(&Path::new(&corpus).join("log_record"), &records());
    }
}

fn write(folder: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(folder).expect("a writable folder");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a writable folder");
    }
}
