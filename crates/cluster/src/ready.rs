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
    pub(crate) fn readiness(&self) -> Readiness {
        if let Some(reason) = self.removed.borrow().clone() {
            return Readiness::NotYet(format!("this node was removed from the cluster: {reason}"));
        }
        let applied = *self.control.replica.applied().borrow();
        self.waiting.applied(applied);
        if let Some(failure) = self.control.failure().or_else(|| self.quota.failure()) {
            return Readiness::Degraded(format!("a group stopped: {failure}"));
        }
        match self.waiting.goal() {
            Goal::Unknown { since } if since.elapsed() < PATIENCE => Readiness::NotYet("looking for the leader".into()),
            Goal::Unknown { .. } => Readiness::Degraded("no leader was found: serving what the disk holds".into()),
            Goal::Index(index) => Readiness::NotYet(format!("applied {applied} of {index} control entries")),
            Goal::Reached if self.held.is_live() => Readiness::Ready,
            Goal::Reached => Readiness::Degraded("no node lease: cut off from the control leader".into()),
        }
    }
}
