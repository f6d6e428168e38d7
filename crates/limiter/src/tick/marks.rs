//! Marks of the journal on their way to the disk: many at a time, one write after the other. What they cover is at hand when
//! they are there.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tidegate_clock as clock;
use tidegate_model::Permits;
use tidegate_quota::Holding;

use super::Tick;
use crate::journal::Journal;
use crate::slot::Handle;

#[derive(Default)]
pub(super) struct Marks {
    /// Written down, and not being forced to the disk yet.
    waiting: Vec<Mark>,
    syncing: Option<Pin<Box<dyn Future<Output = Synced> + Send>>>,
}

struct Mark {
    slot: Handle,
    epoch: u64,
    /// `None`: there was no place for the lease, and the journal says so.
    mark: Option<Permits>,
}

pub(super) struct Synced {
    marks: Vec<Mark>,
    done: io::Result<()>,
}

impl Marks {
    /// Ready when what was being forced to the disk is there, or cannot be.
    pub(super) async fn synced(&mut self) -> Synced {
        match &mut self.syncing {
            Some(syncing) => {
                let synced = syncing.await;
                self.syncing = None;
                synced
            }
            None => std::future::pending().await,
        }
    }

    fn sync(&mut self, journal: &Arc<Journal>) {
        if self.syncing.is_some() || self.waiting.is_empty() {
            return; // The next one takes all that came meanwhile.
        }
        let (marks, journal) = (std::mem::take(&mut self.waiting), Arc::clone(journal));
        self.syncing = Some(Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || journal.sync()).await;
            Synced { marks, done: done.unwrap_or_else(|panic| Err(io::Error::other(panic))) }
        }));
    }
}

impl Tick {
    /// Writes down what more of a lease should be at hand. Under its lock.
    pub(super) fn mark(&mut self, slot: &Handle, holding: &mut Holding) {
        let Some(journal) = &self.limiter.journal else { return };
        let Some(mark) = holding.next_mark(&slot.cell, slot.queued()) else { return };
        let (epoch, journal) = (holding.epoch(), Arc::clone(journal));
        if slot.entered() != epoch {
            // Nothing was at hand of this epoch, and nothing comes back to another one.
            journal.close(slot.entry());
            match journal.open(slot.key(), epoch) {
                Ok(entry) => slot.enter(entry, epoch),
                Err(error) => {
                    slot.enter(0, epoch);
                    tracing::warn!(%error, "a budget's lease has no place in the journal: lost, it counts as spent");
                }
            }
        }
        let entry = slot.entry();
        journal.mark(entry, mark);
        let mark = (entry != 0).then_some(mark);
        self.marks.waiting.push(Mark { slot: slot.clone(), epoch, mark });
        self.marks.sync(&journal);
    }

    pub(super) fn use_marks(&mut self, synced: Synced) {
        let Synced { marks, done } = synced;
        let now = clock::boot();
        for Mark { slot, epoch, mark } in marks {
            let mut holding = slot.holding();
            match mark.filter(|_| done.is_ok()) {
                Some(mark) => holding.journalled(&slot.cell, epoch, mark, now),
                None if holding.epoch() == epoch => holding.without_journal(&slot.cell, now),
                None => {}
            }
            drop(holding);
            slot.news.notify_waiters();
        }
        if let Some(journal) = &self.limiter.journal {
            let journal = Arc::clone(journal);
            self.marks.sync(&journal);
        }
    }

    /// Forgets a slot that nobody needs; its place in the journal is another's then.
    pub(super) fn forget(&self, slot: &Handle) -> bool {
        let entry = slot.entry();
        let forgotten = self.limiter.table.forget(slot);
        if let Some(journal) = &self.limiter.journal
            && forgotten
            && entry != 0
        {
            slot.vacate(entry);
            journal.close(entry);
        }
        forgotten
    }
}
