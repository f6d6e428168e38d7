//! The way to the quota group's leader, one hop from anywhere.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tidegate_model::{NodeId, Revision};
use tidegate_quota::protocol::{Batch, Command, Policy, Reply};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::desk::Errand;
use crate::cluster::Inner;
use crate::transport::peers::CallError;
use crate::wire::{Exchanged, GroupId, Lane, PoliciesSet, Request};

/// A batch that has no outcome by then has none: the limiter sends a new one.
const EXCHANGE: Duration = Duration::from_secs(1);
const ASK: Duration = Duration::from_millis(300);
/// One attempt at a command, with a leader that may have died a moment ago.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts to find a leader.
const PAUSE: Duration = Duration::from_millis(25);

/// A leader that answers nothing for so long is looked after: somebody else may lead by now.
const SILENT: Duration = Duration::from_millis(120);
/// How often it is then.
const LOOK: Duration = Duration::from_millis(40);

/// Nothing is known about the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable(pub String);

/// Whom we believe to lead the quota group.
#[derive(Default)]
pub(crate) struct Leader(Mutex<Option<NodeId>>);

impl Leader {
    pub(crate) fn is(&self, leader: Option<NodeId>) {
        *self.0.lock().expect("no panic while locked") = leader;
    }

    fn believed(&self) -> Option<NodeId> {
        *self.0.lock().expect("no panic while locked")
    }
}

