//! Keeping the cluster in shape: node leases, who votes, who leaves. Every loop here converges: whatever it finds, it
//! takes the next step towards what should be, and finds the rest next time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_model::NodeId;
use tidegate_quota::protocol::{Command as QuotaCommand, Key};
use tidegate_state::{Change, Command, Outcome, RequestId};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::cluster::Inner;
use crate::error::ProposeError;
use crate::group::Group;
use crate::propose::{self, PATIENCE};
use crate::quota;
use crate::replica::Machine;
use crate::transport::peers::CallError;
use crate::voters::{Seen, desired};
use crate::wire::{Done, GroupId, Lane, LeaseView, LeasesReply, PoliciesSet, Renewed, Request};

/// A lease is renewed this often; it lives four times as long.
const RENEW: Duration = Duration::from_millis(500);
const CALL: Duration = Duration::from_millis(400);
/// The reconciler looks again this soon while something is not as it should be …
const CONVERGE: Duration = Duration::from_millis(250);
/// … and this often when all is well: a lapsed node lease is nobody's news.
const LOOK: Duration = Duration::from_secs(1);
/// A voter that is silent for this long is replaced.
const GONE_MS: u64 = 10_000;
/// Entries that a learner may be behind to count as caught up.
const CLOSE: u64 = 64;
/// How long leaving waits for successors.
const HAND_OVER: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(25);

/// Renews this node's lease, every half second and whenever there is something to tell.
pub(crate) async fn renew_forever(cluster: Arc<Inner>) {
    let mut applied = cluster.control.replica.applied();
    let mut hint = None;
    loop {
        applied.mark_unchanged();
        let pause = match renew(&cluster, &mut hint).await {
            true => RENEW,
            false => Duration::from_millis(50),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cluster.renew_now.notified() => {}
            _ = applied.changed() => {}
        }
        cluster.waiting.applied(*applied.borrow());
    }
}

async fn renew(cluster: &Inner, hint: &mut Option<NodeId>) -> bool {
    let Some(leader) = propose::find(cluster, hint.take()).await else { return false };
    let renewal = cluster.renewal();
    let sent = tidegate_clock::boot();
    let renewed = if leader == cluster.me() {
        Ok(cluster.renew(leader, renewal).await)
    } else {
        cluster.peers.call(leader, Lane::Pulse, &Request::Renew(renewal), CALL).await
    };
    match renewed {
        Ok(Renewed::Kept { committed, voters }) => {
            cluster.held.kept(sent);
            cluster.waiting.heard(committed);
            *cluster.voters.lock().expect("no panic while locked") = voters;
            true
        }
        Ok(Renewed::NotLeader(other)) => {
            *hint = other.filter(|other| *other != leader);
            false
        }
        Err(CallError::Removed(why)) => {
            cluster.was_removed(why);
            false
        }
        Err(_) => false,
    }
}

impl Inner {
    /// A member says that this node was removed. It is for good.
    pub(crate) fn was_removed(&self, why: String) {
        self.removed.send_if_modified(|removed| {
            let news = removed.is_none();
            if news {
                tracing::warn!(reason = %why, "this node was removed from the cluster");
                *removed = Some(why);
            }
            news
        });
    }
}

