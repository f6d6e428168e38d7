//! What this node answers to its peers and to joiners.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ReadPolicy;
use serde::Serialize;
use tidegate_model::{Millis, NodeId};
use tidegate_state::lineage::Ending;
use tidegate_state::{CA_KEY, ClusterId, Command, Join, Outcome, RequestId};

use crate::certificate::Validity;
use crate::cluster::{Inner, wall};
use crate::codec;
use crate::disaster;
use crate::error::ProposeError;
use crate::gathering::{Call, Said, Secret};
use crate::group::{Group, Raft};
use crate::keys;
use crate::plausible;
use crate::propose::{self, PATIENCE};
use crate::quota;
use crate::replica::Machine;
use crate::status;
use crate::token;
use crate::transport::Handler;
use crate::transport::identity;
use crate::transport::joining::{JoinReply, JoinRequest, Welcome};
use crate::wire::{Done, Exchanged, GroupId, Hello, LeasesReply, PoliciesSet, Renewal, Renewed, Request};

/// How long a batch or a proposal is worked on for a peer; its caller waits no longer.
const FOR_A_PEER: Duration = Duration::from_secs(4);
const BATCH_FOR_A_PEER: Duration = Duration::from_secs(1);

/// Answers what peers ask. Holds the node weakly: a stopped node answers nothing.
pub(crate) struct Server(pub(crate) Arc<Inner>);

impl Handler for Server {
    fn welcome(&self, hello: &Hello, key: &[u8; 32]) -> Result<(), (bool, String)> {
        let cluster = &self.0;
        // Whoever has a copy of some node's folder could sign a certificate for any: the CA's key is sealed in all of them.
        if !is_key_of(cluster, hello.node, key) {
            return Err((false, format!("the key is not the one that node {} joined with", hello.node)));
        }
        if cluster.control.read(|control| control.state.members.was_removed(hello.node)) {
            return Err((true, format!("node {} was removed from the cluster", hello.node)));
        }
        cluster.peers.addresses.heard(hello.node, &hello.addresses.peer);
        Ok(())
    }

    fn other_cluster(&self, other: ClusterId) -> (bool, String) {
        let own = self.0.identity.cluster;
        let ancestor = self.0.control.read(|control| control.state.later.lineage.ancestor(other).cloned());
        let Some(ancestor) = ancestor else { return (false, format!("this is cluster {own}, not {other}")) };
        let what = match ancestor.how {
            Ending::Restored => format!("cluster {own} was restored from a backup of it"),
            Ending::Recovered => format!("it lost its quorum, and was recovered as cluster {own}"),
        };
        (true, format!("cluster {other} is no more: {what} ({JOIN_ANEW})"))
    }

    async fn answer(&self, from: NodeId, request: Request) -> Vec<u8> {
        let cluster = self.0.as_ref();
        if let Err(reason) = plausible::check(from, &request) {
            return codec::encode(&Err::<(), _>(reason));
        }
        match request {
            Request::Hello(_) => codec::encode(&Err::<(), _>("hello was said before".to_owned())),
            Request::Append { group, .. }
            | Request::Vote { group, .. }
            | Request::PreVote { group, .. }
            | Request::Transfer { group, .. }
            | Request::Snapshot { group, .. } => match group {
                GroupId::Control => in_group(&cluster.control, request).await,
                GroupId::Quota(0) => in_group(&cluster.quota, request).await,
                GroupId::Quota(other) => codec::encode(&Err::<(), _>(format!("no quota group {other} here"))),
            },
            Request::Propose(proposal) => codec::encode(&propose::here(cluster, proposal, FOR_A_PEER).await),
            Request::Renew(renewal) => codec::encode(&cluster.renew(from, renewal).await),
            Request::ReadIndex => codec::encode(&propose::read_here(cluster, FOR_A_PEER).await),
            Request::Leases => codec::encode(&cluster.lease_views().await),
            Request::WallClock => codec::encode(&quota::wall()),
            Request::Lasting => codec::encode(&disaster::lasting_here(cluster, FOR_A_PEER).await),
            Request::Leader(GroupId::Control) => codec::encode(&cluster.control.leader()),
            Request::Leader(GroupId::Quota(_)) => codec::encode(&cluster.quota.leader().filter(|_| cluster.votes())),
            Request::Exchange(batch) => codec::encode(&if batch.node == from {
                quota::at_the_desk(cluster, batch, BATCH_FOR_A_PEER).await
            } else {
                Exchanged::Lost(format!("node {from} sent a batch of node {}", batch.node))
            }),
            Request::SetPolicies { revision, policies } => {
                let command = tidegate_quota::protocol::Command::SetPolicies { revision, policies };
                let set: PoliciesSet = quota::command(cluster, command, FOR_A_PEER).await;
                codec::encode(&set)
            }
            Request::PreparePolicies(policies) => {
                let command = tidegate_quota::protocol::Command::PreparePolicies { policies };
                let set: PoliciesSet = quota::command(cluster, command, FOR_A_PEER).await;
                codec::encode(&set)
            }
            Request::Recall(keys) => {
                cluster.recall(keys);
                codec::encode(&())
            }
            Request::QuotaVoters(voters) => {
                let done: Done = crate::membership::quota_voters(cluster, voters).await;
                codec::encode(&done)
            }
            Request::Transferring { group, to } => {
                let done: Done = crate::membership::give_away(cluster, group, to).await;
                codec::encode(&done)
            }
            Request::ClusterKey(mark) => codec::encode(&keys::tell(cluster, from, mark).await),
            Request::Report => codec::encode(&status::report(cluster)),
            Request::Message { topic, body } => codec::encode(&cluster.heard(from, topic, body).await),
        }
    }

