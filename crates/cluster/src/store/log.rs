//! A group's log: entries on disk through the writer thread, and a copy of the unpurged tail in memory for reading.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, RwLock};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::oneshot;

use super::hint::{Hint, Progress};
use super::tail::{Facts, Reading, Tail};
use super::writer::{self, Done, Job, LAST, LOG, META, PURGED, VOTE};
use super::{Counters, Damage, record};
use crate::codec;
use crate::raft::{Entry, LogId, Types, Vote};

/// redb's cache: the log is read from memory, the file only at a start. Whatever is written stays in it until it is full, of no
/// use to anybody: more of it is memory that grows for many minutes.
pub(super) const CACHE: usize = 256 << 10;
/// Bytes of entries that one append to a follower carries, unless a single entry is larger.
const APPEND_BYTES: usize = 2 << 20;

/// Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    /// Readable before the fsync, as Raft requires.
    tail: RwLock<Tail>,
    jobs: SyncSender<Job>,
    progress: Arc<Progress>,
    counters: Arc<Counters>,
}

impl Log {
    /// Opens the log in this folder; a folder without one gets one when `fresh`, and is damage otherwise.
    pub(crate) fn open(folder: &Path, fresh: bool, counters: Arc<Counters>) -> Result<Self, Damage> {
        let path = folder.join("log.redb");
        if !fresh && !path.exists() {
            return Err(Damage::new(&path, "", "missing"));
        }
        // redb asserts on some kinds of damage; a panic here is damage too.
        let opened = catch_unwind(AssertUnwindSafe(|| load(&path, fresh)));
        let (db, mut tail) = opened.map_err(|_| Damage::new(&path, "", "the file's structure is broken"))??;
        let last = tail.last().map(|last| last.index);
        let (hint, committed) = Hint::open(&folder.join("committed"), last.is_none())
            .map_err(|error| Damage::new(&folder.join("committed"), "", error))?;
        if let Some(committed) = committed.filter(|committed| last < Some(committed.index)) {
            let what = format!("missing, though entry {} was committed", committed.index);
            return Err(Damage::new(&path, format!("record {}", last.map_or(0, |last| last + 1)), what));
        }
        tail.committed = committed;
        let progress = Arc::new(Progress::new(hint, last));
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let jobs =
            writer::start(&name, &path, db, &counters, &progress).map_err(|error| Damage::new(&path, "", error))?;
        Ok(Self { shared: Arc::new(Shared { tail: RwLock::new(tail), jobs, progress, counters }) })
    }

    /// What was purged must be in a snapshot: the last purged index, if any.
    pub(crate) fn purged(&self) -> Option<u64> {
        self.tail(|tail| tail.purged.map(|id| id.index))
    }

    /// Ends the writer thread and releases the file. Later writes fail.
    pub(crate) async fn close(&self) {
        self.shared.counters.close();
        let (stopped, wait) = oneshot::channel();
        if self.shared.jobs.send(Job::Stop(stopped)).is_ok() {
            _ = wait.await; // An error means that it is gone already.
        }
    }

    /// The same from a thread that may wait.
    pub(crate) fn close_now(&self) {
        self.shared.counters.close();
        let (stopped, wait) = oneshot::channel();
        if self.shared.jobs.send(Job::Stop(stopped)).is_ok() {
            _ = wait.blocking_recv();
        }
    }

    fn tail<T>(&self, read: impl FnOnce(&Tail) -> T) -> T {
        read(&self.shared.tail.read().expect("no panic while the tail is locked"))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tail) -> T) -> T {
        change(&mut self.shared.tail.write().expect("no panic while the tail is locked"))
    }

    fn push(&self, job: Job) -> io::Result<()> {
        self.shared.jobs.send(job).map_err(|_| io::Error::other("the log is closed"))
    }

    async fn flushed(&self, job: impl FnOnce(Done) -> Job) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.push(job(done))?;
        wait.await.map_err(|_| io::Error::other("the log is closed"))?
    }
}

