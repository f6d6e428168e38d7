//! The handle that the rest of the node holds. Here: the control log and the members; in the folder: limits, and how all stands.

mod limits;
mod standing;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_model::{Millis, NodeId, Revision};
use tidegate_quota::protocol::{Alert, Key};
use tidegate_state::audit::By;
use tidegate_state::{Addresses, ClusterId, Command, Outcome, RequestId, State};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::compared::Comparisons;
use crate::control::{Control, News};
use crate::error::{Error, ProposeError};
use crate::folder::Folder;
use crate::gathering::Secret;
use crate::group::Group;
use crate::keys::Keys;
use crate::leases::{Held, LeaseTable};
use crate::propose::{self, Applied, Everywhere};
use crate::quota::{Desk, Leader, Quota};
use crate::ready::Waiting;
use crate::settings::{Acks, Settings};
use crate::token::JoinToken;
use crate::transport::identity::{self, Identity};
use crate::transport::listener::Open;
use crate::transport::peers::Peers;
use crate::transport::tls::Shown;
use crate::wire::Renewal;
use crate::{membership, start};

#[cfg(debug_assertions)]
pub use standing::Spoilt;

/// This node's place in the cluster. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) folder: Folder,
    pub(crate) identity: Arc<Identity>,
    pub(crate) keys: Keys,
    /// Its certificate among nodes: newer than `identity`'s once it was renewed.
    pub(crate) shown: Arc<Shown>,
    pub(crate) certificate_life: Duration,
    pub(crate) key_grace: Duration,
    /// Who knows it may join.
    pub(crate) secret: Option<Secret>,
    /// It will come back as who it is: others may be let in.
    pub(crate) settled: AtomicBool,
    pub(crate) name: String,
    pub(crate) own: Addresses,
    pub(crate) zone: String,
    pub(crate) feature_level: u32,
    /// What the process said that was this node before, while it may have to be it again.
    pub(crate) heir_of: Mutex<Option<u32>>,
    pub(crate) acks: Acks,
    pub(crate) forget_after: Option<Duration>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) open: Arc<Open>,
    pub(crate) control: Arc<Group<Control>>,
    pub(crate) news: broadcast::Sender<News>,
    pub(crate) quota: Arc<Group<Quota>>,
    pub(crate) desk: Desk,
    pub(crate) quota_leader: Leader,
    /// Alerts of budgets, on the quota leader.
    pub(crate) alerted: tokio::sync::Mutex<mpsc::Receiver<Alert>>,
    pub(crate) recalled: Recalled,
    pub(crate) leases: LeaseTable,
    pub(crate) held: Held,
    /// Entries up to here are in effect on this node.
    pub(crate) in_effect: AtomicU64,
    /// The document revision that this node serves.
    pub(crate) serves: AtomicU64,
    pub(crate) looked: crate::propose::Looked,
    pub(crate) turns: crate::levels::Turns,
    /// Who answers messages of which topic.
    pub(crate) listeners: crate::message::Listeners,
    /// Something to tell the control leader at once.
    pub(crate) renew_now: Notify,
    /// Something to do for the reconciler at once.
    pub(crate) converge_now: Notify,
    /// The control group's voters, as its leader last said.
    pub(crate) voters: Mutex<BTreeSet<u64>>,
    pub(crate) waiting: Waiting,
    pub(crate) draining: AtomicBool,
    pub(crate) removed: watch::Sender<Option<String>>,
    pub(crate) stopping: watch::Sender<bool>,
    /// Hash of the state as of the last entry that somebody asked it for.
    pub(crate) hashed: Mutex<Option<([u8; 32], u64)>>,
    /// What was found when the members' states were compared.
    pub(crate) compared: Mutex<Comparisons>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
}

/// Keys that the quota leader asks about.
pub(crate) struct Recalled {
    pub(crate) send: mpsc::Sender<Key>,
    pub(crate) receive: tokio::sync::Mutex<mpsc::Receiver<Key>>,
}

