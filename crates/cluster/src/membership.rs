//! Keeping the cluster in shape: node leases, who votes, who leaves. Every loop here converges: whatever it finds, it
//! takes the next step towards what should be, and finds the rest next time.

mod leaving;
mod quota;
mod renewing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_model::NodeId;
use tidegate_state::{Change, Command, RequestId};
use tokio::sync::broadcast;

use self::quota::{forget_removed, quota_leader};
use crate::cluster::Inner;
use crate::group::Group;
use crate::propose::{self, PATIENCE};
use crate::replica::Machine;
use crate::voters::{Seen, Zones, desired};
use crate::wire::{Done, Lane, LeaseView, LeasesReply, Request};

pub(crate) use self::leaving::{give_away, give_way_while_full, leave, remove, step_down, transfer};
pub(crate) use self::quota::{quota_voters, send_recalls};
pub(crate) use self::renewing::renew_forever;

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
            .is_some_and(|known| known.addresses == cluster.own && known.feature_level == cluster.level());
        let told = right || (known.is_some() && tell(&cluster).await);
        let told = told && (zone_is_right(&cluster) || tell_zone(&cluster).await);
        let is_heir = cluster.heir_of.lock().expect("no panic while locked").is_some();
        if told && cluster.waiting.is_over() && !is_heir {
            return;
        }
        // Not a member yet, or not caught up: what the state says may still change.
        _ = tokio::time::timeout(Duration::from_secs(1), applied.changed()).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn tell(cluster: &Inner) -> bool {
    let (id, addresses) = (cluster.me(), cluster.own.clone());
    let command = Command::UpdateNode { id, addresses, feature_level: cluster.level() };
    let request = RequestId(u128::from_le_bytes(crate::token::random()));
    propose::propose(cluster, request, command, PATIENCE).await.is_ok()
}

fn zone_is_right(cluster: &Inner) -> bool {
    cluster.control.read(|control| control.state.later.zones.of(cluster.me()).unwrap_or_default() == cluster.zone)
}

/// `false` as well while an older node does not know of zones.
async fn tell_zone(cluster: &Inner) -> bool {
    let command = Command::SetZone { id: cluster.me(), zone: cluster.zone.clone() };
    let request = RequestId(u128::from_le_bytes(crate::token::random()));
    propose::propose(cluster, request, command, PATIENCE).await.is_ok()
}

fn zones(cluster: &Inner) -> Zones {
    cluster.control.read(|control| {
        let state = &control.state;
        let zone = |id: NodeId| Some((id.0, state.later.zones.of(id)?.to_owned()));
        Zones(state.members.nodes().filter_map(|node| zone(node.id)).collect())
    })
}

/// A cluster of one need not wait for an election timeout.
pub(crate) async fn elect_if_alone(cluster: Arc<Inner>) {
    async fn elect<M: Machine>(group: &Group<M>, me: NodeId) {
        let voters: Vec<u64> = group.replica.membership().voter_ids().collect();
        if voters == [me.0] && !group.has_leader() {
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
    forget_the_dead(cluster, &current, &seen).await;
    let wanted = desired(cluster.me().0, &current, &seen, &zones(cluster));
    let settled = status.settled && inside.len() == members.len() && current == wanted;
    let settled = settled && seen.values().all(|seen| seen.live && seen.caught_up && !seen.draining);
    let quota = cluster.quota_status().await.unwrap_or_default();
    let in_quota: BTreeSet<u64> = quota.voters.union(&quota.learners).map(|node| node.0).collect();
    let quota_is_right = quota.settled && in_quota == wanted;
    let settled = settled && quota_is_right;
    // Control first in …
    if !wanted.is_subset(&current) {
        let both: BTreeSet<u64> = current.union(&wanted).copied().collect();
        cluster.control.set_voters(both, true).await?;
    }
    // … then quota in and out …
    if !quota_is_right {
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
    // … and control last out. A leader that went between the two steps of a change left it to the next one.
    let current: BTreeSet<u64> = cluster.control.status().voters.iter().map(|node| node.0).collect();
    if current != wanted || cluster.control.is_joint() {
        cluster.control.set_voters(wanted, true).await?;
    }
    let strangers: BTreeSet<u64> = inside.iter().filter(|id| !members.contains_key(id)).copied().collect();
    if !strangers.is_empty() {
        cluster.control.remove_learners(strangers).await?;
    }
    Ok(settled)
}

/// Learners that nobody has heard of for long enough are removed, as if by hand. A voter is not: who takes its vote comes first.
async fn forget_the_dead(cluster: &Inner, voters: &BTreeSet<u64>, seen: &BTreeMap<u64, Seen>) {
    let Some(after) = cluster.forget_after else { return };
    for (id, _) in seen.iter().filter(|(id, seen)| after <= seen.silent && !voters.contains(id)) {
        let request = RequestId(u128::from_le_bytes(crate::token::random()));
        match propose::propose(cluster, request, Command::RemoveNode { id: NodeId(*id) }, PATIENCE).await {
            Ok(_) => {
                tracing::warn!(node = id, silent = ?after, "a node that was not heard of is removed (--forget-after)")
            }
            Err(error) => tracing::debug!(node = id, %error, "a dead node is not removed yet"),
        }
    }
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
            // As far as this leader knows: what the one before it heard counts for nothing.
            silent: if itself { Duration::ZERO } else { Duration::from_millis(lease.map_or(0, |lease| lease.age_ms)) },
            draining: lease.and_then(|lease| lease.renewal.as_ref()).is_some_and(|renewal| renewal.draining),
        }
    };
    Ok(members.keys().map(|id| (*id, look(id))).collect())
}

#[cfg(test)]
mod tests;
