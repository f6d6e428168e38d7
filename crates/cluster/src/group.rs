//! One Raft group on this node: its log, its replica and its openraft instance.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::ReadPolicy;
use openraft::{BasicNode, ChangeMembers, Config, SnapshotPolicy};
use tidegate_model::NodeId;

use crate::error::Error;
use crate::network::Network;
use crate::raft::{Answer, LeaderId, Payload, Types};
use crate::replica::{Machine, Replica};
use crate::store::log::Log;
use crate::store::snapshots::Snapshots;
use crate::store::{Counters, Damage};
use crate::wire::GroupId;

pub(crate) type Raft<M> = openraft::Raft<Types, Replica<M>>;

/// A snapshot is taken when the log has grown by this much, or by the size of the last snapshot if that is more: what the
/// log writes twice stays within what was written once. Small, because the tail since then is held in memory.
const SNAPSHOT_BYTES: u64 = 256 << 10;
/// Entries cost more than their bytes: a tail of tiny ones is compacted as well, the sooner the smaller the snapshot is.
const SNAPSHOT_ENTRIES: RangeInclusive<u64> = 1_000..=5_000;
/// Of a snapshot, for each entry that may come before the next one.
const BYTES_PER_ENTRY: u64 = 64;

pub(crate) struct Group<M: Machine> {
    pub(crate) id: GroupId,
    pub(crate) raft: Raft<M>,
    pub(crate) replica: Replica<M>,
    pub(crate) counters: Arc<Counters>,
    me: u64,
    log: Log,
}

/// Why a write has no outcome.
#[derive(Debug, Clone)]
pub(crate) enum WriteError {
    /// It was not appended; this node leads, if any is known.
    NotLeader(Option<NodeId>),
    /// It may be committed or not.
    Unknown(String),
}

/// How a group stands, as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GroupStatus {
    pub leader: Option<NodeId>,
    pub term: u64,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: u64,
    pub voters: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    /// No change of members is under way: `voters` alone decide. While one is, the voters before it are needed as well.
    pub settled: bool,
}

impl<M: Machine> Group<M> {
    pub(crate) async fn open(
        id: GroupId,
        me: NodeId,
        folder: &Path,
        fresh: bool,
        machine: M,
        network: Network,
    ) -> Result<Arc<Self>, Error> {
        let counters = Arc::new(Counters::default());
        let (folder, shared) = (folder.to_owned(), counters.clone());
        let opened = tokio::task::spawn_blocking(move || -> Result<_, Damage> {
            let log = Log::open(&folder, fresh, shared.clone())?;
            match Replica::load(machine, Snapshots::new(&folder, shared), log.purged(), &folder) {
                Ok(replica) => Ok((log, replica)),
                Err(damage) => {
                    log.close_now();
                    Err(damage)
                }
            }
        });
        let (log, replica) = opened.await.map_err(|error| Error::Internal(error.to_string()))??;
        let raft = match Raft::new(me.0, Arc::new(config(id)?), network, log.clone(), replica.clone()).await {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(Error::Internal(format!("group {id:?}: {error}")));
            }
        };
        Ok(Arc::new(Self { id, raft, replica, counters, me: me.0, log }))
    }

    /// Makes this node the only member of a new group.
    pub(crate) async fn initialize(&self, address: &str) -> Result<(), Error> {
        let members = BTreeMap::from([(self.me, BasicNode::new(address))]);
        self.raft.initialize(members).await.map_err(|error| Error::Internal(error.to_string()))
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&M) -> T) -> T {
        self.replica.read(read)
    }

    /// Who leads, as far as this node knows. A group that stopped here knows nothing any more.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader.filter(|_| metrics.running_state.is_ok()).map(NodeId);
        // Who can store nothing leads nobody, whatever it believes: others know who does by now.
        leader.filter(|leader| leader.0 != self.me || !self.is_full())
    }

    /// The same, this node among them though its disk is full.
    pub(crate) fn has_leader(&self) -> bool {
        self.raft.metrics().borrow_watched().current_leader.is_some()
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// There is no room for this group on the disk.
    pub(crate) fn is_full(&self) -> bool {
        self.counters.room.missing_for().is_some()
    }

    /// The leadership this node holds now and whose blank entry it has applied; `None` otherwise.
    pub(crate) fn leadership(&self) -> Option<LeaderId> {
        if self.is_full() {
            return None;
        }
        let leader = self.raft.as_leader().ok()?.to_committed_leader_id();
        let applied = self.replica.applied_id()?;
        (*applied.committed_leader_id() == leader).then_some(leader)
    }

    pub(crate) async fn write(&self, command: Bytes) -> Result<(u64, M::Outcome), WriteError> {
        match self.raft.client_write(Payload(command)).await {
            Ok(response) => outcome::<M>(response.log_id.index, response.data),
            Err(error) => Err(refused(error)),
        }
    }

    /// On the leader, once a quorum has said that it is one: whoever has applied this entry has applied everything that
    /// was acknowledged before the call.
    pub(crate) async fn read_index(&self) -> Result<u64, WriteError> {
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read, _)) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(WriteError::NotLeader(to.leader_id.map(NodeId)))
            }
            Err(other) => Err(WriteError::Unknown(other.to_string())),
        }
    }

    /// Hands a command to Raft; commands handed over one after another are appended in that order. The outcome comes
    /// later. Nothing is appended unless `leader` still leads.
    pub(crate) async fn submit(
        &self,
        command: Bytes,
        leader: LeaderId,
    ) -> Result<impl Future<Output = Result<(u64, M::Outcome), WriteError>> + use<M>, WriteError> {
        let (responder, outcome_of) = ProgressResponder::complete_only();
        let handed = self.raft.write(Payload(command)).with_leader(leader).responder(responder).await;
        handed.map_err(|error| WriteError::Unknown(error.to_string()))?;
        Ok(async move {
            match outcome_of.await {
                Ok(Ok(response)) => outcome::<M>(response.log_id.index, response.data),
                Ok(Err(error)) => Err(refused(RaftError::APIError(error))),
                Err(_) => Err(WriteError::Unknown("the group stopped".into())),
            }
        })
    }

    pub(crate) async fn add_learner(&self, id: NodeId, address: &str) -> Result<(), String> {
        let added = self.raft.add_learner(id.0, BasicNode::new(address), false).await;
        added.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) async fn set_voters(&self, voters: BTreeSet<u64>, keep_as_learners: bool) -> Result<(), String> {
        let changed = self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), keep_as_learners).await;
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) async fn remove_learners(&self, ids: BTreeSet<u64>) -> Result<(), String> {
        let changed = self.raft.change_membership(ChangeMembers::RemoveNodes(ids), true).await;
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    pub(crate) fn status(&self) -> GroupStatus {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        GroupStatus {
            leader: self.leader(),
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            settled: membership.get_joint_config().len() == 1
                && metrics.membership_config.log_id().as_ref().map(|id| id.index)
                    <= metrics.local_committed.map(|id| id.index),
        }
    }

    /// A change of voters is between its two steps: a majority of those before it and one of those after it are needed for everything.
    pub(crate) fn is_joint(&self) -> bool {
        1 < self.raft.metrics().borrow_watched().membership_config.membership().get_joint_config().len()
    }

    /// How far each member's log reaches, known to a leader only.
    pub(crate) fn matched(&self) -> BTreeMap<u64, u64> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let replication = metrics.replication.unwrap_or_default();
        replication.into_iter().filter_map(|(id, matched)| Some((id, matched?.index))).collect()
    }

    /// The error that stopped this group, if one did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.raft.metrics().borrow_watched().running_state.clone().err().map(|error| error.to_string())
    }

    /// Takes a snapshot now and lets the log before it go.
    pub(crate) async fn compact(&self) -> Result<(), String> {
        self.raft.trigger().snapshot().await.map_err(|error| error.to_string())
    }

    /// Takes a snapshot whenever the log has grown enough, until the group stops.
    pub(crate) async fn compact_forever(self: Arc<Self>) {
        let mut taken_bytes = 0;
        let mut taken_entries = 0;
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let bytes = self.counters.log_bytes.load(Ordering::Relaxed);
            let entries = self.counters.log_entries.load(Ordering::Relaxed);
            let snapshot = self.counters.snapshot_bytes.load(Ordering::Relaxed);
            let large = SNAPSHOT_BYTES.max(snapshot);
            let many = (snapshot / BYTES_PER_ENTRY).clamp(*SNAPSHOT_ENTRIES.start(), *SNAPSHOT_ENTRIES.end());
            // What was written aside would wait for room as well.
            if self.is_full()
                || self.counters.snapshot_room.missing_for().is_some()
                || bytes - taken_bytes < large && entries - taken_entries < many
            {
                continue;
            }
            (taken_bytes, taken_entries) = (bytes, entries);
            if self.raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
    }

    pub(crate) async fn shutdown(&self) {
        self.counters.close(); // Raft's own task may wait for a write that waits for room.
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(group = ?self.id, %error, "the group did not stop cleanly");
        }
        self.replica.close().await;
        self.log.close().await;
    }
}