impl Cluster {
    /// Opens the data folder and takes this node's place: resumes, forms a new cluster, or joins one.
    ///
    /// # Errors
    /// See [`Error`]: each says what to do about it.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        start::start(settings).await
    }

    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.me()
    }

    #[must_use]
    pub fn id(&self) -> ClusterId {
        self.inner.identity.cluster
    }

    /// Where this node says it is reached.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.inner.own
    }

    /// Seals a secret for the state (`Command::PutSealed` under the same name).
    ///
    /// # Errors
    /// When the cipher refuses, which it has no reason to.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, String> {
        self.inner.sealing_key()?.seal(name, secret)
    }

    /// Opens what [`seal`](Self::seal) made on any node of this cluster.
    ///
    /// # Errors
    /// When the bytes were not sealed under this name with this cluster's key.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.inner.keys.open(name, sealed)
    }

    // ---- control ----

    /// Proposes a command; returns when it is applied on this node too. From any node; retried until the patience
    /// ends, applied once.
    ///
    /// # Errors
    /// When no leader took it in time. What people got wrong is an [`Outcome`].
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let request = RequestId(u128::from_le_bytes(crate::token::random()));
        propose::propose(&self.inner, request, command, propose::PATIENCE).await
    }

    /// The same on behalf of somebody.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub async fn propose_by(&self, by: By, command: Command) -> Result<Applied, ProposeError> {
        let request = RequestId(u128::from_le_bytes(crate::token::random()));
        propose::propose_by(&self.inner, by, request, command, propose::PATIENCE).await
    }

    /// As [`propose`](Self::propose) with an id and a patience of the caller's: a second call with the same id never applies twice.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub async fn propose_as(
        &self,
        request: RequestId,
        command: Command,
        patience: Duration,
    ) -> Result<Applied, ProposeError> {
        propose::propose(&self.inner, request, command, patience).await
    }

    /// Returns when all that was acknowledged anywhere before the call is applied here: [`read`](Self::read) then sees it.
    ///
    /// # Errors
    /// When no leader with a quorum was found in time. What is applied here can be read even so.
    pub async fn catch_up(&self, patience: Duration) -> Result<(), ProposeError> {
        propose::catch_up(&self.inner, patience).await
    }

    /// Looks at the state as applied here. Short looks only: applying waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.inner.control.read(|control| look(&control.state))
    }

    /// What changes from now on. A watcher that lags hears [`broadcast::error::RecvError::Lagged`] and reads the state
    /// anew, as after `Change::Everything`.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<News> {
        self.inner.news.subscribe()
    }

    /// Index of the last control entry applied here.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.inner.control.replica.applied()
    }

    /// Tells the cluster that all control entries up to `index` are in effect here: snapshot compiled, keys refused.
    /// Only with [`Acks::ByCaller`].
    pub fn in_effect(&self, index: u64) {
        if self.inner.in_effect.fetch_max(index, Ordering::AcqRel) < index {
            self.inner.renew_now.notify_one();
        }
    }

    /// The process that was this node before will not be it again; see [`Settings::heir_of`](crate::Settings::heir_of).
    pub fn took_over(&self) {
        *self.inner.heir_of.lock().expect("no panic while locked") = None;
        self.inner.renew_now.notify_one();
    }

    /// Tells the cluster, with the next renewal of the node lease, which document revision this node serves.
    pub fn serves(&self, revision: Revision) {
        self.inner.serves.store(revision.0, Ordering::Relaxed);
    }

    /// Waits until every member has put this entry into effect, or its node lease lapsed, or the patience ended.
    ///
    /// # Errors
    /// When no control leader could be asked in time.
    pub async fn wait_applied_everywhere(&self, index: u64, patience: Duration) -> Result<Everywhere, ProposeError> {
        propose::everywhere(&self.inner, index, patience).await
    }

    // ---- membership ----

    /// Makes a join token: the text is shown once, the state keeps its hash.
    ///
    /// # Errors
    /// When no leader took it in time.
    pub async fn create_join_token(&self, lives: Option<Duration>, uses: u32) -> Result<JoinToken, ProposeError> {
        self.create_join_token_by(By::node(self.node()), lives, uses).await
    }

    /// The same on behalf of somebody.
    ///
    /// # Errors
    /// As [`create_join_token`](Self::create_join_token).
    pub async fn create_join_token_by(
        &self,
        by: By,
        lives: Option<Duration>,
        uses: u32,
    ) -> Result<JoinToken, ProposeError> {
        let token = JoinToken::new(identity::fingerprint(&self.inner.identity.ca));
        let lives = lives.map(|lives| u64::try_from(lives.as_millis()).unwrap_or(u64::MAX));
        let expires_at = lives.map(|lives| Millis(wall().0.saturating_add(lives)));
        self.propose_by(by, Command::CreateJoinToken { hash: token.hash(), expires_at, uses }).await?;
        Ok(token)
    }

    /// Removes a member for good: it is refused from then on, its id is never given out again.
    ///
    /// # Errors
    /// When no leader took it in time.
    pub async fn remove(&self, id: NodeId) -> Result<Outcome, ProposeError> {
        self.remove_by(By::node(self.node()), id).await
    }

    /// The same on behalf of somebody.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub async fn remove_by(&self, by: By, id: NodeId) -> Result<Outcome, ProposeError> {
        membership::remove(&self.inner, by, id).await
    }

    /// Gives away the leadership of whatever groups this node leads: before it stops for a while.
    pub async fn step_down(&self) {
        membership::step_down(&self.inner).await;
    }

    /// Leaves for good: hands over leadership and votes, then is removed. Stop the node afterwards.
    ///
    /// # Errors
    /// When no leader took it in time.
    pub async fn leave(&self) -> Result<(), ProposeError> {
        membership::leave(&self.inner).await
    }

    /// Moves the leadership of both groups to a voter.
    ///
    /// # Errors
    /// Why it did not move, for people.
    pub async fn transfer(&self, to: NodeId) -> Result<(), String> {
        membership::transfer(&self.inner, to).await
    }

    /// Set when this node learns that it was removed, with the reason.
    #[must_use]
    pub fn removed(&self) -> watch::Receiver<Option<String>> {
        self.inner.removed.subscribe()
    }

    /// Runs a task that needs the cluster: it ends with it, however far it is.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.spawn(task);
    }

    /// Stops at once: nothing is handed over. Files are closed and the lock is free when this returns.
    pub async fn shutdown(&self) {
        self.inner.shutdown().await;
    }
}

