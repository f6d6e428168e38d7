//! One kind of things on their way to the collector, spans or lines of the log: what waits, what the collector took, what
//! was lost. A collector that is down holds up nobody: what it does not take in some attempts is lost and counted.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::partial::Partial;
use crate::queue::{Queue, Told};
use crate::tell::{Changes, Sent, say, unless_changed};

/// Things that are fewer than a batch wait so long.
const LINGER: Duration = Duration::from_secs(1);

/// Takes a batch to the collector.
pub(crate) trait Exports<T> {
    fn tell(&self, batch: Vec<T>) -> impl Future<Output = Sent> + Send;
}

pub(crate) struct Lane<T> {
    /// What they are, for people.
    what: &'static str,
    queue: Queue<T>,
    /// Rung when a good batch waits.
    full: Notify,
    /// Taken from the queue and not answered yet.
    going: AtomicUsize,
    told: AtomicU64,
    dropped: AtomicU64,
    /// The collector does not take what it is told last.
    trouble: AtomicBool,
}

impl<T: Told> Lane<T> {
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            queue: Queue::default(),
            full: Notify::new(),
            going: AtomicUsize::new(0),
            told: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            trouble: AtomicBool::new(false),
        }
    }

    /// All of them or none; what finds no room is counted.
    pub(crate) fn put<A: smallvec::Array<Item = T>>(&self, things: SmallVec<A>, most: usize) {
        match self.queue.put(things, most) {
            Ok(false) => {}
            Ok(true) => self.full.notify_one(),
            Err(lost) => self.lost(lost),
        }
    }

    #[cfg(test)]
    pub(crate) fn take(&self) -> Vec<T> {
        self.queue.take()
    }

    /// The newest stay, while there is nobody to tell.
    pub(crate) fn keep(&self, most: usize, bytes: usize) {
        self.queue.keep(most, bytes);
    }

    /// Nobody will take them.
    pub(crate) fn clear(&self) {
        self.lost(self.queue.keep(0, 0));
    }

    pub(crate) fn lost(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn told(&self) -> u64 {
        self.told.load(Relaxed)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// In batches as they come, until the rules are others.
    pub(crate) async fn tell(&self, exporter: &impl Exports<T>, mut changes: Changes) {
        loop {
            let ready = timeout(LINGER, self.full.notified());
            tokio::select! {
                biased; // Nothing more is told to the one before.
                _ = changes.changed() => return,
                _ = ready => {}
            }
            loop {
                let batch = self.queue.take();
                let count = batch.len();
                if count == 0 {
                    break;
                }
                self.going.store(count, Relaxed);
                let sent = unless_changed(exporter.tell(batch), changes.clone()).await;
                self.note(count, &sent);
                self.going.store(0, Relaxed);
                if changes.has_changed().unwrap_or(true) {
                    return;
                }
            }
        }
    }

    /// The last of a node that stops.
    pub(crate) async fn flush(&self, exporter: &impl Exports<T>) {
        loop {
            let batch = self.queue.take();
            let count = batch.len();
            if count == 0 {
                break;
            }
            let sent = exporter.tell(batch).await;
            self.note(count, &sent);
        }
        while self.going.load(Relaxed) > 0 {
            sleep(Duration::from_millis(20)).await; // The last batch that went the usual way.
        }
    }

    fn note(&self, count: usize, sent: &Sent) {
        let refused = match sent {
            Ok(None) => 0,
            Ok(Some(Partial { refused, .. })) => usize::try_from(*refused).unwrap_or(count).min(count),
            Err(_) => count,
        };
        self.told.fetch_add((count - refused) as u64, Relaxed);
        self.lost(refused);
        say(&self.trouble, self.what, sent);
    }
}
