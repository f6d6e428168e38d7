//! Going away: leaderships and votes are handed over first, and a removed node never comes back.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidegate_model::NodeId;
use tidegate_state::audit::By;
use tidegate_state::{Command, Outcome, RequestId};
use tokio::time::Instant;

use super::{HAND_OVER, PAUSE, quota_leader};
use crate::cluster::Inner;
use crate::error::ProposeError;
use crate::group::Group;
use crate::propose::{self, PATIENCE};
use crate::replica::Machine;
use crate::wire::{Done, GroupId, Lane, Request};

pub(crate) async fn remove(cluster: &Inner, by: By, id: NodeId) -> Result<Outcome, ProposeError> {
    let voters = cluster.control.status().voters;
    if voters.len() == 1 && voters.contains(&id) {
        let reason = format!(
            "node {id} is the only one that votes: without it nothing can be agreed on. Add nodes until three vote, or \
             let it leave by itself, which hands over first"
        );
        return Err(ProposeError::Refused(reason));
    }
    let request = RequestId(u128::from_le_bytes(crate::token::random()));
    match propose::propose_by(cluster, by, request, Command::RemoveNode { id }, PATIENCE).await {
        // The entry was committed: that this node hears of it by being refused is as it should be.
        Err(ProposeError::Removed(_)) if id == cluster.me() => Ok(Outcome::Done),
        applied => Ok(applied?.outcome),
    }
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
    match remove(cluster, By::node(cluster.me()), cluster.me()).await {
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
        GroupId::Control => hand_over(cluster, &cluster.control, to, HAND_OVER).await,
        GroupId::Quota(_) => hand_over(cluster, &cluster.quota, to, HAND_OVER).await,
    }
}

/// Between two looks at whether there is room.
const LOOK_AT_DISK: Duration = Duration::from_millis(250);
/// Until the first successor has taken over; each further one has as much more, `HAND_OVER` at most.
const TAKE_OVER: Duration = Duration::from_secs(1);

/// Who has no room on its disk leads nothing: it could not keep what it is told. Others may have some. Each group by itself: what waits
/// for room may not hear that another leads its group by now.
pub(crate) async fn give_way_while_full(cluster: Arc<Inner>) {
    tokio::join!(give_way(&cluster, &cluster.control), give_way(&cluster, &cluster.quota));
}

async fn give_way<M: Machine>(cluster: &Inner, group: &Group<M>) {
    let mut asked = 0;
    loop {
        tokio::time::sleep(LOOK_AT_DISK).await;
        if !group.is_full() || !group.is_leader() {
            asked = 0;
            continue;
        }
        // Whoever was asked first may have no room either, or lack the last entries.
        let successors = successors(group, cluster.me());
        let to = successors.get(asked % successors.len().max(1)).copied();
        asked += 1;
        let patience = HAND_OVER.min(TAKE_OVER * u32::try_from(asked).unwrap_or(u32::MAX));
        if let Err(why) = hand_over(cluster, group, to, patience).await {
            tracing::debug!(group = ?group.id, %why, "the leadership was not given away");
        }
    }
}

/// The other voters, the one whose log is longest first.
fn successors<M: Machine>(group: &Group<M>, me: NodeId) -> Vec<NodeId> {
    let matched = group.matched();
    let mut others: Vec<NodeId> = group.status().voters.into_iter().filter(|node| *node != me).collect();
    others.sort_by_key(|node| Reverse(matched.get(&node.0).copied().unwrap_or(0)));
    others
}

async fn hand_over<M: Machine>(cluster: &Inner, group: &Group<M>, to: Option<NodeId>, patience: Duration) -> Done {
    if !group.is_leader() {
        return if to.is_some() { Err("this node does not lead".into()) } else { Ok(()) };
    }
    let me = cluster.me();
    let Some(to) = to.or_else(|| successors(group, me).first().copied()) else {
        return Err("no other node votes".into());
    };
    if !group.status().voters.contains(&to) {
        return Err(format!("node {to} is no voter"));
    }
    group.raft.trigger().transfer_leader(to.0).await.map_err(|error| error.to_string())?;
    let patience = Instant::now() + patience;
    while Instant::now() < patience {
        match group.leader() {
            Some(leader) if leader != me => return Ok(()),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
    Err(format!("node {to} did not take over in time"))
}