fn load(path: &PathBuf, fresh: bool) -> Result<(Database, Tail), Damage> {
    let whole = |error: &dyn std::fmt::Display| Damage::new(path, "", error);
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    let db = if fresh { builder.create(path) } else { builder.open(path) }.map_err(|error| whole(&error))?;
    if fresh {
        private(path).map_err(|error| whole(&error))?;
        let transaction = db.begin_write().map_err(|error| whole(&error))?;
        transaction.open_table(LOG).map_err(|error| whole(&error))?;
        transaction.open_table(META).map_err(|error| whole(&error))?;
        transaction.commit().map_err(|error| whole(&error))?;
    }
    let tail = read(path, &db)?;
    Ok((db, tail))
}

/// Everything in the file, checked.
fn read(path: &Path, db: &Database) -> Result<Tail, Damage> {
    let whole = |error: &dyn std::fmt::Display| Damage::new(path, "", error);
    let reading = db.begin_read().map_err(|error| whole(&error))?;
    let meta = reading.open_table(META).map_err(|error| whole(&error))?;
    let fact = |name: &str| -> Result<Option<Vec<u8>>, Damage> {
        let row = meta.get(name).map_err(|error| Damage::new(path, format!("record {name}"), error))?;
        Ok(row.map(|row| row.value().to_vec()))
    };
    let facts = Facts { vote: fact(VOTE)?, purged: fact(PURGED)?, last: fact(LAST)? };
    let mut tail = Reading::begin(&facts).map_err(|fault| fault.damage(path))?;
    let log = reading.open_table(LOG).map_err(|error| whole(&error))?;
    for row in log.iter().map_err(|error| whole(&error))? {
        let (index, record) = row.map_err(|error| tail.fault(error).damage(path))?;
        tail.row(index.value(), record.value()).map_err(|fault| fault.damage(path))?;
    }
    tail.end().map_err(|fault| fault.damage(path))
}

fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.tail(|tail| tail.entries.range(range).map(|(_, entry)| entry.clone()).collect()))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.tail(|tail| tail.vote))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        Ok(self.tail(|tail| {
            let mut bytes = 0;
            let mut entries = Vec::new();
            for entry in tail.entries.range(start..end).map(|(_, entry)| entry) {
                bytes += size(entry);
                if APPEND_BYTES < bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry.clone());
            }
            entries
        }))
    }
}

fn size(entry: &Entry) -> usize {
    match &entry.payload {
        openraft::EntryPayload::Normal(payload) => payload.0.len() + 64,
        openraft::EntryPayload::Blank => 64,
        openraft::EntryPayload::Membership(_) => 1024,
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(self.tail(|tail| LogState { last_purged_log_id: tail.purged, last_log_id: tail.last() }))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = codec::encode(vote);
        self.flushed(|done| Job::Vote { vote: bytes, done }).await?;
        self.change(|tail| tail.vote = Some(*vote));
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.change(|tail| tail.committed = committed);
        self.shared.progress.committed(committed)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.tail(|tail| tail.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let rows = entries
            .iter()
            .map(|entry| (entry.log_id.index, record::seal(entry.log_id.index, &codec::encode(entry))))
            .collect();
        self.change(|tail| tail.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry))));
        self.push(Job::Append { rows, done: callback })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        self.change(|tail| drop(tail.entries.split_off(&from)));
        self.flushed(|done| Job::Truncate { from, done }).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.change(|tail| {
            tail.entries = tail.entries.split_off(&(upto.index + 1));
            tail.purged = Some(upto);
        });
        let purged = codec::encode(&upto);
        // Nobody waits for it: what was purged is in a snapshot, and is purged again if this is lost. On a slow disk a leader would
        // be silent meanwhile, and another one elected.
        let (done, _) = oneshot::channel();
        self.push(Job::Purge { upto: upto.index, purged, done })
    }
}
