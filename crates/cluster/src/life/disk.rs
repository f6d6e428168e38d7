//! A log that survives what was fsynced of it, and perhaps a little more. In the simulation it stands for `store/log.rs`;
//! records are the shipped ones.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::{Notify, oneshot};

use super::dice::Dice;
use crate::codec;
use crate::raft::{Entry, LogId, Types, Vote};
use crate::store::record;

/// What one machine's disk holds of one group; outlives its processes.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<Platter>>);

/// Of what was written and not fsynced when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The process ended, and the machine went on: all was handed to it.
    Nothing,
    /// It was killed, or the power failed: up to some write all is there.
    Some,
    All,
}

#[derive(Default)]
struct Platter {
    /// Grows with each process: a dead one writes no more.
    life: u64,
    synced: Stored,
    /// How long an fsync takes.
    slow: Duration,
}

#[derive(Default, Clone)]
struct Stored {
    vote: Option<Vec<u8>>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    records: BTreeMap<u64, Vec<u8>>,
}

enum Write {
    Records(Vec<(u64, Vec<u8>)>),
    Vote(Vec<u8>),
    Truncate(u64),
    Purge(LogId),
    Committed(Option<LogId>),
}

enum Done {
    Nobody,
    Appended(IOFlushed<Types>),
    Waits(oneshot::Sender<io::Result<()>>),
}

impl Stored {
    fn take(&mut self, write: &Write) {
        match write {
            Write::Records(records) => self.records.extend(records.iter().cloned()),
            Write::Vote(vote) => self.vote = Some(vote.clone()),
            Write::Truncate(from) => drop(self.records.split_off(from)),
            Write::Purge(upto) => {
                self.records = self.records.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
            Write::Committed(committed) => {
                // The hint is a file of its own, and may be older than the log, never newer.
                let last = self.records.keys().next_back().copied();
                if committed.is_some_and(|committed| Some(committed.index) <= last) {
                    self.committed = *committed;
                }
            }
        }
    }
}

impl Disk {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    pub(super) fn slow_down(&self, slow: Duration) {
        self.lock().slow = slow;
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log as one process has it open.
#[derive(Clone)]
pub(super) struct Log {
    disk: Disk,
    life: u64,
    open: Arc<Mutex<Open>>,
    rung: Arc<Notify>,
}

struct Open {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
    committed: Option<LogId>,
    /// Written, not fsynced.
    pending: VecDeque<(Write, Done)>,
}

impl Log {
    /// Reads what is there, and checks it.
    pub(super) fn open(disk: &Disk) -> Result<Self, String> {
        let mut platter = disk.lock();
        platter.life += 1;
        let stored = platter.synced.clone();
        let entries = stored.records.iter().map(|(index, bytes)| Ok((*index, record::open(*index, bytes)?)));
        let entries: BTreeMap<u64, Entry> = entries.collect::<Result<_, String>>()?;
        let vote = stored.vote.map(|bytes| codec::decode(&bytes)).transpose().map_err(|why| why.to_string())?;
        let log = Self {
            disk: disk.clone(),
            life: platter.life,
            open: Arc::new(Mutex::new(Open {
                entries,
                vote,
                purged: stored.purged,
                committed: stored.committed,
                pending: VecDeque::new(),
            })),
            rung: Arc::default(),
        };
        drop(platter);
        tokio::spawn(log.clone().flush_forever());
        Ok(log)
    }

    pub(super) fn purged(&self) -> Option<u64> {
        self.lock().purged.map(|id| id.index)
    }

    /// The process is gone.
    pub(super) fn cut_off(&self, lost: Lost, dice: &mut Dice) {
        let mut platter = self.disk.lock();
        let pending = std::mem::take(&mut self.lock().pending);
        if platter.life != self.life {
            return;
        }
        platter.life += 1;
        let all = pending.len() as u64;
        let kept = match lost {
            Lost::Nothing => all,
            Lost::Some => dice.below(all + 1),
            Lost::All => 0,
        };
        for (write, _) in pending.iter().take(usize::try_from(kept).unwrap_or(0)) {
            platter.synced.take(write);
        }
    }

    /// One fsync after another, in the order of the writes, each of all that waits.
    async fn flush_forever(self) {
        loop {
            self.rung.notified().await;
            loop {
                let (count, slow) = (self.lock().pending.len(), self.disk.lock().slow);
                if count == 0 {
                    break;
                }
                tokio::time::sleep(slow.max(Duration::from_micros(300))).await;
                let mut platter = self.disk.lock();
                if platter.life != self.life {
                    return;
                }
                let done: Vec<_> = self.lock().pending.drain(..count).collect();
                done.iter().for_each(|(write, _)| platter.synced.take(write));
                drop(platter);
                for (_, done) in done {
                    match done {
                        Done::Nobody => {}
                        Done::Appended(done) => done.io_completed(Ok(())),
                        Done::Waits(done) => _ = done.send(Ok(())),
                    }
                }
            }
        }
    }

    fn write(&self, write: Write, done: Done) -> io::Result<()> {
        if self.disk.lock().life != self.life {
            return Err(io::Error::other("this process is gone"));
        }
        self.lock().pending.push_back((write, done));
        self.rung.notify_one();
        Ok(())
    }

    async fn flushed(&self, write: Write) -> io::Result<()> {
        let (done, wait) = oneshot::channel();
        self.write(write, Done::Waits(done))?;
        wait.await.map_err(|_| io::Error::other("this process is gone"))?
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.lock().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let open = self.lock();
        let last = open.entries.values().next_back().map(|entry| entry.log_id).or(open.purged);
        Ok(LogState { last_purged_log_id: open.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.flushed(Write::Vote(codec::encode(vote))).await?;
        self.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.lock().committed = committed;
        self.write(Write::Committed(committed), Done::Nobody)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let seal = |entry: &Entry| (entry.log_id.index, record::seal(entry.log_id.index, &codec::encode(entry)));
        let records = entries.iter().map(seal).collect();
        self.lock().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        self.write(Write::Records(records), Done::Appended(callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        drop(self.lock().entries.split_off(&from));
        self.flushed(Write::Truncate(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut open = self.lock();
            open.entries = open.entries.split_off(&(upto.index + 1));
            open.purged = Some(upto);
        }
        // As shipped, it waits for nothing: what is purged is in a snapshot that was fsynced.
        self.write(Write::Purge(upto), Done::Nobody)
    }
}