impl Inner {
    pub(crate) fn me(&self) -> NodeId {
        self.identity.node
    }

    /// Is this node a voter, as far as it knows?
    pub(crate) fn votes(&self) -> bool {
        self.control.replica.membership().voter_ids().any(|id| id == self.me().0)
    }

    /// Whom to ask for a leader: the voters, then everybody.
    pub(crate) fn likely_voters(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> =
            self.voters.lock().expect("no panic while locked").iter().copied().map(NodeId).collect();
        let membership = self.control.replica.membership();
        nodes.extend(membership.voter_ids().map(NodeId));
        nodes.extend(self.peers.addresses.nodes());
        let mut seen = BTreeSet::new();
        nodes.retain(|node| seen.insert(*node));
        nodes
    }

    fn is_in_effect(&self) -> u64 {
        match self.acks {
            Acks::OnApply => *self.control.replica.applied().borrow(),
            Acks::ByCaller => self.in_effect.load(Ordering::Acquire),
        }
    }

    /// What this node understands, whichever of its processes serves in the end.
    pub(crate) fn level(&self) -> u32 {
        let before = *self.heir_of.lock().expect("no panic while locked");
        before.map_or(self.feature_level, |before| before.min(self.feature_level))
    }

    pub(crate) fn renewal(&self) -> Renewal {
        let applied = *self.control.replica.applied().borrow();
        let is_heir = self.heir_of.lock().expect("no panic while locked").is_some();
        // Whoever is connected to the process before is served by what that one has in effect.
        let in_effect = if is_heir { 0 } else { self.is_in_effect() };
        Renewal {
            node: self.me(),
            applied,
            in_effect,
            feature_level: self.level(),
            addresses: self.own.clone(),
            ready: self.waiting.is_over(),
            draining: self.draining.load(Ordering::Relaxed),
            revision: Revision(self.serves.load(Ordering::Relaxed)),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Runs a task until the node stops.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopping = self.stopping.subscribe();
        self.tasks.lock().expect("no panic while locked").spawn(async move {
            tokio::select! {
                () = task => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
    }

    pub(crate) async fn shutdown(&self) {
        self.stopping.send_replace(true);
        self.held.end();
        self.control.shutdown().await;
        self.quota.shutdown().await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().expect("no panic while locked"));
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        self.open.forget_all();
        self.peers.close().await;
        self.folder.release();
    }
}

/// The wall clock, for people and expiries.
pub(crate) fn wall() -> Millis {
    Millis(tidegate_clock::wall().0 / 1_000_000)
}
