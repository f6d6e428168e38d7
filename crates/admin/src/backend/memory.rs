//! A cluster of one process, over a bare [`State`]: no log, no peers, no disk. For tests of the admin API and of its
//! clients; what it does to documents, keys and tokens is what every node does.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tidegate_cluster::disaster::Recipient;
use tidegate_model::{Feature, Millis, NodeId, Revision};
use tidegate_policy::Snapshot;
use tidegate_state::audit::By as Doer;
use tidegate_state::endpoints::Place;
use tidegate_state::{Addresses, ClusterId, Command, Form, Proposal, Publish, RequestId, Role, State};

use super::{Applied, Backend, By, Compile, Compiled, Counter, Failure, Instead, Whole};
use crate::access::{caller, hash, mint, wall_clock};
use crate::wire::{
    CertificateState, ClusterStatus, DeploymentState, EndpointState, Group, JoinToken, KeptResponse, Node, NodeApplied,
    NodeCache, NodeRole, Problem, QuotaCount, QuotaSubject, QuotaTopEntry, Readiness, ReadyReply,
};

pub struct Memory {
    inner: Mutex<Inner>,
    compile: Box<Compile>,
}

struct Inner {
    state: State,
    index: u64,
    readiness: Readiness,
    reasons: Vec<String>,
}

const ME: NodeId = NodeId(1);

impl Memory {
    /// A formed cluster whose first admin token is `admin_token`.
    #[must_use]
    pub fn new(admin_token: &str, compile: Box<Compile>) -> Self {
        let inner = Inner { state: State::default(), index: 0, readiness: Readiness::Ready, reasons: Vec::new() };
        let memory = Self { inner: Mutex::new(inner), compile };
        memory.apply(Command::Form(Form {
            cluster: ClusterId(7),
            name: "memory".to_owned(),
            addresses: Addresses { peer: "127.0.0.1:7081".to_owned(), ..Addresses::default() },
            feature_level: 2,
            ca: Vec::new(),
            sealed_ca_key: Vec::new(),
            public_key: [0; 32],
            admin_token: hash(admin_token),
        }));
        memory
    }

    /// Another admin token, of this role.
    pub fn add_token(&self, token: &str, role: Role) {
        let name = format!("{role:?}").to_lowercase();
        self.apply(Command::CreateAdminToken { hash: hash(token), name, role, expires_at: None });
    }

    pub fn be(&self, readiness: Readiness, reasons: &[&str]) {
        let mut inner = self.lock();
        inner.readiness = readiness;
        inner.reasons = reasons.iter().map(|reason| (*reason).to_owned()).collect();
    }