    async fn admit(&self, request: &[u8]) -> Vec<u8> {
        let reply = match codec::decode::<JoinRequest>(request) {
            Ok(request) => admit(&self.0, request).await,
            Err(error) => JoinReply::Refused(format!("the request is malformed: {error}")),
        };
        codec::encode(&reply)
    }

    fn gather(&self, call: &[u8]) -> Vec<u8> {
        let cluster = &self.0;
        let said = match (codec::decode::<Call>(call), &cluster.secret) {
            (Ok(call), Some(secret)) if secret.is_proven_by(&call.proof) => {
                let is_member = cluster.control.read(|control| control.state.members.node(cluster.me()).is_some());
                if is_member && cluster.settled.load(Ordering::Acquire) { Said::Member } else { Said::Busy }
            }
            (Ok(_), _) => Said::Refused("another cluster secret".into()),
            (Err(error), _) => Said::Refused(format!("the call is malformed: {error}")),
        };
        codec::encode(&said)
    }
}

/// As far as this node knows: one that joined a moment ago may not be known here.
pub(crate) fn is_key_of(cluster: &Inner, node: NodeId, key: &[u8; 32]) -> bool {
    cluster.control.read(|control| control.state.members.node(node).is_none_or(|node| node.public_key == *key))
}

/// While there is no room on the disk, Raft's own task waits for a write: what others sent would pile up before it.
async fn in_group<M: Machine>(group: &Group<M>, request: Request) -> Vec<u8> {
    if group.is_full() {
        return codec::encode(&Err::<(), _>("the disk of this node is full"));
    }
    raft(&group.raft, request).await
}

/// A member's Raft call.
pub(crate) async fn raft<M: Machine>(raft: &Raft<M>, request: Request) -> Vec<u8> {
    fn encode<T: Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Vec<u8> {
        codec::encode(&result.map_err(|error| error.to_string()))
    }
    match request {
        Request::Append { rpc, .. } => encode(raft.append_entries(rpc).await),
        Request::Vote { rpc, .. } => encode(raft.vote(rpc).await),
        Request::PreVote { rpc, .. } => encode(raft.pre_vote(rpc).await),
        Request::Transfer { rpc, .. } => encode(raft.handle_transfer_leader(rpc).await),
        Request::Snapshot { vote, meta, data, .. } => {
            let snapshot = crate::raft::Snapshot { meta, snapshot: data };
            encode(raft.install_full_snapshot(vote, snapshot).await)
        }
        _ => encode(Err::<(), _>("not a Raft call")),
    }
}

impl Inner {
    /// Keeps a node's lease, if this node leads and knows that nobody else can.
    pub(crate) async fn renew(&self, from: NodeId, renewal: Renewal) -> Renewed {
        let not_leader = || Renewed::NotLeader(self.control.leader().filter(|leader| *leader != self.me()));
        let Some(leadership) = self.control.leadership() else { return not_leader() };
        if renewal.node != from || self.control.raft.ensure_linearizable(ReadPolicy::LeaseRead).await.is_err() {
            return not_leader();
        }
        let draining = renewal.draining;
        self.leases.renew(leadership, renewal);
        if draining {
            self.converge_now.notify_one();
        }
        let status = self.control.status();
        Renewed::Kept { committed: status.committed, voters: status.voters.iter().map(|node| node.0).collect() }
    }

    pub(crate) async fn lease_views(&self) -> LeasesReply {
        let Some(leadership) = self.control.leadership() else {
            return LeasesReply::NotLeader(self.control.leader());
        };
        if self.control.raft.ensure_linearizable(ReadPolicy::LeaseRead).await.is_err() {
            return LeasesReply::NotLeader(None);
        }
        let members: Vec<NodeId> =
            self.control.read(|control| control.state.members.nodes().map(|node| node.id).collect());
        LeasesReply::Are(self.leases.views(leadership, &members))
    }

