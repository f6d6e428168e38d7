//! What the quota group is asked and told.

use std::time::Duration;

use tidegate_model::{NodeId, Revision};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Alert, Batch, Command as quota_log, Key, Note, Orders, Policy, Rated, Reply};

use super::Cluster;
use crate::group::WriteError;
use crate::propose;
use crate::quota::{self, Unreachable};
use crate::wire::PoliciesSet;

impl Cluster {
    /// Sends one batch to the quota leader. A batch that may have arrived is never sent again: an error means that
    /// nothing is known about it.
    ///
    /// # Errors
    /// When there was no outcome within a second.
    pub async fn exchange(&self, batch: Batch) -> Result<Reply, Unreachable> {
        quota::exchange(&self.inner, batch).await
    }

    /// The next key that the quota leader asks this node to report on at once.
    pub async fn recalled(&self) -> Key {
        let next = self.inner.recalled.receive.lock().await.recv().await;
        match next {
            Some(key) => key,
            // Not reached: we hold a sender ourselves. Waiting for ever is right even so.
            None => std::future::pending().await,
        }
    }

    /// The next budget that passes a threshold, while this node leads the quota group.
    pub async fn alerted(&self) -> Alert {
        let next = self.inner.alerted.lock().await.recv().await;
        match next {
            Some(alert) => alert,
            // Not reached: the desk holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Makes the limits of a document known to the quota log, before the document is proposed. Nothing in force
    /// changes; of a document that is never published no trace stays.
    ///
    /// # Errors
    /// When no quota leader took them in time.
    pub async fn prepare_policies(&self, policies: Vec<Policy>) -> Result<(), Unreachable> {
        let prepared = quota::prepare_policies(&self.inner, policies, propose::PATIENCE).await;
        prepared.map(|_| ()).map_err(|Unreachable(why)| match self.inner.full_disk() {
            // A node without room leads nothing: that may be all there is to it.
            Some(full) => Unreachable(format!("{why}; {full}")),
            None => Unreachable(why),
        })
    }

    /// Puts the limits of a published document into force. The answer is the newest revision the log has.
    ///
    /// # Errors
    /// When no quota leader took them in time.
    pub async fn set_policies(&self, revision: Revision, policies: Vec<Policy>) -> Result<Revision, Unreachable> {
        quota::set_policies(&self.inner, revision, policies, propose::PATIENCE).await
    }

    /// Does this node lead the quota group, as far as it knows?
    #[must_use]
    pub fn leads_quota(&self) -> bool {
        self.inner.quota.status().leader == Some(self.node())
    }

    /// Who leads the quota group, as far as anybody can be asked.
    pub async fn quota_leader(&self) -> Option<NodeId> {
        quota::find(&self.inner).await
    }

    /// Whoever was believed to lead the quota group does not answer, or says that it does not.
    pub fn doubt_quota_leader(&self) {
        self.inner.quota_leader.is(None);
    }

    /// On the quota leader: puts into the quota log what operators ordered, `rates` of buckets apart. What is older than what
    /// is known changes nothing.
    ///
    /// # Errors
    /// Why it is not known to be in the log.
    pub async fn set_orders(&self, orders: Orders, rates: Vec<Rated>, patience: Duration) -> Result<(), String> {
        // Releases that know of no rates read what is ordered without any.
        let command = match rates.is_empty() {
            true => quota_log::SetOrders(orders),
            false => quota_log::SetRatedOrders(orders, rates),
        };
        match quota::command(&self.inner, command, patience).await {
            PoliciesSet::Done(_) => Ok(()),
            PoliciesSet::NotLeader(_) => Err("this node does not lead the quota group".into()),
            PoliciesSet::Unknown(why) => Err(why),
        }
    }

    /// On the quota leader: puts a note into the quota log. The same note twice changes nothing more.
    ///
    /// # Errors
    /// Why it is not known to be in the log.
    pub async fn note(&self, note: Note, patience: Duration) -> Result<(), String> {
        match quota::command(&self.inner, quota_log::Note(note), patience).await {
            PoliciesSet::Done(_) => Ok(()),
            PoliciesSet::NotLeader(_) => Err("this node does not lead the quota group".into()),
            PoliciesSet::Unknown(why) => Err(why),
        }
    }

    /// On the quota leader: returns when its ledger holds all that was acknowledged before the call.
    ///
    /// # Errors
    /// It does not lead, or a quorum does not answer in time.
    pub async fn quota_caught_up(&self, patience: Duration) -> Result<(), String> {
        let group = &self.inner.quota;
        let caught_up = async {
            let index = match group.read_index().await {
                Ok(index) => index,
                Err(WriteError::NotLeader(_)) => return Err("this node does not lead the quota group".to_owned()),
                Err(WriteError::Unknown(why)) => return Err(why),
            };
            let mut applied = group.replica.applied();
            applied.wait_for(|applied| index <= *applied).await.map(|_| ()).map_err(|_| "the group stopped".to_owned())
        };
        tokio::time::timeout(patience, caught_up).await.unwrap_or_else(|_| Err("no quorum answered in time".into()))
    }

    /// Looks at the ledger: up to date on voters, as it was when last voting on others.
    pub fn read_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.inner.quota.read(|quota| look(&quota.ledger))
    }
}
