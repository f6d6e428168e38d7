//! The seam over a real cluster. What only the node itself knows (files, readiness, metrics) comes in as [`Node`].

use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use tidegate_cluster::disaster::Recipient;
use tidegate_cluster::{
    Applied as Committed, Cluster, GroupStatus, KeyProgress, MemberStatus, ProposeError, Status, Unreachable,
};
use tidegate_model::{Feature, Millis, NodeId, Revision};
use tidegate_policy::Snapshot;
use tidegate_quota::protocol::Policy;
use tidegate_state::audit::By as Doer;
use tidegate_state::{Command, Outcome, Publish, State};
use tokio::sync::Mutex;

use super::{Applied, Backend, By, Compile, Compiled, Counter, Failure, Instead, Whole, time};
use crate::access::{caller, wall_clock};
use crate::wire::{
    CertificateState, ClusterKeyState, ClusterStatus, DeploymentState, EndpointState, Group, JoinToken, KeptResponse,
    Node as Member, NodeApplied, NodeCache, NodeCertificate, NodeRole, Problem, QuotaCount, QuotaSubject,
    QuotaTopEntry, ReadyReply,
};

/// An election takes a second or two.
const READING: Duration = Duration::from_secs(5);

/// A ledger of many budgets is read and travels.
const BACKING_UP: Duration = Duration::from_secs(120);

/// An answer that takes its time.
pub type Answered<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The response caches of all live nodes.
pub trait Caches: Send + Sync {
    fn stats(&self) -> Answered<Vec<NodeCache>>;

    /// `url`: `host/path?query`.
    fn kept(&self, tenant: &str, url: &str) -> Answered<Vec<KeptResponse>>;
}

/// Counters of limits, and orders about them.
pub trait Quotas: Send + Sync {
    /// See [`Backend::counter`].
    fn counter(&self, limit: &str, subject: &QuotaSubject, whole: Whole) -> Result<Counter, Failure>;

    fn count(&self, counter: &Counter, stale: bool) -> Answered<Result<QuotaCount, Failure>>;

    fn busiest(&self, limit: Option<&str>, by: By, most: usize) -> Answered<Result<Vec<QuotaTopEntry>, Failure>>;

    fn settle(&self) -> Answered<Result<(), String>>;
}

type Endpoints = dyn Fn() -> Pin<Box<dyn Future<Output = Vec<EndpointState>> + Send>> + Send + Sync;

type Deployments = dyn Fn() -> Pin<Box<dyn Future<Output = Vec<DeploymentState>> + Send>> + Send + Sync;

/// What the process around the cluster knows.
pub struct Node {
    /// Called on a thread for long work.
    pub compile: Box<Compile>,
    /// The endpoints of upstreams on all live nodes.
    pub endpoints: Box<Endpoints>,
    /// The deployments of language models on all live nodes.
    pub deployments: Box<Deployments>,
    /// Those that the served document brings in files.
    pub certificates: Box<dyn Fn() -> Vec<CertificateState> + Send + Sync>,
    pub caches: Box<dyn Caches>,
    pub quotas: Box<dyn Quotas>,
    /// Short: every probe calls it.
    pub readiness: Box<dyn Fn() -> ReadyReply + Send + Sync>,
    /// Prometheus text.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
}

pub struct OverCluster {
    cluster: Cluster,
    node: Node,
    /// One publish at a time through this node; between nodes the compare-and-set decides.
    publishing: Mutex<()>,
}

impl OverCluster {
    #[must_use]
    pub fn new(cluster: Cluster, node: Node) -> Self {
        Self { cluster, node, publishing: Mutex::new(()) }
    }

    /// Who asks, or this node where nobody does.
    fn doer(&self) -> Doer {
        caller().unwrap_or_else(|| Doer::node(self.cluster.node()))
    }

    fn addresses(&self) -> Vec<String> {
        let own = self.cluster.addresses().peer.clone();
        let mut all = vec![own.clone()];
        self.cluster.read(|state| {
            all.extend(state.members.nodes().map(|node| node.addresses.peer.clone()).filter(|peer| *peer != own));
        });
        all.retain(|peer| !peer.is_empty());
        all
    }

    async fn heir(&self) -> Option<NodeId> {
        let status = self.cluster.status().await;
        let leader = status.control.group.leader;
        let fit = |member: &&MemberStatus| member.voter && member.live == Some(true) && Some(member.id) != leader;
        status.members.iter().filter(fit).max_by_key(|member| member.applied).map(|member| member.id)
    }
}

#[tonic::async_trait]
impl Backend for OverCluster {
    fn look(&self, look: &mut dyn FnMut(&State)) {
        self.cluster.read(|state| look(state));
    }

    async fn catch_up(&self) -> Result<(), Failure> {
        self.cluster.catch_up(READING).await.map_err(|error| {
            let hint = "what this node has: stale=true, on the command line --stale";
            Failure::Unavailable(format!("nobody can tell what is newest: {error} ({hint})"))
        })
    }