fn outcome<M: Machine>(index: u64, answer: Answer) -> Result<(u64, M::Outcome), WriteError> {
    let outcome = answer.take().ok_or_else(|| WriteError::Unknown("applied elsewhere".into()))?;
    Ok((index, outcome))
}

fn refused(error: RaftError<Types, ClientWriteError<Types>>) -> WriteError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => WriteError::NotLeader(to.leader_id.map(NodeId)),
        other => WriteError::Unknown(other.to_string()),
    }
}

/// Milliseconds between signs of life of a leader, and how long it may be silent.
struct Pulse {
    every: u64,
    /// A follower that heard of its leader so short a time ago needs no heartbeat.
    unless: u64,
    /// Beyond the vote's lease, which is as long as the longest patience.
    patience: std::ops::Range<u64>,
}

/// openraft looks at its timers 64/13 times per interval. Silence until an election: the longest patience, and a random one.
const fn pulse(id: GroupId) -> Pulse {
    match id {
        // 1.3 to 1.6 s: nothing on the way of a request waits for it.
        GroupId::Control => Pulse { every: 250, unless: 150, patience: 500..800 },
        // 0.9 to 1.04 s: requests of limits with short windows are refused meanwhile.
        GroupId::Quota(_) => Pulse { every: 200, unless: 100, patience: 380..520 },
    }
}

pub(crate) fn config(id: GroupId) -> Result<Config, Error> {
    let pulse = pulse(id);
    let config = Config {
        cluster_name: format!("{id:?}"),
        heartbeat_interval: pulse.every,
        heartbeat_min_interval: Some(pulse.unless),
        election_timeout_min: pulse.patience.start,
        election_timeout_max: pulse.patience.end,
        enable_pre_vote: Some(true),
        install_snapshot_timeout: 60_000,
        max_payload_entries: 1024,
        // For followers that are a little behind. Entries of control may be documents of megabytes.
        max_in_snapshot_log_to_keep: if id == GroupId::Control { 32 } else { 512 },
        snapshot_policy: SnapshotPolicy::Never, // By size: `compact_forever`.
        backoff: "50ms 100ms 200ms ...500ms".into(),
        // An entry is committed when others have fsynced it, whether its leader has or not. One that lost its last entries with
        // the power, and led on under the vote of before, would put others in their place under the same ids.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map_err(|error| Error::Internal(error.to_string()))
}
