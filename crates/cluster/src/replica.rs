//! This node's copy of what a group agrees on, and how openraft drives it. Generic over what is agreed on.

use std::io;
use std::sync::{Arc, Mutex, RwLock};

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
        };
        Ok(Self { shared: Arc::new(shared) })
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
        let mut answer = Answer::default();
        let mut machine = self.shared.machine.write().expect("apply never panics");
        match payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(payload) => {
                // An entry that this build cannot read stops this replica: going on would be a different state.
                let command = codec::decode(&payload.0)?;
                answer = Answer::of(machine.apply(id.index, command));
            }
            EntryPayload::Membership(membership) => {
                self.position(|position| position.membership = Membership::new(Some(id), membership));
            }
        }
        self.position(|position| position.applied = Some(id));
        Ok(answer)
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
        off_the_runtime(move || {
            let index = meta.last_log_id.map_or(0, |id| id.index);
            let mut machine = this.shared.machine.write().expect("apply never panics");
            machine.restore(index, &snapshot)?;
            this.shared.snapshots.write(&meta, &snapshot)?;
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
        off_the_runtime(move || {
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
        off_the_runtime(move || {
            // The position moves only under the machine's write lock: under the read lock both stand still.
            let machine = this.shared.machine.read().expect("apply never panics");
            let meta = this.position(|position| SnapshotMeta {
                last_log_id: position.applied,
                last_membership: position.membership.clone(),
            });
            let bytes = Bytes::from(machine.save());
            drop(machine);
            this.shared.snapshots.write(&meta, &bytes)?;
            Ok(Snapshot { meta, snapshot: bytes })
        })
        .await
    }
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
