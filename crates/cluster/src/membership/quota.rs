//! The quota group's members, as the control group wants them; and what only its leader does for the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_model::NodeId;
use tidegate_quota::protocol::{Command as QuotaCommand, Key};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{CALL, CLOSE, HAND_OVER, PAUSE};
use crate::cluster::Inner;
use crate::group::GroupStatus;
use crate::propose::PATIENCE;
use crate::quota;
use crate::status::NodeReport;
use crate::wire::{Done, GroupId, Lane, PoliciesSet, Request};

impl Inner {
    /// How the quota group stands, if its leader can be asked.
    pub(crate) async fn quota_status(&self) -> Option<GroupStatus> {
        let leader = quota_leader(self).await?;
        if leader == self.me() {
            return Some(self.quota.status());
        }
        let report: NodeReport = self.peers.call(leader, Lane::Pulse, &Request::Report, CALL).await.ok()?;
        Some(report.quota.group)
    }
}

pub(super) async fn quota_leader(cluster: &Inner) -> Option<NodeId> {
    if let Some(leader) = cluster.quota.leader() {
        return Some(leader);
    }
    for node in cluster.likely_voters() {
        let request = Request::Leader(GroupId::Quota(0));
        if node == cluster.me() {
            continue;
        }
        if let Ok(Some(leader)) = cluster.peers.call::<Option<NodeId>>(node, Lane::Pulse, &request, CALL).await {
            return Some(leader);
        }
    }
    None
}

/// On the quota leader: these nodes vote, and nobody else is a member.
pub(crate) async fn quota_voters(cluster: &Inner, voters: BTreeSet<u64>) -> Done {
    let status = cluster.quota.status();
    let inside: BTreeSet<u64> = status.voters.union(&status.learners).map(|node| node.0).collect();
    for id in voters.difference(&inside) {
        let address = cluster.peers.addresses.of(NodeId(*id)).unwrap_or_default();
        cluster.quota.add_learner(NodeId(*id), &address).await?;
    }
    let behind = |matched: &BTreeMap<u64, u64>| {
        let last = cluster.quota.status().last_log;
        voters.iter().any(|id| *id != cluster.me().0 && matched.get(id).is_none_or(|matched| matched + CLOSE < last))
    };
    let patience = Instant::now() + HAND_OVER;
    while behind(&cluster.quota.matched()) && Instant::now() < patience {
        tokio::time::sleep(PAUSE).await;
    }
    cluster.quota.set_voters(voters.clone(), false).await?;
    let status = cluster.quota.status();
    let strangers: BTreeSet<u64> =
        status.learners.iter().map(|node| node.0).filter(|id| !voters.contains(id)).collect();
    if strangers.is_empty() { Ok(()) } else { cluster.quota.remove_learners(strangers).await }
}

/// On the quota leader: what removed nodes hold lapses, and nothing of them is accepted any more.
pub(super) async fn forget_removed(cluster: &Inner, told: &mut BTreeSet<NodeId>) {
    /// Older ones were told to an earlier leader.
    const NEWEST: usize = 64;
    let removed: Vec<NodeId> = cluster.control.read(|control| control.state.members.removed().take(NEWEST).collect());
    for node in removed {
        if told.contains(&node) {
            continue;
        }
        let done = quota::command(cluster, QuotaCommand::RemoveNode { node }, PATIENCE).await;
        if !matches!(done, PoliciesSet::Done(_)) {
            return;
        }
        told.insert(node);
    }
}

/// Passes the quota leader's hints on to the nodes they are for.
pub(crate) async fn send_recalls(cluster: Arc<Inner>, mut hints: mpsc::Receiver<(NodeId, Vec<Key>)>) {
    while let Some((node, keys)) = hints.recv().await {
        if node == cluster.me() {
            cluster.recall(keys);
            continue;
        }
        let sender = cluster.clone();
        tokio::spawn(async move {
            // A lost hint costs time, never correctness.
            _ = sender.peers.call::<()>(node, Lane::Calls, &Request::Recall(keys), CALL).await;
        });
    }
}
