//! From what the cluster agreed on to what requests see: documents are compiled and swapped in, keys are added and
//! refused, and the cluster is told how far this node has come.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_admin::backend::cluster::policies;
use tidegate_auth::KeyEntry;
use tidegate_cluster::{Cluster, News};
use tidegate_config::Document;
use tidegate_model::{KeyId, Millis, Revision};
use tidegate_policy::Snapshot;
use tidegate_proxy::Gate;
use tidegate_quota::protocol::Policy;
use tidegate_state::{Change, Key, State};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};

use super::breakers::Breakers;
use super::certificates::Shown;
use super::files::Files;
use super::issuers::Fetchers;
use super::purges::Purges;
use super::quotas::Quotas;
use super::redis::Published;
use super::secrets::Secrets;
use super::{inputs, tickets};

/// How often files that a document names are read anew when compiling failed, and policies are compared.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often it is looked whether those files changed.
const LOOK_AT_FILES: Duration = Duration::from_secs(1);

/// Is a revision compiled again that is served already?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Once,
    Anew,
}

pub(super) struct Effect {
    cluster: Cluster,
    gate: Arc<Gate>,
    shown: Arc<Shown>,
    breakers: Arc<Breakers>,
    purges: Purges,
    redis: Published,
    fetchers: Fetchers,
    files: Arc<Files>,
    secrets: Arc<Secrets>,
    quotas: Arc<Quotas>,
    http3: watch::Sender<bool>,
    /// The served document's limits, without what operators ordered.
    policies: Mutex<Vec<Policy>>,
    /// The newest revision the state has; the served one is the snapshot's.
    published: AtomicU64,
    /// Why the newest document is not served.
    alarm: Mutex<Option<String>>,
    reload: Notify,
    serving: AtomicBool,
    draining: AtomicBool,
}