    pub(crate) fn recall(&self, keys: Vec<tidegate_quota::protocol::Key>) {
        for key in keys {
            if self.recalled.send.try_send(key).is_err() {
                break; // Full: the limiter is behind. A lost hint costs time only.
            }
        }
    }
}

async fn admit(cluster: &Arc<Inner>, request: JoinRequest) -> JoinReply {
    let hash = token::hash(&request.secret);
    let Ok(public_key) = identity::requested_key(&request.signing_request) else {
        return JoinReply::Refused("the signing request is malformed".into());
    };
    if !cluster.settled.load(Ordering::Acquire) {
        return JoinReply::Busy("the cluster is being formed".into());
    }
    let knows = |secret: &Secret| secret.is_shown_by(&request.secret, &public_key);
    let by_secret = cluster.secret.as_ref().is_some_and(knows);
    if by_secret && let Some((node, index)) = known(cluster, &public_key) {
        // It did not hear the answer, or forgot it.
        return welcomed(cluster, node, index, &request.signing_request);
    }
    if by_secret {
        if let Err(reason) = vouch(cluster, hash).await {
            return JoinReply::Busy(reason);
        }
    } else if let Err(reason) = token_is_good(cluster, hash).await {
        return JoinReply::Refused(reason);
    }
    // The same node with the same token asks for the same thing: whoever did not hear the answer asks again.
    let mut id = [0; 16];
    id.copy_from_slice(&token::hash(&[public_key.as_slice(), &hash].concat())[..16]);
    let command = Command::Join(Join {
        token: hash,
        name: request.name,
        addresses: request.addresses,
        feature_level: request.feature_level,
        public_key,
    });
    let applied = match propose::propose(cluster, RequestId(u128::from_le_bytes(id)), command, PATIENCE).await {
        Ok(applied) => applied,
        Err(ProposeError::TooNew { reason, hint }) => return JoinReply::Refused(format!("{reason}: {hint}")),
        Err(error) => return JoinReply::Busy(error.to_string()),
    };
    if by_secret && matches!(applied.outcome, Outcome::Joined { .. }) {
        // It has served its purpose; should this fail, it expires.
        let request = RequestId(u128::from_le_bytes(token::random()));
        _ = propose::propose(cluster, request, Command::RevokeJoinToken { hash }, PATIENCE).await;
    }
    match applied.outcome {
        Outcome::Joined { node } => welcomed(cluster, node, applied.index, &request.signing_request),
        Outcome::TokenUnknown => JoinReply::Refused(UNKNOWN.into()),
        Outcome::TokenExpired => JoinReply::Refused(EXPIRED.into()),
        Outcome::TokenUsed => JoinReply::Refused(USED.into()),
        Outcome::Full => JoinReply::Refused("the cluster is full, or a name or address is too long".into()),
        other => JoinReply::Refused(format!("{other:?}")),
    }
}

/// The member with this key, and an entry at which it was one.
fn known(cluster: &Inner, public_key: &[u8; 32]) -> Option<(NodeId, u64)> {
    let index = cluster.control.replica.applied_id()?.index;
    let find = |members: &tidegate_state::Members| {
        members.nodes().find(|node| node.public_key == *public_key).map(|node| node.id)
    };
    cluster.control.read(|control| find(&control.state.members)).map(|node| (node, index))
}

/// Who knows the cluster's secret gets a token of its own: for this key, for this once, for some minutes.
async fn vouch(cluster: &Inner, hash: [u8; 32]) -> Result<(), String> {
    const LIVES_MS: u64 = 600_000;
    let propose = async |command: Command| {
        let request = RequestId(u128::from_le_bytes(token::random()));
        propose::propose(cluster, request, command, PATIENCE).await.map_err(|error| error.to_string())
    };
    match cluster.control.read(|control| control.state.tokens.check_join(hash, wall())) {
        // The log knows what became of it.
        Ok(()) | Err(Outcome::TokenUsed) => return Ok(()),
        Err(Outcome::TokenExpired) => _ = propose(Command::RevokeJoinToken { hash }).await?,
        Err(_) => {}
    }
    let expires_at = Some(Millis(wall().0.saturating_add(LIVES_MS)));
    // Another node may have been asked as well: a token that is there already is as good.
    propose(Command::CreateJoinToken { hash, expires_at, uses: 1 }).await.map(drop)
}

const JOIN_ANEW: &str = "empty this node's data folder, and join with a new token";
const UNKNOWN: &str = "the join token is unknown: make one with `tidegate cluster token`";
const EXPIRED: &str = "the join token has expired: make a new one with `tidegate cluster token`";
const USED: &str = "the join token was used up: make a new one with `tidegate cluster token`";

