//! The decision task. One per node; it works while its node leads the quota group.
//!
//! Grants are decided by `Ledger::apply`, the same on every replica. What only the leader can add is time.
//!
//! Stamps ([`tidegate_quota::Stamps`]) are handed to Raft in order, several in flight. An entry is appended only under
//! the leadership it was stamped in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{Nanos, NodeId};
use tidegate_quota::Stamps;
use tidegate_quota::protocol::{Alert, Batch, Command, Entry, Key, LEASE_TTL, Outcome, oldest_decided};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::machine::Quota;
use crate::codec;
use crate::group::{Group, WriteError};
use crate::raft::LeaderId;
use crate::wire::{Exchanged, PoliciesSet};

/// Batches waiting at most; beyond it nodes are told to come again.
const QUEUE: usize = 4096;
/// Entries on their way through Raft at a time.
const IN_FLIGHT: usize = 8;
/// Keys decided in one entry at most, so that an entry stays small against the frame limit.
const ROUND_ITEMS: usize = 50_000;
/// Reports that nobody waits for are gathered for this long: a commit costs every voter an fsync.
const GATHER: Duration = Duration::from_millis(20);
/// What somebody waits for begins an entry at once, unless another one began so short a time ago.
const APART: Duration = Duration::from_millis(3);
/// An idle leader moves the log's clock this often while anything is charged.
const TICK: Duration = Duration::from_secs(1);

/// What the desk is asked.
pub(crate) enum Errand {
    Batch { batch: Batch, reply: oneshot::Sender<Exchanged> },
    Command { command: Command, reply: oneshot::Sender<PoliciesSet> },
}

struct Waiting {
    errand: Errand,
    since: Nanos,
}

impl Waiting {
    fn items(&self) -> usize {
        match &self.errand {
            Errand::Batch { batch, .. } => batch.items.len(),
            Errand::Command { .. } => 0,
        }
    }

    fn is_command(&self) -> bool {
        matches!(self.errand, Errand::Command { .. })
    }

    fn presses(&self) -> bool {
        match &self.errand {
            Errand::Batch { batch, .. } => batch.presses(),
            Errand::Command { .. } => true,
        }
    }
}

/// The way to the decision task.
#[derive(Clone)]
pub(crate) struct Desk(mpsc::Sender<Waiting>);

/// Sent to a node that should report on these keys at once.
pub(crate) type Recalls = mpsc::Sender<(NodeId, Vec<Key>)>;

impl Desk {
    /// Starts the task; it ends when all clones of the desk are gone.
    pub(crate) fn open(
        group: Arc<Group<Quota>>,
        recalls: Recalls,
        alerts: mpsc::Sender<Alert>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (errands, queue) = mpsc::channel(QUEUE);
        let room = Arc::new(Semaphore::new(IN_FLIGHT));
        let task = Task {
            group,
            hints: Hints { recalls, alerts },
            queue,
            stamps: Stamps::default(),
            room,
            began: Instant::now(),
        };
        (Self(errands), task.run())
    }

    /// Hands an errand over; `Err`: there is no room, nothing was done.
    pub(crate) fn ask(&self, errand: Errand) -> Result<(), ()> {
        self.0.try_send(Waiting { errand, since: tidegate_clock::raw() }).map_err(|_| ())
    }
}

/// What an outcome tells others than those who asked.
#[derive(Clone)]
struct Hints {
    recalls: Recalls,
    alerts: mpsc::Sender<Alert>,
}

struct Task {
    group: Arc<Group<Quota>>,
    hints: Hints,
    queue: mpsc::Receiver<Waiting>,
    stamps: Stamps<LeaderId>,
    room: Arc<Semaphore>,
    /// When the last round did.
    began: Instant,
}

