//! Bringing a command to the control leader, and knowing when everybody has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::NodeId;
use tidegate_state::{Command, Outcome, Proposal, RequestId};
use tokio::time::Instant;

use crate::cluster::{Inner, wall};
use crate::codec;
use crate::error::ProposeError;
use crate::group::WriteError;
use crate::levels;
use crate::transport::peers::CallError;
use crate::wire::{GroupId, Lane, LeaseView, LeasesReply, Proposed, ReadAt, Request};

/// How long a proposal is retried. An election takes a second or two.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// One attempt with one leader. It may have died a moment ago; a proposal that comes twice is applied once.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The same for a read, which writes nothing to a disk.
const READ_ATTEMPT: Duration = Duration::from_millis(700);
const ASK: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(25);
/// Between two looks at who has got how far: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK: Duration = Duration::from_millis(16);

/// A proposal that was applied, here too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub index: u64,
    pub outcome: Outcome,
}

/// Who has put an entry into effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Everywhere {
    pub acked: Vec<NodeId>,
    /// Without a node lease: such a node knows that it is cut off.
    pub lapsed: Vec<NodeId>,
    /// Alive, but not there yet when the patience ended.
    pub behind: Vec<NodeId>,
}

pub(crate) async fn propose(
    cluster: &Inner,
    request: RequestId,
    command: Command,
    patience: Duration,
) -> Result<Applied, ProposeError> {
    let deadline = Instant::now() + patience;
    let proposal = Bytes::from(codec::encode(&Proposal { request, at: wall(), command }));
    let mut reason = "no leader is known".to_owned();
    let mut hint = None;
    while Instant::now() < deadline {
        if *cluster.stopping.borrow() {
            return Err(ProposeError::Stopped);
        }
        let Some(leader) = find(cluster, hint.take()).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT);
        let proposed = if leader == cluster.me() {
            Ok(here(cluster, proposal.clone(), left).await)
        } else {
            cluster.peers.call(leader, Lane::Calls, &Request::Propose(proposal.clone()), left).await
        };
        match proposed {
            Ok(Proposed::Applied { index, outcome }) => {
                applied_here(cluster, index, deadline).await?;
                return Ok(Applied { index, outcome });
            }
            Ok(Proposed::NotLeader(other)) => {
                reason = format!("node {leader} does not lead");
                hint = other.filter(|other| *other != leader);
            }
            Ok(Proposed::Unknown(why)) => reason = why,
            Ok(Proposed::TooNew { reason, hint }) => return Err(ProposeError::TooNew { reason, hint }),
            Err(CallError::Removed(why)) => return Err(ProposeError::Removed(why)),
            Err(error) => reason = error.to_string(),
        }
        if hint.is_none() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Err(ProposeError::NoLeader(reason))
}

/// On the leader itself.
pub(crate) async fn here(cluster: &Inner, proposal: Bytes, patience: Duration) -> Proposed {
    match codec::decode::<Proposal>(&proposal) {
        Ok(decoded) => {
            if let Some(behind) = levels::refused(cluster, &decoded).await {
                return Proposed::TooNew { reason: behind.to_string(), hint: behind.hint() };
            }
        }
        // What cannot be read here must not be in the log.
        Err(why) => return Proposed::Unknown(format!("the proposal cannot be read: {why}")),
    }
    match tokio::time::timeout(patience, cluster.control.write(proposal)).await {
        Ok(Ok((index, outcome))) => Proposed::Applied { index, outcome },
        Ok(Err(WriteError::NotLeader(leader))) => Proposed::NotLeader(leader),
        Ok(Err(WriteError::Unknown(reason))) => Proposed::Unknown(reason),
        Err(_) => Proposed::Unknown("not committed in time".into()),
    }
}