impl Effect {
    pub(super) fn new(
        cluster: Cluster,
        gate: Arc<Gate>,
        shown: Arc<Shown>,
        breakers: Arc<Breakers>,
        redis: Published,
        quotas: Arc<Quotas>,
        http3: watch::Sender<bool>,
    ) -> Self {
        let purges = Purges::new(&cluster, gate.cache.as_ref());
        let fetchers = Fetchers::new(&gate);
        Self {
            cluster,
            gate,
            shown,
            breakers,
            purges,
            redis,
            fetchers,
            files: Arc::default(),
            secrets: Arc::default(),
            quotas,
            http3,
            policies: Mutex::default(),
            published: AtomicU64::new(0),
            alarm: Mutex::new(None),
            reload: Notify::new(),
            serving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    pub(super) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    pub(super) fn breakers(&self) -> Arc<Breakers> {
        Arc::clone(&self.breakers)
    }

    /// The listeners are open.
    pub(super) fn begin_serving(&self) {
        self.serving.store(true, Ordering::Release);
    }

    pub(super) fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// The node was told to end.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Why the newest document is not served; `None`: it is.
    pub(super) fn alarm(&self) -> Option<String> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is wrong with issuers of tokens, and whether tokens cannot be checked because of it.
    pub(super) fn issuers_trouble(&self) -> Vec<(String, bool)> {
        self.fetchers.trouble()
    }

    pub(super) fn served(&self) -> Revision {
        self.gate.snapshot.load().revision
    }

    pub(super) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Relaxed))
    }

    /// Puts everything into effect that is applied now.
    pub(super) async fn catch_up(&self) {
        let applied = *self.cluster.applied().borrow();
        self.purges.follow(&self.gate.snapshot.load());
        self.breakers.ruled();
        self.load_keys();
        self.shown.follow();
        tickets::follow(&self.cluster, self.shown.tickets());
        self.load_document(Look::Once).await;
        self.follow_orders().await;
        self.cluster.in_effect(applied);
    }

    /// Puts what changes into effect, for as long as the node lives.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut changes = self.cluster.changes();
        let mut applied = self.cluster.applied();
        self.catch_up().await; // What changed between the first look and the subscription.
        let mut again = tokio::time::interval(LOOK_AGAIN);
        let mut files = tokio::time::interval(LOOK_AT_FILES);
        loop {
            tokio::select! {
                biased;
                news = changes.recv() => match news {
                    Ok(News { index, change }) => {
                        self.change(change).await;
                        self.cluster.in_effect(index);
                        self.nothing_more(&changes, *applied.borrow());
                    }
                    Err(RecvError::Lagged(_)) => self.catch_up().await,
                    Err(RecvError::Closed) => return,
                },
                // Entries that change nothing here are in effect as soon as all news before them were taken.
                Ok(()) = applied.changed() => {
                    let index = *applied.borrow_and_update();
                    self.nothing_more(&changes, index);
                }
                () = self.reload.notified() => self.load_document(Look::Anew).await,
                _ = again.tick() => {
                    if self.alarm().is_some() {
                        self.load_document(Look::Anew).await;
                    }
                    self.assert_policies().await;
                }
                _ = files.tick() => {
                    let files = Arc::clone(&self.files);
                    // A disk may hang.
                    if tokio::task::spawn_blocking(move || files.have_changed()).await.unwrap_or(false) {
                        tracing::info!("files that the document names have changed: reading them anew");
                        self.load_document(Look::Anew).await;
                    }
                }
            }
        }
    }

    /// News of an entry are there before it counts as applied: with none left, all that was applied is in effect.
    fn nothing_more(&self, changes: &Receiver<News>, applied: u64) {
        if changes.is_empty() {
            self.cluster.in_effect(applied);
        }
    }

    /// Reads anew what the document names on this machine: certificates, secrets. What fails leaves everything as it is.
    pub(super) fn reload(&self) {
        self.reload.notify_one();
    }

    async fn change(&self, change: Change) {
        match change {
            Change::Everything => {
                self.purges.follow(&self.gate.snapshot.load());
                self.breakers.ruled();
                self.load_keys();
                self.shown.follow();
                tickets::follow(&self.cluster, self.shown.tickets());
                self.load_document(Look::Once).await;
                self.follow_orders().await;
            }
            Change::TicketKeys => tickets::follow(&self.cluster, self.shown.tickets()),
            Change::Document(_) => self.load_document(Look::Once).await,
            Change::KeyCreated(id) | Change::KeyRotated(id) | Change::KeyPlan(id) | Change::KeyRevoked(id) => {
                self.load_key(id);
            }
            Change::Members | Change::JoinTokens | Change::AdminTokens | Change::Sealed(_) | Change::ClusterKeys => {}
            Change::Certificates => self.shown.follow(),
            Change::Endpoints => self.breakers.ruled(),
            Change::Purges => self.purges.follow(&self.gate.snapshot.load()),
            Change::Orders => self.follow_orders().await,
            Change::Secret(_) => self.load_document(Look::Once).await,
        }
    }

    /// Maxima of whole limits are part of what requests see.
    async fn follow_orders(&self) {
        if self.quotas.follow() {
            self.load_document(Look::Anew).await;
        }
    }

    /// Compiles the newest document and swaps it in. On a problem the last good one stays, and an alarm is raised.
    async fn load_document(&self, look: Look) {
        let latest =
            self.cluster.read(|state| state.documents.latest().map(|it| (it.revision, Arc::clone(&it.document))));
        let Some((revision, text)) = latest else { return };
        self.published.store(revision.0, Ordering::Relaxed);
        if self.served() == revision && look == Look::Once && !self.secrets.have_changed(&self.cluster) {
            return;
        }
        let (files, secrets, cluster) = (Arc::clone(&self.files), Arc::clone(&self.secrets), self.cluster.clone());
        let gather = move |document: &Document| {
            files.reading(document);
            secrets.reading(&cluster, document);
            inputs::gather(&cluster, document)
        };
        let compiled = tokio::task::spawn_blocking(move || tidegate_admin::compile(&text, revision, gather)).await;
        let why = match compiled {
            Ok(Ok(compiled)) => self.put_into_effect(compiled.snapshot).err(),
            Ok(Err(problems)) => Some(problems.first().map_or_else(String::new, |problem| problem.reason.clone())),
            Err(panicked) => Some(panicked.to_string()),
        };
        if let Some(why) = why.as_ref().filter(|why| self.alarm().as_ref() != Some(why)) {
            tracing::error!(%revision, %why, "the published document cannot be served here; the last good one stays");
        }
        self.set_alarm(why);
    }

    fn put_into_effect(&self, mut snapshot: Snapshot) -> Result<(), String> {
        self.shown.show(&snapshot.certificates)?;
        let rotation = snapshot.ticket_rotation.unwrap_or(tidegate_policy::defaults::TICKET_ROTATION);
        self.shown.tickets().set_lifetime(rotation);
        self.gate.telemetry.apply(&snapshot.telemetry).map_err(|why| format!("access log: {why}"))?;
        self.redis.follow(snapshot.redis.as_ref())?;
        self.fetchers.follow(&snapshot.issuers)?;
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = policies(&snapshot);
        self.quotas.dress(&mut snapshot);
        self.gate.limiter.note_limits(snapshot.limits.iter().map(|limit| &**limit));
        self.gate.upstreams.retain(&snapshot.upstreams);
        self.breakers.served();
        let routes: Vec<_> = snapshot.router.routes().iter().map(|route| route.id.clone()).collect();
        let upstreams: Vec<_> = snapshot.upstreams.iter().map(|upstream| upstream.id.clone()).collect();
        self.gate.telemetry.retain(&routes, &upstreams);
        tracing::info!(revision = %snapshot.revision, routes = snapshot.router.routes().len(), "document in effect");
        // Its routes may name what was purged otherwise. Before anybody looks for it under the new names.
        self.purges.again(&snapshot);
        self.cluster.serves(snapshot.revision);
        let http3 = snapshot.http3.is_some();
        self.gate.snapshot.store(Arc::new(snapshot));
        self.http3.send_if_modified(|wanted| std::mem::replace(wanted, http3) != http3);
        Ok(())
    }

    /// A publisher may die between the document and its limits: then the quota leader puts them into force.
    async fn assert_policies(&self) {
        let snapshot = self.gate.snapshot.load_full();
        if snapshot.revision == Revision(0) || !self.cluster.leads_quota() {
            return;
        }
        let mut wanted = self.policies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wanted.sort_by_key(|policy| policy.limit);
        let right = self.cluster.read_ledger(|ledger| {
            // A higher revision is published, and this node does not serve it yet.
            ledger.revision() > snapshot.revision || ledger.policies().eq(wanted.iter())
        });
        if right {
            return;
        }
        tracing::info!(revision = %snapshot.revision, "putting the document's limits into force");
        if let Err(why) = self.cluster.set_policies(snapshot.revision, wanted).await {
            tracing::warn!(%why, "the limits are not in the quota log yet");
        }
    }

    fn set_alarm(&self, why: Option<String>) {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn load_keys(&self) {
        let (live, revoked) = self.cluster.read(|state: &State| {
            let (mut live, mut revoked) = (Vec::new(), Vec::new());
            for key in state.keys.iter() {
                if key.revoked_at.is_some() {
                    revoked.extend(hashes(key).map(|(hash, _)| hash));
                } else {
                    let plan = state.key_plans.of(key.id);
                    live.extend(hashes(key).map(|(hash, not_after)| (hash, entry(key, plan, not_after))));
                }
            }
            (live, revoked)
        });
        self.gate.keys.replace_all(live, revoked);
    }

    fn load_key(&self, id: KeyId) {
        let known =
            self.cluster.read(|state| Some((state.keys.by_id(id)?.clone(), state.key_plans.of(id).map(str::to_owned))));
        let Some((key, plan)) = known else { return };
        for (hash, not_after) in hashes(&key) {
            if key.revoked_at.is_some() {
                self.gate.keys.revoke(&hash);
            } else {
                self.gate.keys.insert(hash, entry(&key, plan.as_deref(), not_after));
            }
        }
    }
}

/// Each credential of a key and when it ends: the current one, and the one before while its grace lasts.
fn hashes(key: &Key) -> impl Iterator<Item = ([u8; 32], Option<Millis>)> + '_ {
    let sooner = |until: Millis| Some(key.expires_at.map_or(until, |end| end.min(until)));
    let previous = key.previous.map(|(hash, until)| (hash, sooner(until)));
    [(key.hash, key.expires_at)].into_iter().chain(previous)
}

fn entry(key: &Key, plan: Option<&str>, not_after: Option<Millis>) -> Arc<KeyEntry> {
    Arc::new(KeyEntry {
        id: key.id,
        tenant: key.tenant.as_str().into(),
        consumer: key.consumer.as_str().into(),
        plan: plan.map(Into::into),
        not_after: not_after.map(|at| at.0),
    })
}