/// Keeps the address book, the open connections and `node.json` in step with the members.
pub(crate) async fn follow_members(cluster: Arc<Inner>) {
    let mut news = cluster.news.subscribe();
    loop {
        cluster.know_members();
        let members: BTreeSet<NodeId> =
            cluster.control.read(|control| control.state.members.nodes().map(|node| node.id).collect());
        if !members.is_empty() {
            // This node's own id is missing while it catches up with the log in which it joined.
            let stays = |node: NodeId| {
                members.contains(&node) || !cluster.control.read(|control| control.state.members.was_removed(node))
            };
            cluster.open.close_all_but(stays);
            cluster.peers.drop_all_but(stays);
            if let Err(error) = cluster.write_node() {
                tracing::warn!(%error, "the members' addresses could not be saved");
            }
        }
        cluster.converge_now.notify_one();
        loop {
            match news.recv().await {
                Ok(news) if matches!(news.change, Change::Members | Change::Everything) => break,
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

/// Tells the state where this node is now, if the state thinks otherwise.
pub(crate) async fn tell_addresses(cluster: Arc<Inner>) {
    let mut applied = cluster.control.replica.applied();
    loop {
        let known = cluster.control.read(|control| control.state.members.node(cluster.me()).cloned());
        let right = known
            .as_ref()
            .is_some_and(|known| known.addresses == cluster.own && known.feature_level == cluster.feature_level);
        let told = right || (known.is_some() && tell(&cluster).await);
        if told && cluster.waiting.is_over() {
            return;
        }
        // Not a member yet, or not caught up: what the state says may still change.
        _ = tokio::time::timeout(Duration::from_secs(1), applied.changed()).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(cluster: &Inner) -> bool {
    let (id, addresses) = (cluster.me(), cluster.own.clone());
    let command = Command::UpdateNode { id, addresses, feature_level: cluster.feature_level };
    let request = RequestId(u128::from_le_bytes(crate::token::random()));
    propose::propose(cluster, request, command, PATIENCE).await.is_ok()
}

/// A cluster of one need not wait for an election timeout.
pub(crate) async fn elect_if_alone(cluster: Arc<Inner>) {
    async fn elect<M: Machine>(group: &Group<M>, me: NodeId) {
        let voters: Vec<u64> = group.replica.membership().voter_ids().collect();
        if voters == [me.0] && group.leader().is_none() {
            _ = group.raft.trigger().elect(false).await; // Else the timeout does it.
        }
    }
    elect(&cluster.control, cluster.me()).await;
    elect(&cluster.quota, cluster.me()).await;
}

/// The control leader brings both groups' memberships to what they should be.
pub(crate) async fn converge_forever(cluster: Arc<Inner>) {
    let mut told = BTreeSet::new();
    loop {
        let mut pause = LOOK;
        if cluster.control.leadership().is_some() {
            match converge(&cluster).await {
                Ok(true) => {}
                Ok(false) => pause = CONVERGE,
                Err(reason) => {
                    tracing::debug!(%reason, "the membership is not what it should be yet");
                    pause = CONVERGE;
                }
            }
        }
        if cluster.quota.leadership().is_some() {
            forget_removed(&cluster, &mut told).await;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cluster.converge_now.notified() => {}
        }
    }
}

/// `false`: there is more to do, now or when those who are behind have caught up.
async fn converge(cluster: &Inner) -> Result<bool, String> {
    let status = cluster.control.status();
    let members: BTreeMap<u64, String> = cluster
        .control
        .read(|control| control.state.members.nodes().map(|node| (node.id.0, node.addresses.peer.clone())).collect());
    if members.is_empty() {
        return Ok(false);
    }
    // Everybody in the state is a learner first.
    let inside: BTreeSet<u64> = status.voters.union(&status.learners).map(|node| node.0).collect();
    for (id, address) in &members {
        if !inside.contains(id) {
            cluster.control.add_learner(NodeId(*id), address).await?;
        }
    }
    let current: BTreeSet<u64> = status.voters.iter().map(|node| node.0).collect();
    let seen = seen(cluster, &members, status.last_log).await?;
    let wanted = desired(cluster.me().0, &current, &seen);
    let settled = status.settled && inside.len() == members.len() && current == wanted;
    let settled = settled && seen.values().all(|seen| seen.live && seen.caught_up && !seen.draining);
    let quota: BTreeSet<u64> = cluster.quota_members().await.unwrap_or_default();
    let settled = settled && quota == wanted;
    // Control first in …
    if !wanted.is_subset(&current) {
        let both: BTreeSet<u64> = current.union(&wanted).copied().collect();
        cluster.control.set_voters(both, true).await?;
    }
    // … then quota in and out …
    if quota != wanted {
        let leader = quota_leader(cluster).await.ok_or("the quota group has no leader")?;
        let done: Done = if leader == cluster.me() {
            quota_voters(cluster, wanted.clone()).await
        } else {
            let request = Request::QuotaVoters(wanted.clone());
            let called = cluster.peers.call(leader, Lane::Calls, &request, PATIENCE).await;
            called.unwrap_or_else(|error| Err(error.to_string()))
        };
        done?;
    }
    // … and control last out.
    let current: BTreeSet<u64> = cluster.control.status().voters.iter().map(|node| node.0).collect();
    if current != wanted {
        cluster.control.set_voters(wanted, true).await?;
    }
    let strangers: BTreeSet<u64> = inside.iter().filter(|id| !members.contains_key(id)).copied().collect();
    if !strangers.is_empty() {
        cluster.control.remove_learners(strangers).await?;
    }
    Ok(settled)
}

async fn seen(cluster: &Inner, members: &BTreeMap<u64, String>, last_log: u64) -> Result<BTreeMap<u64, Seen>, String> {
    let LeasesReply::Are(leases) = cluster.lease_views().await else { return Err("not the leader any more".into()) };
    let matched = cluster.control.matched();
    let look = |id: &u64| {
        let lease: Option<&LeaseView> = leases.get(&NodeId(*id));
        let itself = *id == cluster.me().0;
        let heard = lease.is_some_and(|lease| lease.live && !lease.unknown);
        Seen {
            live: itself || heard,
            gone: !itself && lease.is_some_and(|lease| GONE_MS <= lease.age_ms),
            caught_up: itself || matched.get(id).is_some_and(|matched| last_log <= matched + CLOSE),
            draining: lease.and_then(|lease| lease.renewal.as_ref()).is_some_and(|renewal| renewal.draining),
        }
    };
    Ok(members.keys().map(|id| (*id, look(id))).collect())
}

impl Inner {
    /// The quota group's voters, if its leader can be asked.
    async fn quota_members(&self) -> Option<BTreeSet<u64>> {
        let leader = quota_leader(self).await?;
        let status = if leader == self.me() {
            self.quota.status()
        } else {
            let report: crate::status::NodeReport =
                self.peers.call(leader, Lane::Pulse, &Request::Report, CALL).await.ok()?;
            report.quota.group
        };
        let all = status.voters.union(&status.learners).map(|node| node.0);
        Some(all.collect())
    }
}

async fn quota_leader(cluster: &Inner) -> Option<NodeId> {
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
async fn forget_removed(cluster: &Inner, told: &mut BTreeSet<NodeId>) {
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

pub(crate) async fn remove(cluster: &Inner, id: NodeId) -> Result<Outcome, ProposeError> {
    let voters = cluster.control.status().voters;
    if voters.len() == 1 && voters.contains(&id) {
        let reason = format!(
            "node {id} is the only one that votes: without it nothing can be agreed on. Add nodes until three vote, or \
             let it leave by itself, which hands over first"
        );
        return Err(ProposeError::Refused(reason));
    }
    let request = RequestId(u128::from_le_bytes(crate::token::random()));
    let applied = propose::propose(cluster, request, Command::RemoveNode { id }, PATIENCE).await?;
    Ok(applied.outcome)
}

/// Gives this node's leaderships to the best other voters, if there are any.
pub(crate) async fn step_down(cluster: &Inner) {
    for group in [GroupId::Quota(0), GroupId::Control] {
        if let Err(reason) = give_away(cluster, group, None).await {
            tracing::debug!(?group, %reason, "leadership was not handed over");
        }
    }
}

pub(crate) async fn leave(cluster: &Inner) -> Result<(), ProposeError> {
    cluster.draining.store(true, Ordering::Relaxed);
    cluster.renew_now.notify_one();
    step_down(cluster).await;
    let patience = Instant::now() + HAND_OVER;
    while cluster.votes() && Instant::now() < patience {
        tokio::time::sleep(PAUSE).await;
        step_down(cluster).await;
    }
    match remove(cluster, cluster.me()).await {
        Ok(_) | Err(ProposeError::Removed(_)) => Ok(()),
        // The entry was committed; that it does not come back to a removed node any more is as it should be.
        Err(_) if cluster.removed.borrow().is_some() => Ok(()),
        Err(error) => Err(error),
    }
}

pub(crate) async fn transfer(cluster: &Inner, to: NodeId) -> Result<(), String> {
    for group in [GroupId::Quota(0), GroupId::Control] {
        let leader = match group {
            GroupId::Control => propose::find(cluster, None).await,
            GroupId::Quota(_) => quota_leader(cluster).await,
        };
        let leader = leader.ok_or_else(|| format!("{group:?} has no leader"))?;
        if leader == to {
            continue;
        }
        let done: Done = if leader == cluster.me() {
            give_away(cluster, group, Some(to)).await
        } else {
            let request = Request::Transferring { group, to: Some(to) };
            let called = cluster.peers.call(leader, Lane::Calls, &request, PATIENCE).await;
            called.unwrap_or_else(|error| Err(error.to_string()))
        };
        done?;
    }
    Ok(())
}

/// On a group's leader: another voter takes over, that one or the one whose log is longest.
pub(crate) async fn give_away(cluster: &Inner, group: GroupId, to: Option<NodeId>) -> Done {
    match group {
        GroupId::Control => hand_over(cluster, &cluster.control, to).await,
        GroupId::Quota(_) => hand_over(cluster, &cluster.quota, to).await,
    }
}

async fn hand_over<M: Machine>(cluster: &Inner, group: &Group<M>, to: Option<NodeId>) -> Done {
    if !group.is_leader() {
        return if to.is_some() { Err("this node does not lead".into()) } else { Ok(()) };
    }
    let me = cluster.me();
    let status = group.status();
    let matched = group.matched();
    let best = || {
        let others = status.voters.iter().filter(|node| **node != me);
        others.max_by_key(|node| matched.get(&node.0).copied().unwrap_or(0)).copied()
    };
    let Some(to) = to.or_else(best) else { return Err("no other node votes".into()) };
    if !status.voters.contains(&to) {
        return Err(format!("node {to} is no voter"));
    }
    group.raft.trigger().transfer_leader(to.0).await.map_err(|error| error.to_string())?;
    let patience = Instant::now() + HAND_OVER;
    while Instant::now() < patience {
        match group.leader() {
            Some(leader) if leader != me => return Ok(()),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(format!("node {to} did not take over in time"))
}