    async fn propose(&self, command: Command) -> Result<Applied, Failure> {
        let Committed { index, outcome } = self.cluster.propose_by(self.doer(), command).await.map_err(failure)?;
        Ok(Applied { outcome, index })
    }

    fn compile(&self, text: &str, revision: Revision, instead: Instead<'_>) -> Result<Compiled, Vec<Problem>> {
        (self.node.compile)(text, revision, instead)
    }

    async fn understood(&self, features: &[Feature]) -> Result<(), Failure> {
        match self.cluster.behind(features, READING).await {
            Ok(None) => Ok(()),
            Ok(Some(behind)) => Err(Failure::Rejected { reason: behind.to_string(), hint: Some(behind.hint()) }),
            Err(why) => Err(Failure::Unavailable(why)),
        }
    }

    async fn publish(&self, publish: Publish, snapshot: &Snapshot) -> Result<Applied, Failure> {
        let _turn = self.publishing.lock().await;
        // Who comes too late shall not touch the quota log at all.
        let current = self.cluster.read(|state| state.documents.current());
        if publish.replaces.is_some_and(|replaces| replaces != current) {
            return Ok(Applied { outcome: Outcome::Conflict { current }, index: 0 });
        }
        let limits = policies(snapshot);
        // Known before anybody serves the document, in force only once it is published: one that is not, since another
        // was faster, or we died, or the quorum did, changes nothing.
        self.cluster.prepare_policies(limits.clone()).await.map_err(unreachable)?;
        let publish = Publish { policies: snapshot.revision, ..publish };
        let applied = self.propose(Command::PublishDocument(publish)).await?;
        if let Outcome::Published { revision } = applied.outcome
            && let Err(Unreachable(why)) = self.cluster.set_policies(revision, limits).await
        {
            // It is published even so: whoever leads the quota group does this as well (`Effect::assert_policies`).
            tracing::warn!(%revision, %why, "the document's limits are not in force yet");
        }
        Ok(applied)
    }

