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
pub(crate) mod pace;
pub(crate) mod record;
pub(crate) mod snapshots;
pub(crate) mod tail;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the disk did, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) fsyncs: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) log_entries: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    /// Size of the newest snapshot.
    pub(crate) snapshot_bytes: AtomicU64,
    /// For the log: without it nothing is stored, and nothing led.
    pub(crate) room: Room,
    /// For a snapshot, which is a large new file: the log goes on without it, and grows.
    pub(crate) snapshot_room: Room,
    pub(crate) pace: pace::Pace,
}

/// Is there room on the disk? Whatever is to be written waits until there is.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// When it was first missing, on the boot clock; 0: it is there.
    missing_since: AtomicU64,
    /// The group is being closed: nobody waits any more.
    closing: AtomicBool,
}

/// Before it is tried again.
const AGAIN: Duration = Duration::from_millis(250);

impl Room {
    /// For so long; `None`: there is room.
    pub(crate) fn missing_for(&self) -> Option<Duration> {
        let since = self.missing_since.load(Ordering::Acquire);
        let now = tidegate_clock::boot().0;
        (since > 0).then(|| Duration::from_nanos(now.saturating_sub(since)))
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Writing failed for want of room: waits a little. `means`: for this node. `false`: the group is being closed.
    pub(crate) fn wait(&self, what: &Path, means: &str) -> bool {
        let now = tidegate_clock::boot().0.max(1);
        if self.missing_since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            tracing::error!(
                file = %what.display(),
                "DISK FULL: No space left on device. This node {means} until there is room; it goes on by itself then"
            );
        }
        std::thread::sleep(AGAIN);
        !self.closing.load(Ordering::Acquire)
    }

    /// Something was written.
    pub(crate) fn is_there(&self, what: &Path) {
        let since = self.missing_since.swap(0, Ordering::AcqRel);
        if since > 0 {
            let missing = Duration::from_nanos(tidegate_clock::boot().0.saturating_sub(since));
            tracing::warn!(file = %what.display(), ?missing, "there is room on the disk again");
        }
    }
}

/// No room, or no more for this user: it may come back.
pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

impl Counters {
    /// Nobody waits for room any more.
    pub(crate) fn close(&self) {
        self.room.close();
        self.snapshot_room.close();
    }

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
