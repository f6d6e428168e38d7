//! Reading a group's folder while no process runs: the newest snapshot, and all of the log on top of it.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use openraft::EntryPayload;
use openraft::RaftLogReader;
use openraft::storage::RaftLogStorage;

use super::found::After;
use crate::codec;
use crate::error::Error;
use crate::raft::Membership;
use crate::replica::Machine;
use crate::store::log::Log;
use crate::store::snapshots::Snapshots;
use crate::store::{Counters, Damage};

pub(super) struct Offline<M> {
    pub(super) machine: M,
    /// The last entry on this disk.
    pub(super) last: After,
    /// The last entry that this node knew to be committed.
    pub(super) committed: u64,
    pub(super) membership: Membership,
    /// When it last learnt of a commit.
    pub(super) heard: Option<SystemTime>,
}

/// Everything that is on the disk, committed for certain or not: what a lost leader acknowledged is among it if it was here.
pub(super) async fn read<M: Machine>(folder: &Path, mut machine: M) -> Result<Offline<M>, Error> {
    let counters = Arc::new(Counters::default());
    let heard = std::fs::metadata(folder.join("committed")).and_then(|file| file.modified()).ok();
    let snapshot = Snapshots::new(folder, counters.clone()).newest()?;
    let mut log = Log::open(folder, false, counters)?;
    let (mut membership, mut applied) = (Membership::default(), None);
    if let Some((meta, bytes)) = snapshot {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let read = machine.restore(index, &bytes);
        read.map_err(|error| Damage::new(folder, format!("snapshot {index}"), error))?;
        (membership, applied) = (meta.last_membership, meta.last_log_id);
    }
    let (purged, entries, committed) = (log.purged(), log.try_get_log_entries(..).await, log.read_committed().await);
    log.close().await;
    let failed = || Error::io(format!("folder {}", folder.display()));
    let (entries, committed) = (entries.map_err(failed())?, committed.map_err(failed())?);
    if applied.map(|id| id.index) < purged {
        let what = format!("no snapshot of entry {} or later, and the log before it is gone", purged.unwrap_or(0));
        return Err(Damage::new(folder, "", what).into());
    }
    let in_snapshot = applied;
    for entry in entries.into_iter().filter(|entry| Some(entry.log_id) > in_snapshot) {
        let index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(payload) => {
                let command = codec::decode_packed(&payload.0);
                let command = command.map_err(|error| Damage::new(folder, format!("record {index}"), error))?;
                machine.apply(index, command);
            }
            EntryPayload::Membership(members) => membership = Membership::new(Some(entry.log_id), members),
        }
        applied = Some(entry.log_id);
    }
    let last = applied.map_or(After::default(), |id| After { index: id.index, term: id.leader_id.term });
    let committed = committed.map_or(0, |id| id.index).max(purged.unwrap_or(0));
    Ok(Offline { machine, last, committed, membership, heard })
}
