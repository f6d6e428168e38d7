//! How this node and the cluster stand, as far as is known here.

use std::time::Duration;

use super::Cluster;
use crate::ready::Readiness;
use crate::status::{self, NodeReport, Status};
use crate::store::Counters;
use crate::store::pace::Commits;

/// Whose copy on this node is to differ.
#[cfg(debug_assertions)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoilt {
    Control,
    Quota,
}

impl Cluster {
    /// By group: how long its disk has been full, if it is.
    #[must_use]
    pub fn disks(&self) -> [(&'static str, Option<Duration>); 2] {
        let either = |it: &Counters| it.room.missing_for().or_else(|| it.snapshot_room.missing_for());
        let (control, quota) = (&self.inner.control.counters, &self.inner.quota.counters);
        [("control", either(control)), ("quota", either(quota))]
    }

    /// By group: how commits to its log went on this node.
    #[must_use]
    pub fn commits(&self) -> [(&'static str, Commits); 2] {
        [("control", self.inner.control.counters.pace.told()), ("quota", self.inner.quota.counters.pace.told())]
    }

    /// What is wrong in the cluster, as far as this node knows, in sentences for people.
    #[must_use]
    pub fn alarms(&self) -> Vec<String> {
        let it = &self.inner;
        it.divergences().into_iter().chain(it.full_disk()).chain(it.no_snapshots()).chain(it.slow_disk()).collect()
    }

    /// May this node serve?
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    /// Does this node hold its node lease? Without it, it is cut off: no cache, keys only for `max_staleness`.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.inner.held.is_live()
    }

    /// Does it hold its node lease, and has it in effect whatever was acknowledged while it did not? What is said to
    /// hold on all live nodes holds here then.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.inner.held.is_current(self.inner.is_in_effect())
    }

    /// This node's part in both groups: at once, without asking anybody.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        status::report(&self.inner)
    }

    /// The whole cluster, as seen from here and from its leaders.
    pub async fn status(&self) -> Status {
        status::status(&self.inner).await
    }

    /// Takes snapshots of both groups now. It happens by itself when the logs have grown; before a backup, ask.
    ///
    /// # Errors
    /// When a group has stopped.
    pub async fn compact(&self) -> Result<(), String> {
        self.inner.control.compact().await?;
        self.inner.quota.compact().await
    }

    /// For tests of comparisons: this node's copy of the state becomes another one than everybody else's.
    #[cfg(debug_assertions)]
    pub fn spoil(&self, group: Spoilt) {
        match group {
            Spoilt::Control => self.inner.control.replica.spoil(),
            Spoilt::Quota => self.inner.quota.replica.spoil(),
        }
    }
}
