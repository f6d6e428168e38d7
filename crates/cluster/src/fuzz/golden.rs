//! One golden file for each kind of frame and record, in `tests/golden/`: what an earlier build wrote is read by this one,
//! and this one writes the same. A new kind is written once, with
//! `TIDEGATE_WRITE_GOLDEN=1 cargo nextest run -p tidegate-cluster golden`; a file that is there is never written over. Should
//! a format have to change, that takes a new version byte, and delete the file only if no release wrote it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use openraft::EntryPayload;
use openraft::raft::{AppendEntriesResponse, VoteResponse};
use tidegate_model::Incarnation;
use tidegate_quota::protocol::{self, Answer, Reply, Verdict};
use tidegate_state::{ClusterId, Outcome};

use super::seeds::{
    ID, KEY, addresses, later_ledger, later_log, ledger, logs, meta, notes_ledger, notes_log, orders_ledger,
    orders_log, rated_ledger, rated_log, reborn_ledger, renewal, requests, smooth_ledger, smooth_log, state, vote,
};
use super::*;
use crate::raft::Payload;
use crate::store::Counters;
use crate::transport::joining::Welcome;
use crate::wire::{Lasted, Lasting, LeaseView, ReadAt};

/// Compares with the file, or writes it if it is not there and that was asked for.
fn is_golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"));
    if !file.exists() && std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(file.parent().expect("in a folder")).expect("a writable folder");
        fs::write(&file, bytes).expect("a writable folder");
    }
    let kept =
        fs::read(&file).unwrap_or_else(|_| panic!("{name} has no golden file: TIDEGATE_WRITE_GOLDEN=1 writes it"));
    assert_eq!(kept, bytes, "{name} is written differently: whoever runs an older build will not read it");
    kept
}

/// Reads the golden bytes as a `T`, writes that, and is back where it began. Of other versions it says which.
fn frame<T: Serialize + DeserializeOwned>(name: &str, value: &T) {
    let kept = is_golden(name, &codec::encode(value));
    let read: T = codec::decode(&kept).unwrap_or_else(|why| panic!("{name} is not read any more: {why}"));
    assert_eq!(codec::encode(&read), kept, "{name} reads as something else");

    let newer = [&[codec::NEWEST + 1], &kept[1..]].concat();
    let error = codec::decode::<T>(&newer).err().expect("of another version");
    assert_eq!(error, codec::Error::Version(codec::NEWEST + 1));
    assert_eq!(error.to_string(), "format version 3, which a newer release wrote; this one reads up to 2");
    let longer = [kept.as_slice(), &[0]].concat();
    assert!(matches!(codec::decode::<T>(&longer), Err(codec::Error::Trailing(1))), "{name} with a field more");
}

/// `Request::SetPolicies { … }` is called `set-policies`.
fn kind(request: &Request) -> String {
    let shown = format!("{request:?}");
    let name = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let dashed = name.char_indices().map(|(at, c)| match c {
        c if c.is_uppercase() && at > 0 => format!("-{}", c.to_lowercase()),
        c => c.to_lowercase().to_string(),
    });
    dashed.collect()
}

/// Other releases of zstd may write it otherwise, and all read it.
#[test]
fn golden_compressed_proposals_are_read_as_they_were() {
    let document: String = (0..200).map(|n| format!("- {{name: route-{n}, path: /{}}}\n", n * 7919)).collect();
    let plain = codec::encode(&document);
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/packed.bin");
    if !file.exists() && std::env::var_os("TIDEGATE_WRITE_GOLDEN").is_some() {
        fs::write(&file, codec::pack(plain)).expect("a writable folder");
    }
    let kept = fs::read(&file).expect("a golden file");
    assert_eq!((kept[0], codec::decode_packed::<String>(&kept)), (2, Ok(document)));
    assert_eq!(codec::decode::<String>(&kept), Err(codec::Error::Version(2)), "no frame and no record is compressed");
}

#[test]
fn golden_requests_are_read_and_written_as_they_were() {
    let (mut seen, mut variants) = (BTreeMap::new(), BTreeSet::new());
    for request in requests() {
        let number = *seen.entry(kind(&request)).and_modify(|number| *number += 1).or_insert(1);
        variants.insert(codec::encode(&request)[1]);
        frame(&format!("requests/{}-{number}", kind(&request)), &request);
    }
    let count = u8::try_from(variants.len()).expect("few");
    assert!(variants.into_iter().eq(0..count), "a kind of request has no golden file");
    // Of a release that has one kind more. The same error if a kind were missing above, so: this is the end.
    let error = codec::decode::<Request>(&[codec::VERSION, count]).expect_err("nobody knows it");
    assert!(error.to_string().contains("expected variant index"), "{error}");
}