/// Sends one batch to the leader, wherever it is. A batch that may have arrived is never sent again.
pub(crate) async fn exchange(cluster: &Inner, batch: Batch) -> Result<Reply, Unreachable> {
    let deadline = Instant::now() + EXCHANGE;
    let request = Request::Exchange(batch);
    let mut reason = "no leader of the quota group is known".to_owned();
    while Instant::now() < deadline {
        let Some(leader) = find(cluster).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = if leader == cluster.me() {
            let Request::Exchange(batch) = &request else { break };
            Ok(at_the_desk(cluster, batch.clone(), left).await)
        } else {
            tokio::select! {
                answer = cluster.peers.call(leader, Lane::Calls, &request, left) => answer,
                // Whatever it still answers would be late. The batch may have arrived: it is not sent again.
                successor = successor(cluster, leader) => {
                    cluster.quota_leader.is(Some(successor));
                    return Err(Unreachable(format!("node {leader} was silent, and node {successor} leads by now")));
                }
            }
        };
        match answer {
            Ok(Exchanged::Reply(reply)) => return Ok(reply),
            Ok(Exchanged::Lost(reason)) | Err(CallError::Lost(reason)) => {
                cluster.quota_leader.is(None);
                return Err(Unreachable(reason));
            }
            Ok(Exchanged::NotLeader(hint)) => {
                cluster.quota_leader.is(hint.filter(|hint| *hint != leader));
                reason = format!("node {leader} does not lead the quota group");
                tokio::time::sleep(if hint.is_some_and(|hint| hint != leader) { Duration::ZERO } else { PAUSE }).await;
            }
            Err(CallError::NotSent(why) | CallError::Removed(why)) => {
                cluster.quota_leader.is(None);
                reason = why;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Err(Unreachable(reason))
}

/// On the leader itself.
pub(crate) async fn at_the_desk(cluster: &Inner, batch: Batch, patience: Duration) -> Exchanged {
    let (reply, outcome) = oneshot::channel();
    if cluster.desk.ask(Errand::Batch { batch, reply }).is_err() {
        return Exchanged::Lost("the leader has too much to do".into());
    }
    match tokio::time::timeout(patience, outcome).await {
        Ok(Ok(exchanged)) => exchanged,
        Ok(Err(_)) => Exchanged::Lost("the quota group stopped".into()),
        Err(_) => Exchanged::Lost("no outcome in time".into()),
    }
}

/// Puts the limits of a published document into force; the newest revision the log has is the answer.
pub(crate) async fn set_policies(
    cluster: &Inner,
    revision: Revision,
    policies: Vec<Policy>,
    patience: Duration,
) -> Result<Revision, Unreachable> {
    let request = Request::SetPolicies { revision, policies: policies.clone() };
    insist(cluster, Command::SetPolicies { revision, policies }, &request, patience).await
}

/// Makes the limits of a document known to the quota log before it is proposed; nothing in force changes.
pub(crate) async fn prepare_policies(
    cluster: &Inner,
    policies: Vec<Policy>,
    patience: Duration,
) -> Result<Revision, Unreachable> {
    let request = Request::PreparePolicies(policies.clone());
    insist(cluster, Command::PreparePolicies { policies }, &request, patience).await
}

/// Brings a command to the quota leader, here or (as `request`) elsewhere, until it is committed.
async fn insist(
    cluster: &Inner,
    asked: Command,
    request: &Request,
    patience: Duration,
) -> Result<Revision, Unreachable> {
    let deadline = Instant::now() + patience;
    let mut reason = "no leader of the quota group is known".to_owned();
    while Instant::now() < deadline {
        let left = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT);
        let Some(leader) = find(cluster).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answer = if leader == cluster.me() {
            Ok(command(cluster, asked.clone(), left).await)
        } else {
            cluster.peers.call(leader, Lane::Calls, request, left).await
        };
        // The same command twice is harmless, so every doubt is met by asking again.
        let hint = match answer {
            Ok(PoliciesSet::Done(newest)) => return Ok(newest),
            Ok(PoliciesSet::NotLeader(hint)) => hint.filter(|hint| *hint != leader),
            Ok(PoliciesSet::Unknown(why)) => {
                reason = why;
                None
            }
            Err(error) => {
                reason = error.to_string();
                None
            }
        };
        cluster.quota_leader.is(hint);
        tokio::time::sleep(PAUSE).await;
    }
    Err(Unreachable(reason))
}

pub(crate) async fn command(cluster: &Inner, command: Command, patience: Duration) -> PoliciesSet {
    let (reply, outcome) = oneshot::channel();
    if cluster.desk.ask(Errand::Command { command, reply }).is_err() {
        return PoliciesSet::Unknown("the leader has too much to do".into());
    }
    match tokio::time::timeout(patience, outcome).await {
        Ok(Ok(set)) => set,
        Ok(Err(_)) => PoliciesSet::Unknown("the quota group stopped".into()),
        Err(_) => PoliciesSet::Unknown("no outcome in time".into()),
    }
}

pub(crate) async fn find(cluster: &Inner) -> Option<NodeId> {
    if let Some(leader) = cluster.quota_leader.believed() {
        return Some(leader);
    }
    // A member hears it from the leader itself; a voter that was demoted hears nothing and forgets in an election.
    let local = cluster.quota.leader().filter(|_| cluster.votes());
    let leader = match local {
        Some(leader) => Some(leader),
        None => ask_around(cluster, None).await,
    };
    cluster.quota_leader.is(leader);
    leader
}

/// Returns when somebody else than `silent` leads, as far as others know, and that not before a while has passed.
async fn successor(cluster: &Inner, silent: NodeId) -> NodeId {
    tokio::time::sleep(SILENT).await;
    loop {
        let leader = match cluster.quota.leader().filter(|_| cluster.votes()) {
            Some(leader) => Some(leader),
            None => ask_around(cluster, Some(silent)).await,
        };
        if let Some(leader) = leader.filter(|leader| *leader != silent) {
            return leader;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask_around(cluster: &Inner, silent: Option<NodeId>) -> Option<NodeId> {
    for node in cluster.likely_voters() {
        if node == cluster.me() || Some(node) == silent {
            continue;
        }
        let request = Request::Leader(GroupId::Quota(0));
        if let Ok(Some(leader)) = cluster.peers.call::<Option<NodeId>>(node, Lane::Pulse, &request, ASK).await {
            return Some(leader);
        }
    }
    None
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the quota group's leader is not reachable: {}", self.0)
    }
}

impl std::error::Error for Unreachable {}
