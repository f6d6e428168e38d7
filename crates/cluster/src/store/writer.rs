//! The one thread that writes a log file: drains its queue, commits once, tells everybody who waited.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use openraft::storage::IOFlushed;
use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use super::hint::Progress;
use super::log::CACHE;
use super::tail::{Facts, Reading};
use super::{Counters, is_full, record};
use crate::raft::Types;

pub(super) const LOG: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("log");
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// The index of the last entry written: a log that ends earlier has lost something.
pub(super) const LAST: &str = "last";
pub(super) const PURGED: &str = "purged";
pub(super) const VOTE: &str = "vote";

/// Jobs waiting at most; then appenders wait.
const QUEUE: usize = 4096;
/// Jobs committed with one fsync at most.
const BATCH: usize = 1024;

pub(super) enum Job {
    /// Encoded entries, ascending.
    Append {
        rows: Vec<(u64, Vec<u8>)>,
        done: IOFlushed<Types>,
    },
    Truncate {
        /// First index that goes.
        from: u64,
        done: Done,
    },
    Purge {
        /// Last index that goes.
        upto: u64,
        purged: Vec<u8>,
        done: Done,
    },
    Vote {
        vote: Vec<u8>,
        done: Done,
    },
    Stop(oneshot::Sender<()>),
}

pub(super) type Done = oneshot::Sender<io::Result<()>>;

enum Ack {
    Flushed(IOFlushed<Types>),
    Done(Done),
}

pub(super) fn start(
    name: &str,
    path: &Path,
    db: Database,
    counters: &Arc<Counters>,
    progress: &Arc<Progress>,
) -> io::Result<SyncSender<Job>> {
    let (jobs, queue) = sync_channel(QUEUE);
    let (path, counters, progress) = (path.to_owned(), counters.clone(), progress.clone());
    let work = move || {
        let mut writer = Writer { path, db: Some(db), counters, progress };
        let stopped = writer.run(&queue);
        drop(writer); // Releases the file, and only then says so.
        if let Some(stopped) = stopped {
            _ = stopped.send(());
        }
    };
    std::thread::Builder::new().name(format!("log-{name}")).spawn(work)?;
    Ok(jobs)
}

struct Writer {
    path: PathBuf,
    /// `None`: after a failed commit, until it is opened again.
    db: Option<Database>,
    counters: Arc<Counters>,
    progress: Arc<Progress>,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Job>) -> Option<oneshot::Sender<()>> {
        let mut stop = None;
        // A failed commit leaves the file as it was before: from then on nothing may be written after the gap.
        let mut broken: Option<String> = None;
        while stop.is_none() {
            let Ok(first) = queue.recv() else { return None };
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match queue.try_recv() {
                    Ok(job) => batch.push(job),
                    Err(_) => break,
                }
            }
            let (acks, stopped, result) = match &broken {
                None => self.commit(batch),
                Some(why) => refuse(batch, why),
            };
            if let Err(why) = &result {
                broken.get_or_insert_with(|| why.clone());
            }
            for ack in acks {
                let result = result.clone().map_err(io::Error::other);
                match ack {
                    Ack::Flushed(callback) => callback.io_completed(result),
                    Ack::Done(done) => _ = done.send(result), // Whoever asked may have gone.
                }
            }
            stop = stopped;
        }
        stop
    }

    fn commit(&mut self, batch: Vec<Job>) -> Committed {
        let (work, acks, stop) = sorted(batch);
        if work.is_empty() {
            return (acks, stop, Ok(()));
        }
        let last = work.iter().rev().find_map(|item| match item {
            Write::Rows(rows) => rows.last().map(|(last, _)| *last),
            Write::Truncate(from) => Some(from.saturating_sub(1)),
            Write::Purge(..) | Write::Vote(_) => None,
        });
        let written = self.write(&work).and_then(|()| match last {
            Some(last) => self.progress.flushed(last).map_err(redb::Error::from),
            None => Ok(()),
        });
        let result = written.map_err(|error| format!("writing the log failed: {error}"));
        (acks, stop, result)
    }

    /// All of it, in one commit. Where there is no room it waits for some, and with it whoever appends: the group goes on
    /// without this node. A commit that failed changed nothing, and what it writes may be written twice.
    fn write(&mut self, work: &[Write]) -> Result<(), redb::Error> {
        loop {
            self.counters.pace.begin();
            let counters = self.counters.clone();
            let done = self.opened().and_then(|db| write(db, work));
            counters.pace.end();
            match done {
                Err(redb::Error::Io(error)) if is_full(&error) => {
                    // The file takes nothing more after a failed write until it is opened anew.
                    self.db = None;
                    if !self.counters.room.wait(&self.path, "stores no entries, leads nothing and is not ready") {
                        return Err(redb::Error::Io(error));
                    }
                }
                Err(other) => return Err(other),
                Ok(()) => {
                    for item in work {
                        item.count(&self.counters);
                    }
                    Counters::add(&self.counters.fsyncs, 1);
                    self.counters.room.is_there(&self.path);
                    return Ok(());
                }
            }
        }
    }

    fn opened(&mut self) -> Result<&Database, redb::Error> {
        if self.db.is_none() {
            // As when it was opened first: redb asserts on some kinds of damage.
            let open = || -> Result<_, redb::Error> {
                let db = Database::builder().set_cache_size(CACHE).open(&self.path)?;
                let last = last(&db)?;
                Ok((db, last))
            };
            let opened = catch_unwind(AssertUnwindSafe(open));
            let broken = |_| redb::Error::Corrupted("the file's structure is broken".into());
            let (db, last) = opened.map_err(broken)??;
            self.progress.must_reach(last).map_err(redb::Error::Io)?;
            self.db = Some(db);
        }
        Ok(self.db.as_ref().expect("it was opened"))
    }
}