#[test]
fn golden_replies_are_read_and_written_as_they_were() {
    let node = Some(NodeId(2));
    frame("replies/greeting-welcome", &Greeting::Welcome { node: NodeId(1), feature_level: 1 });
    frame("replies/greeting-refused", &Greeting::Refused { removed: true, reason: "removed".into() });
    frame("replies/proposed-applied", &Proposed::Applied { index: 4, outcome: Outcome::Done });
    frame("replies/proposed-not-leader", &Proposed::NotLeader(node));
    frame("replies/proposed-unknown", &Proposed::Unknown("no quorum".into()));
    let (reason, hint) = ("a purge needs feature level 2".into(), "upgrade".into());
    frame("replies/proposed-too-new", &Proposed::TooNew { reason, hint });
    frame("replies/read-at", &ReadAt::Index(9));
    frame("replies/read-not-leader", &ReadAt::NotLeader(node));
    frame("replies/read-unknown", &ReadAt::Unknown("no quorum".into()));
    frame("replies/renewed-kept", &Renewed::Kept { committed: 9, voters: BTreeSet::from([1, 2, 3]) });
    frame("replies/renewed-not-leader", &Renewed::NotLeader(None));
    let view = LeaseView { live: true, unknown: false, age_ms: 40, renewal: Some(renewal()) };
    frame("replies/leases", &LeasesReply::Are(BTreeMap::from([(NodeId(2), view)])));
    frame("replies/leases-not-leader", &LeasesReply::NotLeader(node));
    frame("replies/leader", &node);
    frame("replies/exchanged", &Exchanged::Reply(reply()));
    frame("replies/exchanged-shared", &Exchanged::Reply(shared_reply()));
    frame("replies/exchanged-not-leader", &Exchanged::NotLeader(node));
    frame("replies/exchanged-lost", &Exchanged::Lost("too late".into()));
    frame("replies/policies-set", &PoliciesSet::Done(Revision(3)));
    frame("replies/policies-not-leader", &PoliciesSet::NotLeader(node));
    frame("replies/policies-unknown", &PoliciesSet::Unknown("no quorum".into()));
    let ledger = bytes::Bytes::from_static(&[1, 2, 3]);
    frame("replies/lasted", &Lasted::Is(Lasting { index: 9, term: 2, limits: 3, budgets: 300, ledger }));
    frame("replies/lasted-not-leader", &Lasted::NotLeader(node));
    frame("replies/lasted-unknown", &Lasted::Unknown("no quorum".into()));
    frame("replies/cluster-key", &Some::<crate::keys::Told>(([1; 32], [2; 32])));
    frame("replies/no-cluster-key", &None::<crate::keys::Told>);
    frame("replies/done", &Done::Ok(()));
    frame("replies/not-done", &Done::Err("not the leader".into()));
    frame("replies/appended", &Answered::Ok(AppendEntriesResponse::<Types>::PartialSuccess(Some(LogId::new(ID, 7)))));
    frame(
        "replies/voted",
        &Answered::Ok(VoteResponse::<Types> { vote: vote(), vote_granted: true, last_log_id: None }),
    );
    frame("replies/installed", &Answered::Ok(SnapshotResponse::<Types>::new(vote())));
    let transferred = Answered::<TransferLeaderResponse<Types>>::Err("this node is no voter".into());
    frame("replies/not-transferred", &transferred);
    let part = crate::status::Part { failure: Some("disk full".into()), ..Default::default() };
    frame("replies/report", &NodeReport { node: NodeId(1), control: part.clone(), quota: part });
}

/// One answer of each kind.
fn reply() -> Reply {
    let (granted, free, retry, reserve) = (Permits(8), Permits(92), Nanos::SECOND, Permits(3));
    let verdicts = [Verdict::Lease { granted, free, ttl: LEASE_TTL, retry, reserve }, Verdict::Reset, Verdict::Unknown];
    let items = verdicts.map(|verdict| Answer { key: KEY, epoch: 1, verdict }).to_vec();
    Reply { node: NodeId(1), incarnation: Incarnation(5), seq: 1, items }
}