/// Strangers must not write into the log: the token is looked up here first. A node may be a moment behind, so an
/// unknown token is waited for.
async fn token_is_good(cluster: &Inner, hash: [u8; 32]) -> Result<(), String> {
    let mut applied = cluster.control.replica.applied();
    let patience = tokio::time::Instant::now() + Duration::from_millis(500);
    loop {
        match cluster.control.read(|control| control.state.tokens.check_join(hash, wall())) {
            // A used-up token may have been used by this very node, which asks again: the log knows.
            Ok(()) | Err(Outcome::TokenUsed) => return Ok(()),
            Err(Outcome::TokenExpired) => return Err(EXPIRED.into()),
            Err(_) => {}
        }
        applied.mark_unchanged();
        match tokio::time::timeout_at(patience, applied.changed()).await {
            Ok(Ok(())) => {}
            _ => return Err(UNKNOWN.into()),
        }
    }
}

fn welcomed(cluster: &Inner, node: NodeId, index: u64, signing_request: &[u8]) -> JoinReply {
    let ring = cluster.keys.ring();
    match welcome(cluster, node, index, signing_request, &ring) {
        Ok(welcome) if ring.is_first() => JoinReply::Welcome(Box::new(welcome)),
        Ok(welcome) => JoinReply::WelcomeLater(Box::new(welcome), ring.subjects()),
        // It may not have the cluster's newest key yet, or not know that it is sealed anew.
        Err(reason) => JoinReply::Busy(reason),
    }
}

fn welcome(
    cluster: &Inner,
    node: NodeId,
    index: u64,
    signing_request: &[u8],
    ring: &keys::Ring,
) -> Result<Welcome, String> {
    let (sealed, members) = cluster.control.read(|control| {
        let state = &control.state;
        let members = state.members.nodes().map(|node| (node.id, node.addresses.peer.clone())).collect();
        (state.sealed.bytes(CA_KEY).map(<[u8]>::to_vec), members)
    });
    let ca_key = ring.open(CA_KEY, &sealed.ok_or("the cluster CA's key is missing")?)?;
    let ca = cluster.identity.ca.clone();
    let validity = Validity::starting(wall(), cluster.certificate_life);
    let certificate = identity::sign(signing_request, &ca, &ca_key, cluster.identity.cluster, node, validity);
    let certificate = certificate.map_err(|error| error.to_string())?;
    let (cluster_id, cluster_key) = (cluster.identity.cluster, cluster.sealing_key_of(ring)?.0);
    Ok(Welcome { cluster: cluster_id, node, ca, certificate, cluster_key, members, index })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::settings::{Settings, Start};
    use crate::wire::{Lane, PROTOCOL};

    #[tokio::test]
    async fn a_node_is_known_by_the_key_that_it_joined_with_after_its_certificate_was_renewed_as_well() {
        let home = tempfile::tempdir().unwrap();
        let settings = |name: &str, start| {
            let mut settings = Settings::new(home.path().join(name), start);
            settings.certificate_life = Duration::from_secs(3); // Renewed each second or two.
            settings
        };
        let first = Cluster::start(settings("a", Start::Bootstrap)).await.unwrap();
        let token = first.create_join_token(None, 1).await.unwrap();
        let address = first.addresses().peer.clone();
        let second = Cluster::start(settings("b", Start::Join { address, token })).await.unwrap();
        let key = identity::shown_key(&second.inner.identity.certificate).unwrap();
        let known = first.read(|state| state.members.node(second.node()).map(|node| node.public_key));
        assert_eq!(known, Some(key), "as it stands in the certificate, so it stands in the state");

        let hello = Hello {
            protocol: PROTOCOL,
            cluster: first.id(),
            node: second.node(),
            lane: Lane::Calls,
            feature_level: 0,
            addresses: second.addresses().clone(),
        };
        let server = Server(first.inner.clone());
        assert_eq!(server.welcome(&hello, &key), Ok(()));
        // The CA's key, sealed and with what opens it, lies in every node's folder.
        let (removed, why) = server.welcome(&hello, &[7; 32]).unwrap_err();
        assert!(!removed && why.contains("joined with"), "{why}");

        let began = second.inner.shown.validity();
        while second.inner.shown.validity() == began {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let renewed = crate::certificate::newest(&second.inner.folder, (*second.inner.identity).clone()).unwrap();
        assert_eq!(identity::shown_key(&renewed.certificate), Some(key));
        // Before it is told a key of the cluster: who came under its id with another key is cut off.
        assert!(first.inner.open.all_show(second.node(), &key));
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while first.inner.open.all_show(second.node(), &[7; 32]) {
            assert!(std::time::Instant::now() < deadline, "it does not talk to the other");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_ne!(renewed.certificate, second.inner.identity.certificate);
    }
}