/// The last entry that the file should hold.
fn last(db: &Database) -> Result<Option<u64>, redb::Error> {
    let meta = db.begin_read()?.open_table(META)?;
    let fact = |name| -> Result<_, redb::Error> { Ok(meta.get(name)?.map(|row| row.value().to_vec())) };
    let facts = Facts { vote: None, purged: fact(PURGED)?, last: fact(LAST)? };
    let reading = Reading::begin(&facts).map_err(|fault| redb::Error::Corrupted(fault.to_string()))?;
    Ok(reading.reaches())
}

type Committed = (Vec<Ack>, Option<oneshot::Sender<()>>, Result<(), String>);

/// What is to be written, who waits for it, and whether that is the end.
fn sorted(batch: Vec<Job>) -> (Vec<Write>, Vec<Ack>, Option<oneshot::Sender<()>>) {
    let mut acks = Vec::with_capacity(batch.len());
    let mut stop = None;
    let mut work = Vec::with_capacity(batch.len());
    for job in batch {
        match job {
            Job::Append { rows, done } => {
                acks.push(Ack::Flushed(done));
                work.push(Write::Rows(rows));
            }
            Job::Truncate { from, done } => {
                acks.push(Ack::Done(done));
                work.push(Write::Truncate(from));
            }
            Job::Purge { upto, purged, done } => {
                acks.push(Ack::Done(done));
                work.push(Write::Purge(upto, purged));
            }
            Job::Vote { vote, done } => {
                acks.push(Ack::Done(done));
                work.push(Write::Vote(vote));
            }
            Job::Stop(stopped) => stop = Some(stopped),
        }
    }
    (work, acks, stop)
}

fn refuse(batch: Vec<Job>, why: &str) -> Committed {
    let mut acks = Vec::new();
    let mut stop = None;
    for job in batch {
        match job {
            Job::Append { done, .. } => acks.push(Ack::Flushed(done)),
            Job::Truncate { done, .. } | Job::Purge { done, .. } | Job::Vote { done, .. } => acks.push(Ack::Done(done)),
            Job::Stop(stopped) => stop = Some(stopped),
        }
    }
    (acks, stop, Err(why.to_owned()))
}

enum Write {
    Rows(Vec<(u64, Vec<u8>)>),
    Truncate(u64),
    Purge(u64, Vec<u8>),
    Vote(Vec<u8>),
}

impl Write {
    fn count(&self, counters: &Counters) {
        if let Self::Rows(rows) = self {
            Counters::add(&counters.log_bytes, rows.iter().map(|(_, record)| record.len() as u64).sum());
            Counters::add(&counters.log_entries, rows.len() as u64);
        }
    }
}

fn write(db: &Database, work: &[Write]) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    for item in work {
        put(&transaction, item)?;
    }
    transaction.commit()?;
    Ok(())
}

fn put(transaction: &WriteTransaction, item: &Write) -> Result<(), redb::Error> {
    let mut log = transaction.open_table(LOG)?;
    let mut meta = transaction.open_table(META)?;
    match item {
        Write::Rows(rows) => {
            for (index, record) in rows {
                log.insert(*index, record.as_slice())?;
            }
            if let Some((last, _)) = rows.last() {
                meta.insert(LAST, record::seal(0, &last.to_le_bytes()).as_slice())?;
            }
        }
        Write::Truncate(from) => {
            log.retain_in(*from.., |_, _| false)?;
            meta.insert(LAST, record::seal(0, &from.saturating_sub(1).to_le_bytes()).as_slice())?;
        }
        Write::Purge(upto, purged) => {
            log.retain_in(..=*upto, |_, _| false)?;
            meta.insert(PURGED, record::seal(0, purged).as_slice())?;
        }
        Write::Vote(vote) => {
            meta.insert(VOTE, record::seal(0, vote).as_slice())?;
        }
    }
    Ok(())
}
