//! Every reader of bytes from peers, joiners and this node's disk, for the fuzzer and the replay of its corpora
//! (docs/fuzzing.md). Whatever the bytes, each comes back; what was read is written and read again the same; and what
//! it asks for is applied to a state and a ledger, as a replica would.

#[cfg(test)]
mod golden;
mod replicas;
#[cfg(test)]
mod seeds;

use bytes::Bytes;
use openraft::raft::{AppendEntriesResponse, SnapshotResponse, TransferLeaderResponse, VoteResponse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidegate_model::{Nanos, NodeId, Permits, Revision};
use tidegate_quota::protocol::{Batch, Command, Item, LEASE_TTL, Policy};
use tidegate_state::Proposal;

use self::replicas::Replicas;
use crate::codec;
use crate::plausible;
use crate::raft::{Entry, LogId, SnapshotMeta, Types, Vote};
use crate::status::NodeReport;
use crate::store::tail::{Facts, Reading};
use crate::store::{hint, record, snapshots};
use crate::transport::identity;
use crate::transport::joining::{JoinReply, JoinRequest};
use crate::wire::{Done, Exchanged, Greeting, LeasesReply, PoliciesSet, Proposed, ReadAt, Renewed, Request};

type Answered<T> = Result<T, String>;

/// One frame, as every kind of request and reply there is.
///
/// # Panics
/// When what was read is written or applied differently the second time.
pub fn peer_frame(bytes: &[u8]) {
    if let Some(request) = twice::<Request>(bytes) {
        obey(request);
    }
    if let Some(request) = twice::<JoinRequest>(bytes) {
        _ = identity::requested_key(&request.signing_request);
    }
    if let Some(JoinReply::Welcome(welcome)) = twice::<JoinReply>(bytes) {
        _ = identity::node_in(&welcome.certificate, welcome.cluster);
    }
    twice::<Greeting>(bytes);
    twice::<Proposed>(bytes);
    twice::<ReadAt>(bytes);
    twice::<Renewed>(bytes);
    twice::<LeasesReply>(bytes);
    twice::<Option<NodeId>>(bytes);
    twice::<Exchanged>(bytes);
    twice::<PoliciesSet>(bytes);
    twice::<Done>(bytes);
    twice::<NodeReport>(bytes);
    twice::<Answered<AppendEntriesResponse<Types>>>(bytes);
    twice::<Answered<VoteResponse<Types>>>(bytes);
    twice::<Answered<SnapshotResponse<Types>>>(bytes);
    twice::<Answered<TransferLeaderResponse<Types>>>(bytes);
}

/// One record with and without its checksum, one snapshot file, the hint, and a whole log of many records.
///
/// # Panics
/// As [`peer_frame`].
pub fn log_record(bytes: &[u8]) {
    _ = codec::decode_record(bytes);
    if let Some(entry) = twice::<Entry>(bytes) {
        let index = entry.log_id.index;
        let sealed = record::seal(index, bytes);
        let opened = record::open(index, &sealed).expect("it was sealed in its place");
        assert_eq!(codec::encode(&opened), codec::encode(&entry), "a record gives back what was sealed");
        let moved = record::open(index.wrapping_add(1), &sealed);
        assert!(moved.is_err(), "a moved record is found out");
        Replicas::default().payload(entry.payload);
    }
    twice::<Vote>(bytes);
    twice::<LogId>(bytes);
    twice::<SnapshotMeta>(bytes);
    _ = hint::parse(bytes);
    let sealed = record::seal(0, bytes);
    if let Ok(length) = u8::try_from(sealed.len()) {
        _ = hint::parse(&[&[length], sealed.as_slice()].concat());
    }
    snapshot(bytes);
    log(bytes);
}

/// Reads a value, writes it, reads it again. Bincode has more than one form for a number; ours has one.
fn twice<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = codec::decode(bytes).ok()?;
    let written = codec::encode(&value);
    let again: T = codec::decode(&written).expect("what was written is read");
    assert_eq!(codec::encode(&again), written, "what was read is written the same");
    Some(value)
}

/// What a replica or a leader would do with it.
fn obey(request: Request) {
    _ = format!("{request:?}");
    _ = plausible::check(NodeId(1), &request);
    let mut replicas = Replicas::default();
    match request {
        Request::Append { rpc, .. } => rpc.entries.into_iter().for_each(|entry| replicas.payload(entry.payload)),
        Request::Snapshot { data, .. } => replicas = Replicas::restored(&data),
        // Compressed by the leader at the earliest, so read as it came.
        Request::Propose(proposal) => {
            if let Ok(proposal) = codec::decode::<Proposal>(&proposal) {
                replicas.propose(&proposal);
            }
        }
        Request::Exchange(batch) => replicas.quota(&[limits(&batch), Command::Batches(vec![batch])]),
        Request::SetPolicies { revision, policies } => {
            replicas.quota(&[Command::SetPolicies { revision, policies }]);
        }
        Request::PreparePolicies(policies) => replicas.quota(&[Command::PreparePolicies { policies }]),
        _ => {}
    }
    replicas.check();
}

/// A limit for every key of a batch, so that it is not just unknown.
fn limits(batch: &Batch) -> Command {
    let policy = |item: &Item| Policy::sliding(item.key.limit, Permits(100), Nanos::SECOND, LEASE_TTL);
    let policies = batch.items.iter().map(policy).collect();
    Command::SetPolicies { revision: Revision(1), policies }
}

fn snapshot(bytes: &[u8]) {
    _ = snapshots::parse(Bytes::copy_from_slice(bytes));
    // No fuzzer guesses checksums: the same with a right one.
    if let Some((head, rest)) = bytes.split_first_chunk::<40>()
        && head.starts_with(snapshots::MAGIC)
    {
        let sum = blake3::hash(rest);
        let file = [snapshots::MAGIC, sum.as_bytes().as_slice(), rest].concat();
        if let Ok((_, state)) = snapshots::parse(Bytes::from(file)) {
            Replicas::restored(&state).check();
        }
    }
}

/// Vote, purged, last, then entries; each with its length in front (two bytes, LE), none of length 0.
fn log(bytes: &[u8]) {
    let mut rest = bytes;
    let mut next = || -> Option<&[u8]> {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (body, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        rest = after;
        Some(body)
    };
    let mut fact = || next().filter(|body| !body.is_empty()).map(|body| record::seal(0, body));
    let facts = Facts { vote: fact(), purged: fact(), last: fact() };
    let Ok(mut reading) = Reading::begin(&facts) else { return };
    while let Some(body) = next() {
        let index = codec::decode::<Entry>(body).map_or(0, |entry| entry.log_id.index);
        if reading.row(index, &record::seal(index, body)).is_err() {
            return;
        }
    }
    let Ok(tail) = reading.end() else { return };
    let mut replicas = Replicas::default();
    tail.entries.into_values().for_each(|entry| replicas.payload(entry.payload));
    replicas.check();
}