    async fn applied_everywhere(&self, index: u64, timeout: Duration) -> Vec<NodeApplied> {
        let said = |nodes: Vec<NodeId>, state: &'static str| {
            nodes.into_iter().map(move |node| NodeApplied { node: node.0, state: state.to_owned() })
        };
        let mut nodes: Vec<NodeApplied> = match self.cluster.wait_applied_everywhere(index, timeout).await {
            Ok(everywhere) => said(everywhere.acked, NodeApplied::APPLIED)
                .chain(said(everywhere.lapsed, NodeApplied::LAPSED))
                .chain(said(everywhere.behind, NodeApplied::WAITING))
                .collect(),
            Err(_) => {
                let members = self.cluster.read(|state| state.members.nodes().map(|node| node.id).collect());
                said(members, NodeApplied::WAITING).collect()
            }
        };
        nodes.sort_by_key(|node| node.node);
        nodes
    }

    fn readiness(&self) -> ReadyReply {
        (self.node.readiness)()
    }

    async fn endpoints(&self) -> Vec<EndpointState> {
        (self.node.endpoints)().await
    }

    async fn deployments(&self) -> Vec<DeploymentState> {
        (self.node.deployments)().await
    }

    async fn caches(&self) -> Vec<NodeCache> {
        self.node.caches.stats().await
    }

    async fn kept(&self, tenant: &str, url: &str) -> Vec<KeptResponse> {
        self.node.caches.kept(tenant, url).await
    }

    fn counter(&self, limit: &str, subject: &QuotaSubject, whole: Whole) -> Result<Counter, Failure> {
        self.node.quotas.counter(limit, subject, whole)
    }

    async fn count(&self, counter: &Counter, stale: bool) -> Result<QuotaCount, Failure> {
        self.node.quotas.count(counter, stale).await
    }

    async fn busiest(&self, limit: Option<&str>, by: By, most: usize) -> Result<Vec<QuotaTopEntry>, Failure> {
        self.node.quotas.busiest(limit, by, most).await
    }

    fn file_certificates(&self) -> Vec<CertificateState> {
        (self.node.certificates)()
    }

    fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, Failure> {
        self.cluster.seal(name, secret).map_err(Failure::Unavailable)
    }

    async fn settle_orders(&self) -> Result<(), String> {
        self.node.quotas.settle().await
    }

    async fn status(&self) -> ClusterStatus {
        let status = self.cluster.status().await;
        let ready = self.readiness();
        let revision = self.cluster.read(|state| state.documents.current()).0;
        let mine = |member: &MemberStatus| member.id == status.node;
        // A newcomer votes once it does in both groups. A node outside the quota group knows of the control group only.
        let quota = &status.quota.group.voters;
        let votes = |member: &MemberStatus| member.voter && (quota.is_empty() || quota.contains(&member.id));
        let member = |member: &MemberStatus| Member {
            id: member.id.0,
            name: member.name.clone(),
            peer: member.addresses.peer.clone(),
            admin: member.addresses.admin.clone(),
            role: if votes(member) { NodeRole::Voter } else { NodeRole::Learner },
            live: member.live.unwrap_or(mine(member) && self.cluster.is_live()),
            revision: member.revision.map(|revision| revision.0),
            applied: member.live.map(|_| member.in_effect),
            version: match &member.version {
                Some(version) => version.clone(),
                None if mine(member) => env!("CARGO_PKG_VERSION").to_owned(),
                None => String::new(),
            },
            feature_level: Some(member.feature_level),
            zone: member.zone.clone(),
        };
        ClusterStatus {
            cluster_id: status.cluster.to_string(),
            node_id: status.node.0,
            readiness: ready.status,
            reasons: ready.reasons,
            revision,
            control: group(&status.control.group),
            quota: group(&status.quota.group),
            settled: status.settled,
            nodes: status.members.iter().map(member).collect(),
            alarms: self.cluster.alarms(),
            cluster_key: Some(key_state(&self.cluster.cluster_key(), &status)),
            certificate: self
                .cluster
                .certificate()
                .map(|(expires, renews)| NodeCertificate { expires_at: time(expires), renews_at: time(renews) }),
        }
    }

    async fn join_token(&self, expires_at: Millis, uses: u32) -> Result<JoinToken, Failure> {
        let lives = Duration::from_millis(expires_at.saturating_sub(wall_clock()).0);
        let token = self.cluster.create_join_token_by(self.doer(), Some(lives), uses).await.map_err(failure)?;
        Ok(JoinToken { token: token.reveal(), expires_at: time(expires_at), uses, peers: self.addresses() })
    }

    async fn remove_node(&self, node: NodeId) -> Result<(), Failure> {
        let (known, all) = self.cluster.read(|state| (state.members.node(node).is_some(), state.members.len()));
        if known && all == 1 {
            return Err(Failure::Rejected { reason: format!("node {node} is the whole cluster"), hint: None });
        }
        match self.cluster.remove_by(self.doer(), node).await.map_err(failure)? {
            Outcome::Done => Ok(()),
            Outcome::NotFound => Err(Failure::NotFound(format!("there is no node {node}"))),
            other => Err(Failure::Fault(format!("removing node {node}: {other:?}"))),
        }
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, Failure> {
        let rejected = |reason: String| Failure::Rejected {
            reason,
            hint: Some("`tidegate cluster status` lists the voters".to_owned()),
        };
        let to = match to {
            Some(to) => to,
            None => self.heir().await.ok_or_else(|| rejected("there is no other live voter".to_owned()))?,
        };
        let voter = self.cluster.status().await.control.group.voters.contains(&to);
        if !voter {
            return Err(rejected(format!("node {to} is no voter")));
        }
        self.cluster.transfer(to).await.map_err(Failure::Unavailable)?;
        Ok(to)
    }

    async fn backup(&self, recipient: Recipient) -> Result<Bytes, Failure> {
        let made = self.cluster.backup(&recipient, BACKING_UP).await;
        made.map(Bytes::from).map_err(Failure::Unavailable)
    }

    async fn rotate_tickets(&self) -> Result<u64, Failure> {
        self.cluster.rotate_ticket_keys_by(self.doer()).await.map_err(failure)?;
        Ok(self.cluster.newest_ticket_key().map_or(0, |(generation, _)| generation))
    }

    async fn rotate_cluster_key(&self) -> Result<u64, Failure> {
        self.cluster.rotate_cluster_key_by(self.doer()).await.map_err(failure)
    }

    fn metrics(&self) -> String {
        (self.node.metrics)()
    }
}

/// What the quota log holds of a document's limits.
#[must_use]
pub fn policies(snapshot: &Snapshot) -> Vec<Policy> {
    snapshot.limits.iter().map(|limit| limit.policy()).collect()
}

/// The leader waits for those who live.
fn key_state(key: &KeyProgress, status: &Status) -> ClusterKeyState {
    let waits_for = key.holders.as_ref().map_or_else(Vec::new, |holders| {
        let lacking = status.members.iter().filter(|it| it.live == Some(true) && !holders.contains(&it.id));
        lacking.map(|member| member.id.0).collect()
    });
    let replacing = key.holders.is_some() || key.reseals || key.older != 0 || key.lacks;
    ClusterKeyState { generation: key.generation, replacing, waits_for, older: key.older as u64, lacks: key.lacks }
}

fn group(status: &GroupStatus) -> Group {
    Group {
        leader: status.leader.map(|leader| leader.0),
        term: status.term,
        applied: status.applied,
        committed: status.committed,
    }
}

fn failure(error: ProposeError) -> Failure {
    match error {
        ProposeError::TooNew { reason, hint } => Failure::Rejected { reason, hint: Some(hint) },
        ProposeError::Refused(reason) => Failure::Rejected { reason, hint: None },
        other => Failure::Unavailable(other.to_string()),
    }
}

fn unreachable(Unreachable(why): Unreachable) -> Failure {
    Failure::Unavailable(format!("no quota leader: {why}"))
}
