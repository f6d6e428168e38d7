//! Snapshot files: written aside, fsynced, renamed, the newest two kept.
//!
//! ```text
//! "TIDESNAP" | blake3 of all that follows (32) | length of meta (4, LE) | meta | state
//! ```

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Counters, Damage, is_full, sync_folder};
use crate::codec;
use crate::raft::SnapshotMeta;

pub(crate) const MAGIC: &[u8; 8] = b"TIDESNAP";
const PREFIX: &str = "snapshot-";
const KEPT: usize = 2;

#[derive(Clone)]
pub(crate) struct Snapshots {
    folder: PathBuf,
    counters: Arc<Counters>,
}

/// A snapshot that is on the disk and not yet the newest.
#[must_use]
pub(crate) struct Aside<'a> {
    snapshots: &'a Snapshots,
    aside: PathBuf,
    path: PathBuf,
    bytes: u64,
}

impl Aside<'_> {
    pub(crate) fn take_effect(self) -> io::Result<()> {
        let Snapshots { folder, counters } = self.snapshots;
        fs::rename(&self.aside, &self.path)?;
        sync_folder(folder)?;
        Counters::add(&counters.fsyncs, 2);
        Counters::add(&counters.snapshots, 1);
        counters.snapshot_bytes.store(self.bytes, Ordering::Relaxed);
        self.snapshots.forget_old()
    }
}

impl Snapshots {
    pub(crate) fn new(folder: &Path, counters: Arc<Counters>) -> Self {
        Self { folder: folder.to_owned(), counters }
    }

    /// The newest snapshot, checked.
    pub(crate) fn newest(&self) -> Result<Option<(SnapshotMeta, Bytes)>, Damage> {
        let names = self.names().map_err(|error| Damage::new(&self.folder, "", error))?;
        let Some(path) = names.last() else { return Ok(None) };
        let bytes = fs::read(path).map_err(|error| Damage::new(path, "", error))?;
        parse(Bytes::from(bytes))
            .map(Some)
            .map_err(|(offset, what)| Damage::new(path, format!("offset {offset}"), what))
    }

    pub(crate) fn write(&self, meta: &SnapshotMeta, state: &[u8]) -> io::Result<()> {
        self.write_aside(meta, state)?.take_effect()
    }

    /// Waits for room on the disk, if there is none.
    pub(crate) fn write_aside(&self, meta: &SnapshotMeta, state: &[u8]) -> io::Result<Aside<'_>> {
        loop {
            match self.try_aside(meta, state) {
                Err(error)
                    if is_full(&error) && self.counters.snapshot_room.wait(&self.folder, "makes no snapshot") => {}
                done => {
                    if done.is_ok() {
                        self.counters.snapshot_room.is_there(&self.folder);
                    }
                    return done;
                }
            }
        }
    }

    fn try_aside(&self, meta: &SnapshotMeta, state: &[u8]) -> io::Result<Aside<'_>> {
        let index = meta.last_log_id.map_or(0, |id| id.index);
        let path = self.folder.join(format!("{PREFIX}{index:020}"));
        let aside = self.folder.join(format!("{PREFIX}{index:020}.tmp"));
        let meta = codec::encode(meta);
        let length = u32::try_from(meta.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&length).update(&meta).update(state);
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
            for part in [MAGIC.as_slice(), hasher.finalize().as_bytes(), &length, &meta, state] {
                file.write_all(part)?;
            }
            file.sync_all()
        };
        if let Err(error) = write() {
            _ = fs::remove_file(&aside); // Half of one is of no use, and takes room.
            return Err(error);
        }
        Ok(Aside { snapshots: self, aside, path, bytes: state.len() as u64 })
    }

    fn forget_old(&self) -> io::Result<()> {
        let names = self.names()?;
        for old in names.iter().take(names.len().saturating_sub(KEPT)) {
            match fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Finished snapshots, oldest first; leftovers of an interrupted write do not count.
    fn names(&self) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(PREFIX) && !name.ends_with(".tmp") {
                names.push(path);
            }
        }
        names.sort();
        Ok(names)
    }
}

pub(crate) fn parse(bytes: Bytes) -> Result<(SnapshotMeta, Bytes), (usize, String)> {
    const HEAD: usize = 8 + 32;
    if bytes.len() < HEAD + 4 || &bytes[..8] != MAGIC {
        return Err((0, "not a whole snapshot".into()));
    }
    if blake3::hash(&bytes[HEAD..]).as_bytes() != &bytes[8..HEAD] {
        return Err((8, "checksum does not match: changed or cut off".into()));
    }
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[HEAD..HEAD + 4]);
    let state_at = (HEAD + 4).saturating_add(u32::from_le_bytes(length) as usize);
    let meta = bytes.get(HEAD + 4..state_at).ok_or((HEAD, "length of meta".to_owned()))?;
    let meta = codec::decode(meta).map_err(|error| (HEAD + 4, error.to_string()))?;
    Ok((meta, bytes.slice(state_at..)))
}