    pub fn apply(&self, command: Command) -> Applied {
        let mut inner = self.lock();
        inner.index += 1;
        let index = inner.index;
        let proposal = Proposal {
            request: RequestId(u128::from(index)),
            at: wall_clock(),
            command,
            by: caller().or_else(|| Some(Doer::node(ME))),
        };
        let (outcome, _) = inner.state.apply(index, &proposal);
        Applied { outcome, index }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Backend for Memory {
    fn look(&self, look: &mut dyn FnMut(&State)) {
        look(&self.lock().state);
    }

    async fn catch_up(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn propose(&self, command: Command) -> Result<Applied, Failure> {
        Ok(self.apply(command))
    }

    fn compile(&self, text: &str, revision: Revision, instead: Instead<'_>) -> Result<Compiled, Vec<Problem>> {
        (self.compile)(text, revision, instead)
    }

    async fn understood(&self, _: &[Feature]) -> Result<(), Failure> {
        Ok(()) // One process is the whole cluster.
    }

    async fn publish(&self, publish: Publish, snapshot: &Snapshot) -> Result<Applied, Failure> {
        let publish = Publish { policies: snapshot.revision, ..publish };
        Ok(self.apply(Command::PublishDocument(publish)))
    }

    async fn applied_everywhere(&self, _: u64, _: Duration) -> Vec<NodeApplied> {
        let applied =
            |node: &tidegate_state::Node| NodeApplied { node: node.id.0, state: NodeApplied::APPLIED.to_owned() };
        self.lock().state.members.nodes().map(applied).collect()
    }

    fn readiness(&self) -> ReadyReply {
        let inner = self.lock();
        ReadyReply { status: inner.readiness, reasons: inner.reasons.clone() }
    }

    /// One endpoint, as the state has it.
    async fn endpoints(&self) -> Vec<EndpointState> {
        let place = Place { upstream: "users".into(), endpoint: "10.0.0.5:8000".into() };
        let ruling = self.lock().state.endpoints.ruling(&place).copied().unwrap_or_default();
        vec![EndpointState {
            node: ME.0,
            upstream: place.upstream,
            endpoint: place.endpoint,
            breaker: "closed".into(),
            unhealthy: ruling.unhealthy,
            weight: ruling.weight.unwrap_or(1),
            drained: ruling.drained,
            in_flight: 0,
            connections: 0,
            requests: 0,
            ejections: 0,
            epoch: ruling.epoch,
        }]
    }

    async fn deployments(&self) -> Vec<DeploymentState> {
        Vec::new()
    }

    /// An empty one.
    async fn caches(&self) -> Vec<NodeCache> {
        let (epoch, floor) = {
            let inner = self.lock();
            (inner.state.purges.epoch(), inner.state.purges.floor())
        };
        vec![NodeCache {
            node: ME.0,
            serves: true,
            responses: 0,
            bytes: 0,
            bound: 0,
            evicted: 0,
            fetching: 0,
            purges: 0,
            purge_epoch: epoch,
            purge_floor: floor,
            counters: BTreeMap::new(),
            redis: None,
        }]
    }

    async fn kept(&self, _: &str, _: &str) -> Vec<KeptResponse> {
        Vec::new()
    }

    /// It serves nobody, so there is nothing to count.
    fn counter(&self, limit: &str, _: &QuotaSubject, _: Whole) -> Result<Counter, Failure> {
        Err(Failure::NotFound(format!("the document has no limit `{limit}`")))
    }

    async fn count(&self, counter: &Counter, _: bool) -> Result<QuotaCount, Failure> {
        Err(Failure::NotFound(format!("the document has no limit `{}`", counter.name)))
    }

    async fn busiest(&self, _: Option<&str>, _: By, _: usize) -> Result<Vec<QuotaTopEntry>, Failure> {
        Ok(Vec::new())
    }

    /// It reads no files.
    fn file_certificates(&self) -> Vec<CertificateState> {
        Vec::new()
    }

    /// As it is: nobody else ever has this state, and no disk.
    fn seal(&self, _: &str, secret: &[u8]) -> Result<Vec<u8>, Failure> {
        Ok(secret.to_vec())
    }

    async fn settle_orders(&self) -> Result<(), String> {
        Ok(())
    }

    async fn status(&self) -> ClusterStatus {
        let inner = self.lock();
        let group = Group { leader: Some(ME.0), term: 1, applied: inner.index, committed: inner.index };
        let revision = inner.state.documents.current().0;
        let node = |node: &tidegate_state::Node| Node {
            id: node.id.0,
            name: node.name.clone(),
            peer: node.addresses.peer.clone(),
            admin: node.addresses.admin.clone(),
            role: NodeRole::Voter,
            live: true,
            revision: Some(revision),
            applied: Some(inner.index),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: Some(node.feature_level),
            zone: None,
        };
        ClusterStatus {
            cluster_id: inner.state.members.cluster().to_string(),
            node_id: ME.0,
            readiness: inner.readiness,
            reasons: inner.reasons.clone(),
            revision,
            control: group,
            quota: group,
            settled: true,
            nodes: inner.state.members.nodes().map(node).collect(),
            alarms: Vec::new(),
            certificate: None,
            cluster_key: None,
        }
    }

    async fn join_token(&self, expires_at: Millis, uses: u32) -> Result<JoinToken, Failure> {
        let token = mint().map_err(|error| Failure::Fault(error.to_string()))?;
        self.apply(Command::CreateJoinToken { hash: hash(&token), expires_at: Some(expires_at), uses });
        let peers = self.lock().state.members.nodes().map(|node| node.addresses.peer.clone()).collect();
        Ok(JoinToken { token, expires_at: super::time(expires_at), uses, peers })
    }

    async fn remove_node(&self, node: NodeId) -> Result<(), Failure> {
        if self.lock().state.members.node(node).is_none() {
            return Err(Failure::NotFound(format!("there is no node {node}")));
        }
        if node == ME {
            return Err(Failure::Rejected { reason: "node 1 is the only voter".to_owned(), hint: None });
        }
        self.apply(Command::RemoveNode { id: node });
        Ok(())
    }

    async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, Failure> {
        match to {
            None | Some(ME) => Ok(ME),
            Some(other) => Err(Failure::Rejected { reason: format!("node {other} is no voter"), hint: None }),
        }
    }

    async fn backup(&self, _: Recipient) -> Result<Bytes, Failure> {
        Err(Failure::Unavailable("this cluster is in memory only".to_owned()))
    }

    async fn rotate_tickets(&self) -> Result<u64, Failure> {
        let after = self.lock().state.ticket_keys.generation();
        self.apply(Command::RotateTicketKeys { after, sealed: Vec::new() });
        Ok(after + 1)
    }

    async fn rotate_cluster_key(&self) -> Result<u64, Failure> {
        Ok(self.lock().state.later.cluster_keys.generation() + 1) // It seals nothing.
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }
}
