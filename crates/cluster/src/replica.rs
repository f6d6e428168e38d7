//! This node's copy of what a group agrees on, and how openraft drives it. Generic over what is agreed on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use crate::codec;
use crate::raft::{Answer, LogId, Membership, Snapshot, SnapshotMeta, Types};
use crate::store::Damage;
use crate::store::snapshots::Snapshots;

/// What a group agrees on. `apply` is total and the same on every node.
pub(crate) trait Machine: Send + Sync + 'static {
    type Command: serde::de::DeserializeOwned;
    type Outcome: Send + Sync + 'static;

    fn apply(&mut self, index: u64, command: Self::Command) -> Self::Outcome;

    /// The whole state as bytes, for a snapshot.
    fn save(&self) -> Vec<u8>;

    /// Do all members read a compressed state?
    fn is_packed(&self) -> bool {
        false
    }

    /// Equal on all nodes that applied the same entries.
    fn hash(&self) -> [u8; 32];

    /// For tests: another state than everybody else's.
    #[cfg(debug_assertions)]
    fn spoil(&mut self);

    /// Replaces the state by a saved one, the outcome of all entries up to `index`.
    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), codec::Error>;
}

/// Cheap to clone; all clones are the same replica.
pub(crate) struct Replica<M> {
    shared: Arc<Shared<M>>,
}

impl<M> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<M> {
    machine: RwLock<M>,
    position: Mutex<Position>,
    applied: watch::Sender<u64>,
    snapshots: Snapshots,
    marks: Mutex<Marks>,
    /// Shared by whatever is at work on files. `false`: they may be another process's by now.
    ours: Arc<tokio::sync::RwLock<bool>>,
}

/// Entries after which the state is hashed, and what came out.
#[derive(Default)]
struct Marks {
    wanted: BTreeSet<u64>,
    found: BTreeMap<u64, [u8; 32]>,
    took: Duration,
}

/// Entries that are waited for, and hashes that are kept, at most.
const MARKS: usize = 4;

/// A hash as of one entry.
pub(crate) enum Hashed {
    Is([u8; 32]),
    /// The state is past that entry, or did not come to it in time.
    NotThere,
}

#[derive(Clone, Default)]
struct Position {
    applied: Option<LogId>,
    membership: Membership,
}

