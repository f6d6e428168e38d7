//! The one thread that writes a log file: drains its queue, commits once, tells everybody who waited.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use openraft::storage::IOFlushed;
use redb::{Database, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

use super::hint::Progress;
use super::{Counters, record};
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
    db: Database,
    counters: Arc<Counters>,
    progress: Arc<Progress>,
) -> io::Result<SyncSender<Job>> {
    let (jobs, queue) = sync_channel(QUEUE);
    let work = move || {
        let stopped = run(&db, &queue, &counters, &progress);
        drop(db); // Releases the file, and only then says so.
        if let Some(stopped) = stopped {
            _ = stopped.send(());
        }
    };
    std::thread::Builder::new().name(format!("log-{name}")).spawn(work)?;
    Ok(jobs)
}

fn run(db: &Database, queue: &Receiver<Job>, counters: &Counters, progress: &Progress) -> Option<oneshot::Sender<()>> {
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
            None => commit(db, batch, counters, progress),
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

type Committed = (Vec<Ack>, Option<oneshot::Sender<()>>, Result<(), String>);

fn commit(db: &Database, batch: Vec<Job>, counters: &Counters, progress: &Progress) -> Committed {
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
    if work.is_empty() {
        return (acks, stop, Ok(()));
    }
    let last = work.iter().rev().find_map(|item| match item {
        Write::Rows(rows) => rows.last().map(|(last, _)| *last),
        Write::Truncate(from) => Some(from.saturating_sub(1)),
        Write::Purge(..) | Write::Vote(_) => None,
    });
    let written = write(db, &work, counters).and_then(|()| match last {
        Some(last) => progress.flushed(last).map_err(redb::Error::from),
        None => Ok(()),
    });
    let result = written.map_err(|error| format!("writing the log failed: {error}"));
    (acks, stop, result)
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

fn write(db: &Database, work: &[Write], counters: &Counters) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    for item in work {
        put(&transaction, item, counters)?;
    }
    transaction.commit()?;
    Counters::add(&counters.fsyncs, 1);
    Ok(())
}

fn put(transaction: &WriteTransaction, item: &Write, counters: &Counters) -> Result<(), redb::Error> {
    let mut log = transaction.open_table(LOG)?;
    let mut meta = transaction.open_table(META)?;
    match item {
        Write::Rows(rows) => {
            for (index, record) in rows {
                log.insert(*index, record.as_slice())?;
                Counters::add(&counters.log_bytes, record.len() as u64);
                Counters::add(&counters.log_entries, 1);
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
