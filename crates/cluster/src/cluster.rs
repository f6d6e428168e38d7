//! The handle that the rest of the node holds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_model::{Millis, NodeId, Revision};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Alert, Batch, Command as quota_log, Key, Note, Orders, Policy, Rated, Reply};
use tidegate_state::{Addresses, ClusterId, Command, Outcome, RequestId, State};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::control::{Control, News};
use crate::error::{Error, ProposeError};
use crate::folder::Folder;
use crate::gathering::Secret;
use crate::group::{Group, WriteError};
use crate::leases::{Held, LeaseTable};
use crate::propose::{self, Applied, Everywhere};
use crate::quota::{self, Desk, Leader, Quota, Unreachable};
use crate::ready::{Readiness, Waiting};
use crate::seal::ClusterKey;
use crate::settings::{Acks, Settings};
use crate::status::{self, NodeReport, Status};
use crate::token::JoinToken;
use crate::transport::identity::{self, Identity};
use crate::transport::listener::Open;
use crate::transport::peers::Peers;
use crate::wire::{PoliciesSet, Renewal};
use crate::{membership, start};

/// This node's place in the cluster. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) folder: Folder,
    pub(crate) identity: Arc<Identity>,
    pub(crate) key: ClusterKey,
    /// Who knows it may join.
    pub(crate) secret: Option<Secret>,
    /// It will come back as who it is: others may be let in.
    pub(crate) settled: AtomicBool,
    pub(crate) name: String,
    pub(crate) own: Addresses,
    pub(crate) feature_level: u32,
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

    /// A key for one purpose, the same on all nodes and secret to everybody else.
    #[must_use]
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        self.inner.key.derive(purpose)
    }

    /// Seals a secret for the state (`Command::PutSealed` under the same name).
    ///
    /// # Errors
    /// When the cipher refuses, which it has no reason to.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, String> {
        self.inner.key.seal(name, secret)
    }

    /// Opens what [`seal`](Self::seal) made on any node of this cluster.
    ///
    /// # Errors
    /// When the bytes were not sealed under this name with this cluster's key.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.inner.key.open(name, sealed)
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

    /// The same with an id and a patience of the caller's: a second call with the same id never applies twice.
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

    // ---- quota ----

    /// Sends one batch to the quota leader. A batch that may have arrived is never sent again: an error means that
    /// nothing is known about it.
    ///
    /// # Errors
    /// When there was no outcome within a second.
    pub async fn exchange(&self, batch: Batch) -> Result<Reply, Unreachable> {
        quota::exchange(&self.inner, batch).await
    }

    /// The next key that the quota leader asks this node to report on at once.
    pub async fn recalled(&self) -> Key {
        let next = self.inner.recalled.receive.lock().await.recv().await;
        match next {
            Some(key) => key,
            // Not reached: we hold a sender ourselves. Waiting for ever is right even so.
            None => std::future::pending().await,
        }
    }

    /// The next budget that passes a threshold, while this node leads the quota group.
    pub async fn alerted(&self) -> Alert {
        let next = self.inner.alerted.lock().await.recv().await;
        match next {
            Some(alert) => alert,
            // Not reached: the desk holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Makes the limits of a document known to the quota log, before the document is proposed. Nothing in force
    /// changes; of a document that is never published no trace stays.
    ///
    /// # Errors
    /// When no quota leader took them in time.
    pub async fn prepare_policies(&self, policies: Vec<Policy>) -> Result<(), Unreachable> {
        quota::prepare_policies(&self.inner, policies, propose::PATIENCE).await.map(|_| ())
    }

    /// Puts the limits of a published document into force. The answer is the newest revision the log has.
    ///
    /// # Errors
    /// When no quota leader took them in time.
    pub async fn set_policies(&self, revision: Revision, policies: Vec<Policy>) -> Result<Revision, Unreachable> {
        quota::set_policies(&self.inner, revision, policies, propose::PATIENCE).await
    }

    /// Does this node lead the quota group, as far as it knows?
    #[must_use]
    pub fn leads_quota(&self) -> bool {
        self.inner.quota.status().leader == Some(self.node())
    }

    /// Who leads the quota group, as far as anybody can be asked.
    pub async fn quota_leader(&self) -> Option<NodeId> {
        quota::find(&self.inner).await
    }

    /// Whoever was believed to lead the quota group does not answer, or says that it does not.
    pub fn doubt_quota_leader(&self) {
        self.inner.quota_leader.is(None);
    }

    /// On the quota leader: puts into the quota log what operators ordered, `rates` of buckets apart. What is older than what
    /// is known changes nothing.
    ///
    /// # Errors
    /// Why it is not known to be in the log.
    pub async fn set_orders(&self, orders: Orders, rates: Vec<Rated>, patience: Duration) -> Result<(), String> {
        // Releases that know of no rates read what is ordered without any.
        let command = match rates.is_empty() {
            true => quota_log::SetOrders(orders),
            false => quota_log::SetRatedOrders(orders, rates),
        };
        match quota::command(&self.inner, command, patience).await {
            PoliciesSet::Done(_) => Ok(()),
            PoliciesSet::NotLeader(_) => Err("this node does not lead the quota group".into()),
            PoliciesSet::Unknown(why) => Err(why),
        }
    }

    /// On the quota leader: puts a note into the quota log. The same note twice changes nothing more.
    ///
    /// # Errors
    /// Why it is not known to be in the log.
    pub async fn note(&self, note: Note, patience: Duration) -> Result<(), String> {
        match quota::command(&self.inner, quota_log::Note(note), patience).await {
            PoliciesSet::Done(_) => Ok(()),
            PoliciesSet::NotLeader(_) => Err("this node does not lead the quota group".into()),
            PoliciesSet::Unknown(why) => Err(why),
        }
    }

    /// On the quota leader: returns when its ledger holds all that was acknowledged before the call.
    ///
    /// # Errors
    /// It does not lead, or a quorum does not answer in time.
    pub async fn quota_caught_up(&self, patience: Duration) -> Result<(), String> {
        let group = &self.inner.quota;
        let caught_up = async {
            let index = match group.read_index().await {
                Ok(index) => index,
                Err(WriteError::NotLeader(_)) => return Err("this node does not lead the quota group".to_owned()),
                Err(WriteError::Unknown(why)) => return Err(why),
            };
            let mut applied = group.replica.applied();
            applied.wait_for(|applied| index <= *applied).await.map(|_| ()).map_err(|_| "the group stopped".to_owned())
        };
        tokio::time::timeout(patience, caught_up).await.unwrap_or_else(|_| Err("no quorum answered in time".into()))
    }

    /// Looks at the ledger: up to date on voters, as it was when last voting on others.
    pub fn read_ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.inner.quota.read(|quota| look(&quota.ledger))
    }

    // ---- membership ----

    /// Makes a join token: the text is shown once, the state keeps its hash.
    ///
    /// # Errors
    /// When no leader took it in time.
    pub async fn create_join_token(&self, lives: Option<Duration>, uses: u32) -> Result<JoinToken, ProposeError> {
        let token = JoinToken::new(identity::fingerprint(&self.inner.identity.ca));
        let lives = lives.map(|lives| u64::try_from(lives.as_millis()).unwrap_or(u64::MAX));
        let expires_at = lives.map(|lives| Millis(wall().0.saturating_add(lives)));
        self.propose(Command::CreateJoinToken { hash: token.hash(), expires_at, uses }).await?;
        Ok(token)
    }

    /// Removes a member for good: it is refused from then on, its id is never given out again.
    ///
    /// # Errors
    /// When no leader took it in time.
    pub async fn remove(&self, id: NodeId) -> Result<Outcome, ProposeError> {
        membership::remove(&self.inner, id).await
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

    // ---- standing ----

    /// May this node serve?
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.inner.readiness()
    }

    /// Does this node hold its node lease? Without it, it is cut off: no cache, keys only for `max_staleness`.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.inner.held.is_live()
    }

    /// Does it hold its node lease, and has it in effect whatever was acknowledged while it did not? What is said to
    /// hold on all live nodes holds here then.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.inner.held.is_current(self.inner.is_in_effect())
    }

    /// This node's part in both groups: at once, without asking anybody.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        status::report(&self.inner)
    }

    /// The whole cluster, as seen from here and from its leaders.
    pub async fn status(&self) -> Status {
        status::status(&self.inner).await
    }

    /// Takes snapshots of both groups now. It happens by itself when the logs have grown; before a backup, ask.
    ///
    /// # Errors
    /// When a group has stopped.
    pub async fn compact(&self) -> Result<(), String> {
        self.inner.control.compact().await?;
        self.inner.quota.compact().await
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

    pub(crate) fn renewal(&self) -> Renewal {
        let applied = *self.control.replica.applied().borrow();
        let in_effect = self.is_in_effect();
        Renewal {
            node: self.me(),
            applied,
            in_effect,
            feature_level: self.feature_level,
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
