//! Writes to Redis, one after the other, off every request's path. The queue is bounded in bytes and in number; what
//! does not fit is dropped: another node, or the next fetch, will write it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::Cmd;
use tidegate_model::Millis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::names::{self, NOT_SHARED};
use super::{Jobs, Remote, Token, codec};
use crate::rules::key::Key;
use crate::rules::vary::Selector;
use crate::stored::Stored;

const JOBS: usize = 4_096;
/// How long a void mark is kept: longer than a response is.
const VOID: u64 = 24 * 3_600 * 1_000;
/// How long nobody waits for who fetches what is not shared.
const NOT_SHARED_FOR: u64 = 2_000;
/// Beyond the deadline of a request, for each so many bytes.
const BYTES_PER_MILLISECOND: usize = 8 << 10;

/// Whose lock it is is checked where the lock is.
const UNLOCK: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
    if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end \
    return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end return 0";

#[derive(Debug)]
pub(super) enum Job {
    Store { stored: Arc<Stored>, variants: usize },
    Void { name: String, now: Millis },
    Unlock { name: String, token: Token, not_shared: bool },
}

#[derive(Debug)]
pub(super) struct Queue {
    jobs: mpsc::Sender<(Job, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    bound: usize,
}

impl Queue {
    pub(super) fn new(bytes: usize) -> (Self, Jobs) {
        let (jobs, receiver) = mpsc::channel(JOBS);
        let bound = bytes.min(Semaphore::MAX_PERMITS);
        (Self { jobs, room: Arc::new(Semaphore::new(bound)), bound }, receiver)
    }

    pub(super) fn push(&self, job: Job) -> bool {
        let Ok(bytes) = u32::try_from(job.weight()) else { return false };
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else { return false };
        self.jobs.try_send((job, room)).is_ok()
    }

    pub(super) fn waiting(&self) -> usize {
        self.bound - self.room.available_permits()
    }
}

impl Job {
    fn weight(&self) -> usize {
        match self {
            Self::Store { stored, .. } => stored.weight(),
            Self::Void { .. } | Self::Unlock { .. } => 256,
        }
    }
}

pub(super) async fn write(remote: Weak<Remote>, mut jobs: Jobs) {
    while let Some((job, _room)) = jobs.recv().await {
        let Some(remote) = remote.upgrade() else { return };
        for command in commands(&remote, &job) {
            if !put(&remote, &command).await {
                break;
            }
        }
    }
}

fn commands(remote: &Remote, job: &Job) -> Vec<Cmd> {
    match job {
        Job::Store { stored, variants } => store(remote, stored, *variants),
        Job::Void { name, now } => vec![set(name, now.0.to_string().as_bytes(), VOID)],
        Job::Unlock { name, token, not_shared } => {
            let mut command = redis::cmd("EVAL");
            command.arg(UNLOCK).arg(1).arg(name).arg(&token.0.to_be_bytes()[..]);
            command.arg(if *not_shared { NOT_SHARED } else { &[][..] }).arg(NOT_SHARED_FOR);
            vec![command]
        }
    }
}

/// The response first: a mark that it varies must not lead to nothing.
fn store(remote: &Remote, stored: &Stored, variants: usize) -> Vec<Cmd> {
    let age = Millis(tidegate_clock::wall().0 / 1_000_000).saturating_sub(stored.terms.born);
    let left = stored.terms.keep.saturating_sub(age).0;
    if left == 0 {
        return Vec::new();
    }
    let key: &Key = &stored.key;
    let place = |selector: &Selector| (!selector.is_empty()).then(|| names::variant(selector, variants));
    let at = place(&stored.selector);
    let mut commands = vec![set(&remote.names.response(key, at), &codec::response(stored), left)];
    if at.is_some() {
        let by: Vec<_> = stored.selector.fields().iter().map(|(name, _)| name.clone()).collect();
        commands.push(set(&remote.names.response(key, None), &codec::varies(&by), left));
    }
    commands
}

fn set(name: &str, value: &[u8], left: u64) -> Cmd {
    let mut command = redis::cmd("SET");
    command.arg(name).arg(value).arg("PX").arg(left);
    command
}

async fn put(remote: &Remote, command: &Cmd) -> bool {
    let link = remote.link.load_full();
    let Some(link) = link.filter(|_| !remote.breaker.is_open()) else {
        remote.counters.dropped.fetch_add(1, Ordering::Relaxed);
        return false;
    };
    let bytes = command.get_packed_command().len();
    let more = Duration::from_millis(u64::try_from(bytes / BYTES_PER_MILLISECOND).unwrap_or(u64::MAX));
    let mut wire = link.writes.clone();
    let answer = timeout(remote.settings.deadline + more, wire.query(command)).await;
    let written = remote.judge(answer, &remote.counters.write_errors).is_some();
    if written {
        remote.counters.writes.fetch_add(1, Ordering::Relaxed);
    }
    written
}
