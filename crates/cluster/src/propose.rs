//! Bringing a command to the control leader, and knowing when everybody has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{Feature, NodeId};
use tidegate_state::audit::{self, By};
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

/// Of this node's own accord.
pub(crate) async fn propose(
    cluster: &Inner,
    request: RequestId,
    command: Command,
    patience: Duration,
) -> Result<Applied, ProposeError> {
    propose_by(cluster, By::node(cluster.me()), request, command, patience).await
}

pub(crate) async fn propose_by(
    cluster: &Inner,
    by: By,
    request: RequestId,
    command: Command,
    patience: Duration,
) -> Result<Applied, ProposeError> {
    if cluster.control.is_full() {
        return Err(ProposeError::DiskFull(cluster.full_disk().unwrap_or_else(|| "the disk was full".into())));
    }
    let deadline = Instant::now() + patience;
    let proposal = Signed::new(request, command, by);
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
            Ok(here(cluster, proposal.signed.clone(), left).await)
        } else {
            let proposal = proposal.read_by(cluster, leader);
            cluster.peers.call(leader, Lane::Calls, &Request::Propose(proposal), left).await
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

/// A proposal as it is sent: with whose doing it is, and without for a leader of a release that reads no such thing.
struct Signed {
    signed: Bytes,
    bare: Option<Bytes>,
}

impl Signed {
    fn new(request: RequestId, command: Command, by: By) -> Self {
        let by = audit::is_recorded(&command, &by.actor).then_some(by);
        let mut proposal = Proposal { request, at: wall(), command, by };
        let signed = Bytes::from(codec::encode(&proposal));
        let bare = proposal.by.take().map(|_| Bytes::from(codec::encode(&proposal)));
        Self { signed, bare }
    }

    /// As this node can read it, by what it said of itself when it started.
    fn read_by(&self, cluster: &Inner, leader: NodeId) -> Bytes {
        let level =
            cluster.control.read(|control| control.state.members.node(leader).map_or(0, |node| node.feature_level));
        let bare = self.bare.as_ref().filter(|_| level < Feature::Audit.level());
        bare.unwrap_or(&self.signed).clone()
    }
}

/// On the leader itself.
pub(crate) async fn here(cluster: &Inner, proposal: Bytes, patience: Duration) -> Proposed {
    if !cluster.control.is_leader() {
        return Proposed::NotLeader(cluster.control.leader()); // Nobody takes a turn for that.
    }
    match codec::decode::<Proposal>(&proposal) {
        Ok(decoded) => {
            let proposed = tokio::time::timeout(patience, in_turn(cluster, decoded, proposal)).await;
            proposed.unwrap_or_else(|_| Proposed::Unknown("not committed in time".into()))
        }
        // What cannot be read here must not be in the log.
        Err(why) => Proposed::Unknown(format!("the proposal cannot be read: {why}")),
    }
}

async fn in_turn(cluster: &Inner, mut decoded: Proposal, mut proposal: Bytes) -> Proposed {
    let turn = cluster.turns.take(&decoded.command).await;
    if let Some(behind) = levels::refused(cluster, &decoded).await {
        return Proposed::TooNew { reason: behind.to_string(), hint: behind.hint() };
    }
    if let Command::Join(join) = &decoded.command
        && !cluster.control.read(|control| control.state.has_applied(decoded.request))
        && let Some(reason) = levels::too_old_to_join(cluster, join.feature_level)
    {
        return Proposed::TooNew { reason, hint: levels::JOIN_WITH_A_NEWER.into() };
    }
    // Not refused for that: while a node of an older release lives nothing is recorded, and everything else goes on.
    if decoded.by.is_some() && levels::is_behind(cluster, Feature::Audit).await {
        decoded.by = None;
        proposal = codec::encode(&decoded).into();
    }
    if codec::is_long(&proposal) && turn.may_pack(cluster).await {
        proposal = codec::pack(proposal.into()).into();
    }
    if cluster.control.is_full() {
        return Proposed::Unknown(format!("the disk of node {}, which leads, is full", cluster.me()));
    }
    turn.appends();
    match cluster.control.write(proposal).await {
        Ok((index, outcome)) => {
            turn.applied();
            Proposed::Applied { index, outcome }
        }
        Err(WriteError::NotLeader(leader)) => Proposed::NotLeader(leader),
        Err(WriteError::Unknown(reason)) => Proposed::Unknown(reason),
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
