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
    /// Opens the file and reads the hint. A torn one counts as none. `is_new`: the log holds nothing yet, so there is no hint.
    pub(crate) fn open(path: &Path, is_new: bool) -> io::Result<(Self, Option<LogId>)> {
        let lost = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        // One byte more than there should be.
        let mut bytes = [0; SIZE + 1];
        let read = file.read_at(&mut bytes, 0)?;
        let hint = if read == SIZE { parse(&bytes[..SIZE]) } else { None };
        if hint.is_none() && !(is_new && read == 0) {
            let what = if lost || read == 0 { "missing" } else { "damaged" };
            tracing::warn!(file = %path.display(), "the commit hint is {what}: the log's end cannot be checked against it");
        }
        if SIZE < read {
            file.set_len(SIZE as u64)?; // The next one replaces it as a whole again.
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

    /// A log that was opened again must hold what was fsynced before.
    pub(crate) fn must_reach(&self, last: Option<u64>) -> io::Result<()> {
        let flushed = self.0.lock().expect("no panic while locked").flushed;
        if flushed <= last {
            return Ok(());
        }
        Err(io::Error::other(format!("entry {flushed:?} was on the disk, and the log ends with {last:?}")))
    }

    fn change(&self, change: impl FnOnce(&mut Known)) -> io::Result<()> {
        let mut known = self.0.lock().expect("no panic while locked");
        change(&mut known);
        if known.committed != known.written && known.committed.map(|id| id.index) <= known.flushed {
            match known.hint.write(known.committed) {
                Ok(()) => known.written = known.committed,
                // An older hint is a hint as well.
                Err(error) if super::is_full(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Option<LogId> {
    let (length, rest) = bytes.split_first()?;
    let (record, padding) = rest.split_at_checked(usize::from(*length))?;
    if padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    codec::decode(record::check(0, record).ok()?).ok()?
}
