//! What the admin API needs of the node it runs in: the one seam between handlers and the cluster.
//!
//! Two implementations: `backend::cluster` over `cluster::Cluster`, and `backend::memory` over a bare
//! [`State`], in which one process is the whole cluster: for tests of the API, and of whatever talks to it.

pub mod cluster;
pub mod memory;

use std::time::Duration;

use axum::body::Bytes;
use tidegate_cluster::disaster::Recipient;
use tidegate_model::{Feature, LimitId, Millis, NodeId, Permits, Revision, Subject};
use tidegate_policy::{Kind, Snapshot};
use tidegate_state::{Command, Outcome, Publish, State};

pub use crate::routes::quota::By;
use crate::wire::{
    CertificateState, ClusterStatus, DeploymentState, EndpointState, JoinToken, KeptResponse, NodeApplied, NodeCache,
    Problem, QuotaCount, QuotaSubject, QuotaTopEntry, ReadyReply,
};

/// Compiles a document with what a node knows: files, secrets, environment.
pub type Compile = dyn Fn(&str, Revision, Instead<'_>) -> Result<Compiled, Vec<Problem>> + Send + Sync;

/// A secret of the cluster's and the value that it may get.
pub type Instead<'a> = Option<(&'a str, &'a [u8])>;

#[tonic::async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Looks once at what this node applied so far. Short looks only: applying waits meanwhile. See `<dyn Backend>::read`.
    fn look(&self, look: &mut dyn FnMut(&State));

    /// Returns when this node's state holds everything that was acknowledged anywhere before the call.
    async fn catch_up(&self) -> Result<(), Failure>;

    /// One command through the control log, from any node. An outcome that says no is an `Ok`.
    async fn propose(&self, command: Command) -> Result<Applied, Failure>;

    /// Compiles with what this node knows: files, secrets, environment. Pure work, maybe long: not for async threads.
    /// `instead`: with this value of a secret that the cluster keeps, by name.
    fn compile(&self, text: &str, revision: Revision, instead: Instead<'_>) -> Result<Compiled, Vec<Problem>>;

    /// Does every live node understand this?
    async fn understood(&self, features: &[Feature]) -> Result<(), Failure>;

    /// Makes the limits known to the quota log, then publishes the document, then puts its limits into force: one that is
    /// not published changes nothing (docs/quota.md).
    /// `publish.policies` is filled in here.
    async fn publish(&self, publish: Publish, snapshot: &Snapshot) -> Result<Applied, Failure>;

    /// Waits until every node applied the entry at `index` or its node lease lapsed; at most `timeout`.
    async fn applied_everywhere(&self, index: u64, timeout: Duration) -> Vec<NodeApplied>;

    /// May this node be sent requests, and why not.
    fn readiness(&self) -> ReadyReply;

    async fn status(&self) -> ClusterStatus;

    /// The endpoints of upstreams, as every live node that answers sees them.
    async fn endpoints(&self) -> Vec<EndpointState>;

    /// Deployments of language models, as every live node that answers sees them.
    async fn deployments(&self) -> Vec<DeploymentState>;

    /// The response caches of all live nodes that answer.
    async fn caches(&self) -> Vec<NodeCache>;

    /// What they keep of `host/path?query` in memory.
    async fn kept(&self, tenant: &str, url: &str) -> Vec<KeptResponse>;

    /// Whom a limit counts, by what people say.
    fn counter(&self, limit: &str, subject: &QuotaSubject, whole: Whole) -> Result<Counter, Failure>;

    /// How a counter stands, its orders left out: in the quota leader's ledger, or (`stale`) in this node's.
    async fn count(&self, counter: &Counter, stale: bool) -> Result<QuotaCount, Failure>;

    /// The busiest counters, of one limit or of all.
    async fn busiest(&self, limit: Option<&str>, by: By, most: usize) -> Result<Vec<QuotaTopEntry>, Failure>;

    /// Certificates that the document brings in files, as this node read them.
    fn file_certificates(&self) -> Vec<CertificateState>;

    /// Seals a secret with the cluster's key, under a name.
    fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, Failure>;

    /// Returns when the quota log holds the orders that this node has applied; or why it does not yet.
    async fn settle_orders(&self) -> Result<(), String>;

    /// Mints a join token; it holds what a new node needs to know the cluster by.
    async fn join_token(&self, expires_at: Millis, uses: u32) -> Result<JoinToken, Failure>;

    /// Takes a node out of both groups and out of the members.
    async fn remove_node(&self, node: NodeId) -> Result<(), Failure>;

    /// Hands the control leadership over; answers who leads then.
    async fn transfer(&self, to: Option<NodeId>) -> Result<NodeId, Failure>;

    /// Everything that a new cluster needs, sealed for whoever has the other half of this key.
    async fn backup(&self, recipient: Recipient) -> Result<Bytes, Failure>;

    /// A new key of TLS session tickets; answers how many there were by then.
    async fn rotate_tickets(&self) -> Result<u64, Failure>;

    /// Another key seals everything secret; answers the generation that it will be. The steps follow by themselves.
    async fn rotate_cluster_key(&self) -> Result<u64, Failure>;

    /// The node's metrics in Prometheus text format.
    fn metrics(&self) -> String;
}

impl dyn Backend {
    /// [`Backend::look`], with an answer.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        let (mut look, mut seen) = (Some(look), None);
        self.look(&mut |state| seen = look.take().map(|look| look(state)));
        seen.expect("look is called once")
    }
}

/// One counter of a limit, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    pub limit: LimitId,
    pub name: String,
    /// `None`: all subjects.
    pub subject: Option<Subject>,
    /// The subject for people.
    pub words: String,
    /// How long what is granted once is good for: a window.
    pub period: Option<Millis>,
    /// As it is served.
    pub max: Permits,
    /// The largest that it may have.
    pub most: Permits,
    pub kind: Kind,
}

/// May all subjects of a limit be meant, when none is named?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    Yes,
    No,
}

/// A document that may be published.
#[derive(Debug)]
pub struct Compiled {
    pub snapshot: Snapshot,
    pub warnings: Vec<Problem>,
    /// What it uses that not every release understands.
    pub features: Vec<Feature>,
}

/// A committed entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub outcome: Outcome,
    /// Its index in the control log.
    pub index: u64,
}

/// Why the cluster did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// There is no such thing; the sentence names it.
    NotFound(String),
    /// The document changed in the meantime.
    Conflict { current: u64 },
    /// The cluster could, but will not.
    Rejected { reason: String, hint: Option<String> },
    /// No leader, no quorum, or no way to it.
    Unavailable(String),
    /// Not answered in time: it may still happen.
    TimedOut,
    /// Ours; goes to the log and not to the caller.
    Fault(String),
}

/// RFC 3339, to the second.
#[must_use]
pub fn time(at: Millis) -> String {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |at| at.to_string())
}