/// Of a smooth limit.
fn shared_reply() -> Reply {
    let (granted, keep, flow) = (Permits(8), Permits(12), protocol::Flow(500_000));
    let verdict =
        Verdict::Shared { granted, keep, flow, free: Permits(2), ttl: LEASE_TTL, retry: Nanos::from_millis(5) };
    let items = vec![Answer { key: KEY, epoch: 1, verdict }];
    Reply { node: NodeId(1), incarnation: Incarnation(5), seq: 1, items }
}

#[test]
fn golden_joins_are_read_and_written_as_they_were() {
    let bytes = |first: u8| (first..first + 40).collect::<Vec<u8>>();
    let (name, addresses) = ("b".to_owned(), addresses());
    let signing_request = bytes(1);
    frame("joining/request", &JoinRequest { secret: [7; 32], name, addresses, feature_level: 1, signing_request });
    let members = BTreeMap::from([(NodeId(1), "10.0.0.1:7081".to_owned())]);
    let (ca, certificate) = (bytes(50), bytes(90));
    let (cluster, node) = (ClusterId(7), NodeId(2));
    let welcome = Welcome { cluster, node, ca, certificate, cluster_key: [8; 32], members, index: 12 };
    frame("joining/welcome", &JoinReply::Welcome(Box::new(welcome.clone())));
    frame("joining/welcome-later", &JoinReply::WelcomeLater(Box::new(welcome), [9; 32]));
}

#[test]
fn golden_records_are_read_and_written_as_they_were() {
    frame("records/vote", &vote());
    frame("records/purged", &LogId::new(ID, 7));
    let [control, quota] = logs();
    let logs = [
        ("control", control),
        ("quota", quota),
        ("quota-later", later_log()),
        ("quota-orders", orders_log()),
        ("quota-smooth", smooth_log()),
        ("quota-notes", notes_log()),
        ("quota-rates", rated_log()),
    ];
    for (group, entries) in logs {
        for (number, entry) in entries.iter().enumerate() {
            let (name, index) = (format!("records/{group}-{number:02}"), entry.log_id.index);
            frame(&name, entry);
            let sealed = is_golden(&format!("{name}-sealed"), &record::seal(index, &codec::encode(entry)));
            record::open(index, &sealed).unwrap_or_else(|why| panic!("{name}: {why}"));
            let newer = [&[codec::NEWEST + 1], &codec::encode(entry)[1..]].concat();
            let error = record::open(index, &record::seal(index, &newer)).expect_err("of another version");
            assert_eq!(error, "format version 3, which a newer release wrote; this one reads up to 2");
        }
    }
    let states = [
        ("control", state()),
        ("quota", ledger()),
        ("quota-later", later_ledger()),
        ("quota-orders", orders_ledger()),
        ("quota-smooth", smooth_ledger()),
        ("quota-notes", notes_ledger()),
        ("quota-rates", rated_ledger()),
        ("quota-reborn", reborn_ledger()),
    ];
    for (name, state) in states {
        let folder = tempfile::tempdir().expect("a folder");
        let files = snapshots::Snapshots::new(folder.path(), std::sync::Arc::new(Counters::default()));
        files.write(&meta(), &state).expect("a writable folder");
        let file = fs::read_dir(folder.path()).expect("a folder").flatten().next().expect("a snapshot").path();
        let kept = is_golden(&format!("records/snapshot-{name}"), &fs::read(file).expect("a snapshot"));
        let (_, read) = snapshots::parse(Bytes::from(kept)).unwrap_or_else(|(_, why)| panic!("{name}: {why}"));
        assert_eq!(read, state);
    }
}

/// The quota log's commands, each by its own golden entry above.
#[test]
fn golden_quota_commands_are_all_there() {
    let [_, quota] = logs();
    let (later, orders, notes, rates) = (later_log(), orders_log(), notes_log(), rated_log());
    let commands: BTreeSet<u8> = quota
        .iter()
        .chain(&later)
        .chain(&orders)
        .chain(&notes)
        .chain(&rates)
        .filter_map(|entry| match &entry.payload {
            EntryPayload::Normal(Payload(bytes)) => codec::decode::<protocol::Entry>(bytes).ok(),
            _ => None,
        })
        .map(|entry| codec::encode(&entry.command)[1])
        .collect();
    let count = u8::try_from(commands.len()).expect("few");
    assert!(commands.into_iter().eq(0..count), "a command has no golden entry");
    assert!(codec::decode::<Command>(&[codec::VERSION, count]).is_err());
}
