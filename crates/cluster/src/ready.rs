//! When a node may serve: it has applied what was committed when it came, or nobody was there to tell.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cluster::Inner;

/// A node that finds no peer serves what it has after this.
const PATIENCE: Duration = Duration::from_secs(5);

/// May this node serve?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// It serves what it has; the reason is for people.
    Degraded(String),
    NotYet(String),
}

/// What a node waits for after its start.
#[derive(Debug)]
pub(crate) struct Waiting(Mutex<Goal>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Nobody said yet how far the log is committed.
    Unknown {
        since: Instant,
    },
    Index(u64),
    Reached,
}

impl Waiting {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Goal::Unknown { since: Instant::now() }))
    }

    /// The control leader said how far the log is committed; the first word counts.
    pub(crate) fn heard(&self, committed: u64) {
        let mut goal = self.0.lock().expect("no panic while locked");
        if matches!(*goal, Goal::Unknown { .. }) {
            *goal = Goal::Index(committed);
        }
    }

    pub(crate) fn applied(&self, applied: u64) {
        let mut goal = self.0.lock().expect("no panic while locked");
        if matches!(*goal, Goal::Index(index) if index <= applied) {
            *goal = Goal::Reached;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.0.lock().expect("no panic while locked") == Goal::Reached
    }

    fn goal(&self) -> Goal {
        *self.0.lock().expect("no panic while locked")
    }
}

impl Inner {
    /// For people. No reason not to serve.
    pub(crate) fn slow_disk(&self) -> Option<String> {
        let slow =
            [&self.control.counters, &self.quota.counters].into_iter().filter_map(|it| it.pace.told().slow).max()?;
        Some(format!("the disk of this node is slow: a commit to a log took {} ms", slow.as_millis()))
    }

    /// For people.
    pub(crate) fn full_disk(&self) -> Option<String> {
        let groups = [("control", &self.control.counters), ("quota", &self.quota.counters)];
        let full = groups.into_iter().filter_map(|(name, it)| Some((name, it.room.missing_for()?)));
        let (names, times): (Vec<_>, Vec<_>) = full.unzip();
        let seconds = times.into_iter().max()?.as_secs();
        Some(format!(
            "the disk of this node is full since {seconds} s (log of {}): it stores nothing and leads nothing until there is room; make \
             some, and it goes on by itself",
            names.join(" and ")
        ))
    }

    /// For people. No reason not to serve.
    pub(crate) fn no_snapshots(&self) -> Option<String> {
        let groups = [("control", &self.control.counters), ("quota", &self.quota.counters)];
        let short = groups.into_iter().filter(|(_, it)| it.snapshot_room.missing_for().is_some());
        let names: Vec<_> = short.map(|(name, _)| name).collect();
        let what = "there is no room on the disk of this node for a snapshot of";
        (!names.is_empty()).then(|| format!("{what} {}: the log grows until there is", names.join(" and ")))
    }

    pub(crate) fn readiness(&self) -> Readiness {
        if let Some(reason) = self.removed.borrow().clone() {
            return Readiness::NotYet(format!("this node was removed from the cluster: {reason}"));
        }
        let applied = *self.control.replica.applied().borrow();
        self.waiting.applied(applied);
        if let Some(failure) = self.control.failure().or_else(|| self.quota.failure()) {
            return Readiness::Degraded(format!("a group stopped: {failure}"));
        }
        if let Some(why) = self.full_disk() {
            return Readiness::NotYet(why);
        }
        match self.waiting.goal() {
            Goal::Unknown { since } if since.elapsed() < PATIENCE => Readiness::NotYet("looking for the leader".into()),
            Goal::Unknown { .. } => Readiness::Degraded("no leader was found: serving what the disk holds".into()),
            // Whoever leads sends them here, so that nothing comes where this address is wrong.
            Goal::Index(index) if applied == 0 => Readiness::NotYet(format!(
                "applied 0 of {index} control entries: the leader sends them to {} (UDP)",
                self.own.peer
            )),
            Goal::Index(index) => Readiness::NotYet(format!("applied {applied} of {index} control entries")),
            Goal::Reached if self.lacks_key() => Readiness::NotYet(
                "this node does not have the cluster's newest key yet, and asks the others for it".into(),
            ),
            Goal::Reached if !self.diverged().is_empty() => Readiness::Degraded(format!(
                "the {} state of this node differs from the majority's: remove it and join it anew with an empty data folder",
                self.diverged().join(" and the ")
            )),
            Goal::Reached if self.held.is_live() => Readiness::Ready,
            Goal::Reached => Readiness::Degraded("no node lease: cut off from the control leader".into()),
        }
    }
}