impl Task {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Room first: what waits meanwhile goes into the same entry.
            let Ok(permit) = self.room.clone().acquire_owned().await else { return };
            tokio::select! {
                biased;
                first = self.queue.recv() => {
                    let Some(first) = first else { return };
                    tick.reset();
                    let round = self.gather(first).await;
                    self.round(round, permit).await;
                }
                _ = tick.tick() => self.idle(permit).await,
            }
        }
    }

    async fn idle(&mut self, permit: OwnedSemaphorePermit) {
        let Some(leadership) = self.group.leadership() else { return };
        if self.group.read(|quota| quota.ledger.is_charged()) {
            let entry = self.stamp(leadership, Command::Tick);
            self.submit(entry, leadership, Vec::new(), None, permit).await;
        }
    }

    /// What belongs into one entry: what waits now, and what comes while nobody is in a hurry. A command is the last.
    async fn gather(&mut self, first: Waiting) -> Vec<Waiting> {
        let (mut items, mut presses) = (first.items(), first.presses());
        let mut ends = first.is_command() || self.group.leadership().is_none();
        let patience = Instant::now() + GATHER;
        let mut round = vec![first];
        while !ends && items < ROUND_ITEMS {
            let next = match self.queue.try_recv() {
                Ok(next) => Some(next),
                Err(_) => {
                    let until = if presses { self.began + APART } else { patience };
                    tokio::time::timeout_at(until, self.queue.recv()).await.ok().flatten()
                }
            };
            let Some(next) = next else { break };
            items += next.items();
            presses |= next.presses();
            ends = next.is_command();
            round.push(next);
        }
        self.began = Instant::now();
        round
    }

    /// A round becomes one entry, and its command another.
    async fn round(&mut self, round: Vec<Waiting>, permit: OwnedSemaphorePermit) {
        let mut batches = Vec::new();
        let mut replies = Vec::new();
        let mut command = None;
        let oldest = oldest_decided(tidegate_clock::raw(), LEASE_TTL);
        for waiting in round {
            match waiting.errand {
                Errand::Batch { reply, .. } if waiting.since < oldest => {
                    _ = reply.send(Exchanged::Lost("the batch waited too long".into()));
                }
                Errand::Batch { batch, reply } => {
                    batches.push(batch);
                    replies.push(reply);
                }
                Errand::Command { command: asked, reply } => command = Some((asked, reply)),
            }
        }
        let Some(leadership) = self.group.leadership() else {
            let leader = self.other_leader();
            replies.into_iter().for_each(|reply| _ = reply.send(Exchanged::NotLeader(leader)));
            if let Some((_, reply)) = command {
                _ = reply.send(PoliciesSet::NotLeader(leader));
            }
            return;
        };
        let mut permit = Some(permit);
        if !batches.is_empty() {
            let entry = self.stamp(leadership, Command::Batches(batches));
            let room = if command.is_some() { None } else { permit.take() };
            self.submit(entry, leadership, replies, None, room).await;
        }
        if let Some((command, reply)) = command {
            let entry = self.stamp(leadership, command);
            self.submit(entry, leadership, Vec::new(), Some(reply), permit).await;
        }
    }

    fn other_leader(&self) -> Option<NodeId> {
        // A leader that has not applied its blank entry yet is no leader to anybody; it is one in a moment.
        self.group.leader()
    }

    fn stamp(&mut self, leadership: LeaderId, command: Command) -> Entry {
        let applied_at = self.group.read(|quota| quota.applied_at);
        Entry { dt: self.stamps.next(leadership, applied_at, tidegate_clock::raw()), command }
    }

    async fn submit(
        &self,
        entry: Entry,
        leadership: LeaderId,
        replies: Vec<oneshot::Sender<Exchanged>>,
        done: Option<oneshot::Sender<PoliciesSet>>,
        permit: impl Send + 'static,
    ) {
        let submitted = self.group.submit(Bytes::from(codec::encode(&entry)), leadership).await;
        let hints = self.hints.clone();
        let outcome = match submitted {
            Ok(outcome) => outcome,
            Err(error) => return answer(Err(error), replies, done, &hints),
        };
        tokio::spawn(async move {
            let outcome = outcome.await.map(|(_, outcome)| outcome);
            drop(permit);
            answer(outcome, replies, done, &hints);
        });
    }
}

fn answer(
    outcome: Result<Outcome, WriteError>,
    replies: Vec<oneshot::Sender<Exchanged>>,
    done: Option<oneshot::Sender<PoliciesSet>>,
    hints: &Hints,
) {
    // Whoever asked may have given up: sending to nobody is fine.
    match outcome {
        Ok(outcome) => {
            if let Some(done) = done {
                _ = done.send(PoliciesSet::Done(outcome.revision));
            }
            for (reply, to) in outcome.replies.into_iter().zip(replies) {
                _ = to.send(Exchanged::Reply(reply));
            }
            let mut by_node: BTreeMap<NodeId, Vec<Key>> = BTreeMap::new();
            for recall in outcome.recalls {
                by_node.entry(recall.node).or_default().push(recall.key);
            }
            for hint in by_node {
                _ = hints.recalls.try_send(hint); // A lost hint costs time, never correctness.
            }
            for alert in outcome.alerts {
                if hints.alerts.try_send(alert).is_err() {
                    tracing::warn!(?alert, "an alert of a budget was dropped: too many at once");
                }
            }
        }
        Err(WriteError::NotLeader(leader)) => {
            replies.into_iter().for_each(|reply| _ = reply.send(Exchanged::NotLeader(leader)));
            if let Some(done) = done {
                _ = done.send(PoliciesSet::NotLeader(leader));
            }
        }
        Err(WriteError::Unknown(reason)) => {
            replies.into_iter().for_each(|reply| _ = reply.send(Exchanged::Lost(reason.clone())));
            if let Some(done) = done {
                _ = done.send(PoliciesSet::Unknown(reason));
            }
        }
    }
}
