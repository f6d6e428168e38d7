//! A Raft group's disk: the log, the vote, the commit hint and the snapshots. Knows nothing of what entries mean.
//!
//! ```text
//! control/  log.redb             entries and vote: one writer thread, one fsync per drained batch
//!           committed            how far the log was known to be committed: a hint, never fsynced
//!           snapshot-<index>     the newest two; written aside, fsynced, renamed
//! ```
//! Every record carries a checksum. Damage is an error that names the file, the place and the way out; nothing is
//! ever skipped in silence.

pub(crate) mod hint;
pub(crate) mod log;
pub(crate) mod record;
pub(crate) mod snapshots;
pub(crate) mod tail;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What the disk did, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) fsyncs: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) log_entries: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    /// Size of the newest snapshot.
    pub(crate) snapshot_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

/// A damaged or missing file. Starting stops here: the disk holds promises made to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    /// Where in the file: a record, an offset; empty for the whole file.
    pub place: String,
    pub what: String,
}

impl Damage {
    pub(crate) fn new(file: &Path, place: impl Into<String>, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), place: place.into(), what: what.to_string() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file {}", self.file.display())?;
        if !self.place.is_empty() {
            write!(f, ", {}", self.place)?;
        }
        write!(
            f,
            ": {}. The disk of this node cannot be trusted: remove the node from the cluster \
             (tidegate cluster remove ID, on another node), empty its data folder and join again with a new token; \
             if no other node is left, restore a backup",
            self.what
        )
    }
}

impl std::error::Error for Damage {}

/// Makes a rename or a new file in this folder survive a power cut.
pub(crate) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}