impl<M: Machine> Replica<M> {
    /// Loads the newest snapshot; the log is replayed onto it by openraft.
    pub(crate) fn load(
        mut machine: M,
        snapshots: Snapshots,
        purged: Option<u64>,
        folder: &std::path::Path,
    ) -> Result<Self, Damage> {
        let mut position = Position::default();
        if let Some((meta, bytes)) = snapshots.newest()? {
            let index = meta.last_log_id.map_or(0, |id| id.index);
            machine.restore(index, &bytes).map_err(|error| Damage::new(folder, format!("snapshot {index}"), error))?;
            position = Position { applied: meta.last_log_id, membership: meta.last_membership };
        }
        let applied = position.applied.map(|id| id.index);
        if applied < purged {
            let what = format!("no snapshot of entry {} or later, and the log before it is gone", purged.unwrap_or(0));
            return Err(Damage::new(folder, "", what));
        }
        let shared = Shared {
            machine: RwLock::new(machine),
            position: Mutex::new(position),
            applied: watch::Sender::new(applied.unwrap_or(0)),
            snapshots,
            marks: Mutex::default(),
            ours: Arc::new(tokio::sync::RwLock::new(true)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits for what is at work on files, and lets nothing begin any more: when openraft stops, it does not wait for a
    /// snapshot that is being written.
    pub(crate) async fn close(&self) {
        *self.shared.ours.write().await = false;
    }

    async fn at_work<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        if crate::runtime::is_simulated() {
            return work(); // Its clock stands still meanwhile, and nothing else may come in between.
        }
        let ours = Arc::clone(&self.shared.ours).read_owned().await;
        if !*ours {
            return Err(io::Error::other("the group was closed"));
        }
        // It goes on when nobody waits for it any more.
        let work = move || {
            let done = work();
            drop(ours);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&M) -> T) -> T {
        read(&self.shared.machine.read().expect("apply never panics"))
    }

    /// Index of the last applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    pub(crate) fn applied_id(&self) -> Option<LogId> {
        self.position(|position| position.applied)
    }

    /// The membership as applied here: committed for certain.
    pub(crate) fn membership(&self) -> Membership {
        self.position(|position| position.membership.clone())
    }

    fn position<T>(&self, with: impl FnOnce(&mut Position) -> T) -> T {
        with(&mut self.shared.position.lock().expect("no panic while the position is locked"))
    }

    fn apply_one(
        &self,
        id: LogId,
        payload: EntryPayload<crate::raft::Payload, u64, openraft::BasicNode>,
    ) -> io::Result<Answer> {
        // Read before the machine is locked. An entry that this build cannot read stops this replica: going on would be a
        // different state.
        let command: Option<M::Command> = match &payload {
            EntryPayload::Normal(payload) => Some(codec::decode_packed(&payload.0)?),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        let mut machine = self.shared.machine.write().expect("apply never panics");
        let answer = command.map_or_else(Answer::default, |command| Answer::of(machine.apply(id.index, command)));
        if let EntryPayload::Membership(membership) = payload {
            self.position(|position| position.membership = Membership::new(Some(id), membership));
        }
        self.position(|position| position.applied = Some(id));
        if self.marks(|marks| marks.wanted.remove(&id.index)) {
            self.note_hash(id.index, &machine);
        }
        Ok(answer)
    }

    /// The hash of the state right after this entry; waits for it, if it is to come.
    pub(crate) async fn hash_at(&self, index: u64, patience: Duration) -> Hashed {
        let this = self.clone();
        // It may take a while, and applying waits meanwhile.
        if tokio::task::spawn_blocking(move || this.hash_now_or_then(index)).await.is_err() {
            return Hashed::NotThere;
        }
        let mut applied = self.applied();
        _ = tokio::time::timeout(patience, applied.wait_for(|applied| index <= *applied)).await;
        self.marks(|marks| {
            marks.wanted.remove(&index);
            marks.found.get(&index).map_or(Hashed::NotThere, |hash| Hashed::Is(*hash))
        })
    }

    fn hash_now_or_then(&self, index: u64) {
        // While it is held, the position stands still.
        let machine = self.shared.machine.read().expect("apply never panics");
        let applied = self.applied_id().map_or(0, |id| id.index);
        if applied == index && !self.marks(|marks| marks.found.contains_key(&index)) {
            self.note_hash(index, &machine);
        } else if applied < index {
            self.marks(|marks| {
                marks.wanted.insert(index);
                while MARKS < marks.wanted.len() {
                    marks.wanted.pop_first();
                }
            });
        }
    }

    fn note_hash(&self, index: u64, machine: &M) {
        let began = Instant::now();
        let hash = machine.hash();
        self.marks(|marks| {
            marks.took = began.elapsed();
            marks.found.insert(index, hash);
            while MARKS < marks.found.len() {
                marks.found.pop_first();
            }
        });
    }

    /// How long the last hash took.
    pub(crate) fn hashing_took(&self) -> Duration {
        self.marks(|marks| marks.took)
    }

    fn marks<T>(&self, with: impl FnOnce(&mut Marks) -> T) -> T {
        with(&mut self.shared.marks.lock().expect("no panic while the marks are locked"))
    }

    #[cfg(debug_assertions)]
    pub(crate) fn spoil(&self) {
        self.shared.machine.write().expect("apply never panics").spoil();
        self.marks(|marks| marks.found.clear());
    }
}

impl<M: Machine> RaftStateMachine<Types> for Replica<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, Membership)> {
        Ok(self.position(|position| (position.applied, position.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let index = entry.log_id.index;
            let answer = self.apply_one(entry.log_id, entry.payload)?;
            self.shared.applied.send_replace(index);
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Bytes) -> io::Result<()> {
        let (this, meta) = (self.clone(), meta.clone());
        self.at_work(move || {
            let index = meta.last_log_id.map_or(0, |id| id.index);
            // Before the machine is locked: a full disk must not keep anybody from reading.
            let written = this.shared.snapshots.write_aside(&meta, &snapshot)?;
            let mut machine = this.shared.machine.write().expect("apply never panics");
            machine.restore(index, &snapshot)?;
            written.take_effect()?;
            this.position(|position| {
                *position = Position { applied: meta.last_log_id, membership: meta.last_membership.clone() };
            });
            drop(machine);
            this.shared.applied.send_replace(index);
            Ok(())
        })
        .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let this = self.clone();
        self.at_work(move || {
            let newest = this.shared.snapshots.newest().map_err(io::Error::other)?;
            Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
        })
        .await
    }
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Replica<M> {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let this = self.clone();
        self.at_work(move || {
            // The position moves only under the machine's write lock: under the read lock both stand still.
            let machine = this.shared.machine.read().expect("apply never panics");
            let meta = this.position(|position| SnapshotMeta {
                last_log_id: position.applied,
                last_membership: position.membership.clone(),
            });
            let (bytes, packed) = (machine.save(), machine.is_packed());
            drop(machine);
            let bytes = Bytes::from(if packed { codec::pack(bytes) } else { bytes });
            this.shared.snapshots.write(&meta, &bytes)?;
            Ok(Snapshot { meta, snapshot: bytes })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::store::Counters;

    /// Says that it is being saved, and waits until it may be.
    struct Slow(Mutex<(Sender<()>, Receiver<()>)>);

    impl Machine for Slow {
        type Command = u64;
        type Outcome = ();

        fn apply(&mut self, _: u64, _: u64) {}

        fn save(&self) -> Vec<u8> {
            let asked = self.0.lock().unwrap();
            asked.0.send(()).unwrap();
            asked.1.recv().unwrap();
            vec![codec::VERSION]
        }

        fn hash(&self) -> [u8; 32] {
            [0; 32]
        }

        #[cfg(debug_assertions)]
        fn spoil(&mut self) {}

        fn restore(&mut self, _: u64, _: &[u8]) -> Result<(), codec::Error> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_replica_is_closed_when_its_snapshot_is_written_and_writes_none_after_that() {
        let home = tempfile::tempdir().unwrap();
        let (saving, begun) = channel();
        let (go_on, may) = channel();
        let snapshots = Snapshots::new(home.path(), Arc::new(Counters::default()));
        let machine = Slow(Mutex::new((saving, may)));
        let mut replica = Replica::load(machine, snapshots, None, home.path()).unwrap();

        let mut builder = replica.get_snapshot_builder().await;
        let building = tokio::spawn(async move { builder.build_snapshot().await.map(drop) });
        tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
        building.abort(); // Whoever asked for it is gone; it goes on.
        let closing = replica.clone();
        let mut closing = tokio::spawn(async move { closing.close().await });
        let soon = tokio::time::timeout(Duration::from_millis(50), &mut closing).await;
        assert!(soon.is_err(), "closed while a snapshot is being written");
        go_on.send(()).unwrap();
        closing.await.unwrap();
        let files = || std::fs::read_dir(home.path()).unwrap().count();
        assert_eq!(files(), 1, "it is there, and nothing beside it");

        let error = replica.build_snapshot().await.map(drop).unwrap_err();
        assert_eq!(error.to_string(), "the group was closed");
        assert_eq!(files(), 1);
    }
}