/// Returns when everything is applied here that was acknowledged anywhere before the call: what is read then is as new as
/// if it were read from the leader.
pub(crate) async fn catch_up(cluster: &Inner, patience: Duration) -> Result<(), ProposeError> {
    let deadline = Instant::now() + patience;
    let mut reason = "no leader is known".to_owned();
    let mut hint = None;
    while Instant::now() < deadline {
        if *cluster.stopping.borrow() {
            return Err(ProposeError::Stopped);
        }
        let Ok(Some(leader)) = tokio::time::timeout_at(deadline, find(cluster, hint.take())).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now()).min(READ_ATTEMPT);
        let read = if leader == cluster.me() {
            Ok(read_here(cluster, left).await)
        } else {
            cluster.peers.call(leader, Lane::Calls, &Request::ReadIndex, left).await
        };
        match read {
            Ok(ReadAt::Index(index)) => return applied_here(cluster, index, deadline).await,
            Ok(ReadAt::NotLeader(other)) => {
                reason = format!("node {leader} does not lead");
                hint = other.filter(|other| *other != leader);
            }
            Ok(ReadAt::Unknown(why)) => reason = why,
            Err(CallError::Removed(why)) => return Err(ProposeError::Removed(why)),
            Err(error) => reason = error.to_string(),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(ProposeError::NoLeader(reason))
}

/// On the leader itself.
pub(crate) async fn read_here(cluster: &Inner, patience: Duration) -> ReadAt {
    match tokio::time::timeout(patience, cluster.control.read_index()).await {
        Ok(Ok(index)) => ReadAt::Index(index),
        Ok(Err(WriteError::NotLeader(leader))) => ReadAt::NotLeader(leader),
        Ok(Err(WriteError::Unknown(reason))) => ReadAt::Unknown(reason),
        Err(_) => ReadAt::Unknown("no quorum answered in time".into()),
    }
}

async fn applied_here(cluster: &Inner, index: u64, deadline: Instant) -> Result<(), ProposeError> {
    let mut applied = cluster.control.replica.applied();
    match tokio::time::timeout_at(deadline, applied.wait_for(|applied| index <= *applied)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ProposeError::Stopped),
        Err(_) => Err(ProposeError::NoLeader(format!("entry {index} is committed but did not reach this node"))),
    }
}

/// The control leader: as hinted, as heard from itself, as others say.
pub(crate) async fn find(cluster: &Inner, hint: Option<NodeId>) -> Option<NodeId> {
    if let Some(leader) = hint.or_else(|| cluster.control.leader()) {
        return Some(leader);
    }
    for node in cluster.likely_voters() {
        if node == cluster.me() {
            continue;
        }
        let request = Request::Leader(GroupId::Control);
        match cluster.peers.call::<Option<NodeId>>(node, Lane::Pulse, &request, ASK).await {
            Ok(Some(leader)) => return Some(leader),
            Ok(None) => {}
            Err(CallError::Removed(why)) => cluster.was_removed(why),
            Err(_) => {}
        }
    }
    None
}

/// The node leases, from the control leader.
pub(crate) async fn leases(cluster: &Inner, patience: Duration) -> Option<Views> {
    let leader = find(cluster, None).await?;
    let reply = if leader == cluster.me() {
        cluster.lease_views().await
    } else {
        cluster.peers.call(leader, Lane::Calls, &Request::Leases, patience).await.ok()?
    };
    match reply {
        LeasesReply::Are(views) => Some(views),
        LeasesReply::NotLeader(_) => None,
    }
}

pub(crate) async fn everywhere(cluster: &Inner, index: u64, patience: Duration) -> Result<Everywhere, ProposeError> {
    let deadline = Instant::now() + patience;
    let (mut last, mut pause) = (None, FIRST_LOOK);
    loop {
        if let Some(views) = looked_together(cluster).await {
            let everywhere = sort(&views, index);
            if everywhere.behind.is_empty() {
                return Ok(everywhere);
            }
            last = Some(everywhere);
        }
        if deadline <= Instant::now() + LOOK {
            return last.ok_or_else(|| ProposeError::NoLeader("nobody knows how far the others are".into()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK);
    }
}

/// What the node leases were at some moment after a look was asked for; never from before, or a node that came back in
/// between would count as gone.
#[derive(Default)]
pub(crate) struct Looked(tokio::sync::Mutex<Option<(Instant, Arc<Views>)>>);

pub(crate) type Views = BTreeMap<NodeId, LeaseView>;

/// One question for all who wait at the same time.
async fn looked_together(cluster: &Inner) -> Option<Arc<Views>> {
    let asked = Instant::now();
    let mut looked = cluster.looked.0.lock().await;
    if let Some((begun, views)) = &*looked
        && asked <= *begun
    {
        return Some(Arc::clone(views));
    }
    let begun = Instant::now();
    let views = Arc::new(leases(cluster, ASK).await?);
    *looked = Some((begun, Arc::clone(&views)));
    Some(views)
}

fn sort(views: &Views, index: u64) -> Everywhere {
    let mut everywhere = Everywhere::default();
    for (node, view) in views {
        let list = if view.renewal.as_ref().is_some_and(|renewal| index <= renewal.in_effect) {
            &mut everywhere.acked
        } else if view.live {
            &mut everywhere.behind
        } else {
            &mut everywhere.lapsed
        };
        list.push(*node);
    }
    everywhere
}
