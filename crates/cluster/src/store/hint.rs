//! How far the log was known to be committed. Written without fsync: it survives a killed process, and after a power
//! cut an older one only means that the last entries wait for the leader.
//!
//! Only entries that are on this disk are named. So a log that ends before the hint has lost something: the one case
//! that the log file cannot tell by itself, because it then looks like an older copy of itself.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;

use super::record;
use crate::codec;
use crate::raft::LogId;

/// Fixed, so that one write replaces the hint as a whole.
const SIZE: usize = 64;

#[derive(Debug)]
pub(crate) struct Hint(File);

impl Hint {
    /// Opens the file and reads the hint. A torn one counts as none.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<LogId>)> {
        let known = path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; SIZE];
        let read = file.read_at(&mut bytes, 0)?;
        let hint = parse(&bytes[..read]);
        if known && hint.is_none() {
            tracing::warn!(file = %path.display(), "the commit hint is damaged: the log's end cannot be checked against it");
        }
        Ok((Self(file), hint))
    }

    pub(crate) fn write(&self, committed: Option<LogId>) -> io::Result<()> {
        let record = record::seal(0, &codec::encode(&committed));
        let mut bytes = [0; SIZE];
        bytes[0] = u8::try_from(record.len()).map_err(io::Error::other)?;
        bytes.get_mut(1..=record.len()).ok_or_else(|| io::Error::other("hint too long"))?.copy_from_slice(&record);
        self.0.write_all_at(&bytes, 0)
    }
}

/// What is committed and what is on disk come to be known in either order; the hint waits for both.
#[derive(Debug)]
pub(crate) struct Progress(Mutex<Known>);

#[derive(Debug)]
struct Known {
    hint: Hint,
    committed: Option<LogId>,
    /// Last index that was fsynced.
    flushed: Option<u64>,
    written: Option<LogId>,
}

impl Progress {
    pub(crate) fn new(hint: Hint, flushed: Option<u64>) -> Self {
        Self(Mutex::new(Known { hint, committed: None, flushed, written: None }))
    }

    pub(crate) fn committed(&self, committed: Option<LogId>) -> io::Result<()> {
        self.change(|known| known.committed = committed)
    }

    pub(crate) fn flushed(&self, index: u64) -> io::Result<()> {
        self.change(|known| known.flushed = Some(index))
    }

    fn change(&self, change: impl FnOnce(&mut Known)) -> io::Result<()> {
        let mut known = self.0.lock().expect("no panic while locked");
        change(&mut known);
        if known.committed != known.written && known.committed.map(|id| id.index) <= known.flushed {
            known.hint.write(known.committed)?;
            known.written = known.committed;
        }
        Ok(())
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Option<LogId> {
    let (length, rest) = bytes.split_first()?;
    let record = rest.get(..usize::from(*length))?;
    codec::decode(record::check(0, record).ok()?).ok()?
}
