//! What outlives a document about one upstream: its endpoints with their connections, its retry budget, the addresses
//! its names have. A new document, or a new DNS answer, makes a new [`View`] out of the same endpoints.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tidegate_policy::{self as policy, Upstream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use crate::balance::{Member, Members};
use crate::berths::Berths;
use crate::breaker::Rulings;
use crate::breaker::post::Post;
use crate::breaker::ward::Ward;
use crate::budget::Budget;
use crate::connect::Connector;
use crate::discovery::{Files, Source};
use crate::endpoint::{Address, Endpoint, millis};
use crate::lock;
use crate::names::Names;
use crate::pace::Pace;

#[derive(Debug)]
pub(crate) struct Live {
    view: ArcSwap<View>,
    pub(crate) ward: Ward,
    pub(crate) budget: Budget,
    pub(crate) berths: Arc<Berths>,
    pub(crate) retries: AtomicU64,
    /// Of hedges alone; they take from the other as well.
    pub(crate) hedged: Budget,
    pub(crate) hedges: AtomicU64,
    pub(crate) hedges_won: AtomicU64,
    pub(crate) pace: Pace,
    names: Arc<Names>,
    /// The last good answer per DNS name of the document. Held while a view is built: one at a time.
    answers: Mutex<Answers>,
    files: Files,
    /// Bounded by the sources of the document.
    alarms: Mutex<HashMap<Source, String>>,
    pub(crate) resolved: Notify,
    watcher: Mutex<Option<JoinHandle<()>>>,
    /// Checks the endpoints' health.
    checker: Mutex<Option<JoinHandle<()>>>,
    /// `retain` named it: calls with another document do not change it.
    retained: AtomicBool,
}

/// What was found last.
#[derive(Debug, Default)]
struct Answers {
    names: HashMap<String, Vec<IpAddr>>,
    lists: HashMap<Source, Vec<(Address, u32)>>,
}

impl Answers {
    fn lacks(&self, endpoint: &policy::Endpoint) -> bool {
        match endpoint {
            policy::Endpoint::Dns { name, .. } => !self.names.contains_key(name),
            other => Source::of(other).is_some_and(|source| !self.lists.contains_key(&source)),
        }
    }
}

/// Immutable: one document's words about the upstream, with this moment's addresses.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) members: Members,
    /// A name has never been resolved.
    pub(crate) unresolved: bool,
}

impl Live {
    pub(crate) fn new(upstream: &Arc<Upstream>, names: &Arc<Names>, post: &Arc<Post>) -> Arc<Self> {
        let answers = Answers::default();
        let view = View::new(upstream, names, &answers, &post.rulings.load(), None);
        let ward = Ward::new(upstream, post);
        ward.admit(upstream, &view.members.all, millis(Instant::now()));
        let live = Arc::new(Self {
            view: ArcSwap::from_pointee(view),
            ward,
            budget: Budget::default(),
            berths: Arc::default(),
            retries: AtomicU64::new(0),
            hedged: Budget::default(),
            hedges: AtomicU64::new(0),
            hedges_won: AtomicU64::new(0),
            pace: Pace::default(),
            names: Arc::clone(names),
            answers: Mutex::new(answers),
            files: Files::default(),
            alarms: Mutex::default(),
            resolved: Notify::new(),
            watcher: Mutex::new(None),
            checker: Mutex::new(None),
            retained: AtomicBool::new(false),
        });
        live.berths.rule(upstream.overload.as_ref());
        live.watch();
        live.check();
        live
    }

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<View>> {
        self.view.load()
    }

    pub(crate) fn retain(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        self.retained.store(true, Relaxed);
        self.adopt(upstream);
    }

    /// A call came with another document's words. The last `retain` decides; without any, the call does.
    pub(crate) fn suggest(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        if !self.retained.load(Relaxed) && self.view().upstream != *upstream {
            self.adopt(upstream);
        }
    }

    fn adopt(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        let mut answers = lock(&self.answers);
        lock(&self.alarms).retain(|source, _| sources(upstream).any(|s| s == *source));
        answers.names.retain(|name, _| dns_names(upstream).any(|n| n == name));
        answers.lists.retain(|source, _| sources(upstream).any(|s| s == *source));
        self.rebuild(upstream, &answers);
        drop(answers);
        // Its names may be others now.
        if let Some(old) = lock(&self.watcher).take() {
            old.abort();
        }
        self.watch();
        self.check();
    }

    fn rebuild(&self, upstream: &Arc<Upstream>, answers: &Answers) {
        let old = self.view.load_full();
        let rulings = self.ward.post().rulings.load();
        let new = Arc::new(View::new(upstream, &self.names, answers, &rulings, Some(&old)));
        self.ward.admit(upstream, &new.members.all, millis(Instant::now()));
        self.view.store(Arc::clone(&new));
        if old.upstream.overload != upstream.overload {
            self.berths.rule(upstream.overload.as_ref());
        }
        for gone in old.members.all.iter().filter(|m| !new.has(&m.endpoint)) {
            gone.endpoint.pool.retire();
        }
        self.resolved.notify_waiters();
    }

    /// The cluster's rulings are others now: some may be about weights.
    pub(crate) fn rule(&self) {
        let answers = lock(&self.answers);
        let upstream = Arc::clone(&self.view().upstream);
        let rulings = self.ward.post().rulings.load_full();
        let stale = self
            .view()
            .members
            .all
            .iter()
            .any(|m| m.weight != rulings.weight(&upstream.id, m.endpoint.name(), m.documented));
        if stale {
            self.rebuild(&upstream, &answers);
        } else {
            self.ward.rule(millis(Instant::now()));
        }
    }

    pub(crate) fn retire(&self) {
        if let Some(checker) = lock(&self.checker).take() {
            checker.abort();
        }
        if let Some(watcher) = lock(&self.watcher).take() {
            watcher.abort();
        }
        for member in &self.view().members.all {
            member.endpoint.pool.retire();
        }
    }

    /// Keeps the addresses of names fresh, in the background, if there are names and a runtime to do it on.
    pub(crate) fn watch(self: &Arc<Self>) {
        let upstream = Arc::clone(&self.view().upstream);
        let fixed = dns_names(&upstream).next().is_none() && sources(&upstream).next().is_none();
        if fixed || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut watcher = lock(&self.watcher);
        if watcher.as_ref().is_none_or(JoinHandle::is_finished) {
            *watcher = Some(tokio::spawn(refresh(Arc::downgrade(self))));
        }
    }

    /// Checks the endpoints' health from now on, if the document says so.
    fn check(self: &Arc<Self>) {
        let wanted = self.view().upstream.health.is_some() && tokio::runtime::Handle::try_current().is_ok();
        let mut checker = lock(&self.checker);
        if wanted && checker.as_ref().is_none_or(JoinHandle::is_finished) {
            *checker = Some(tokio::spawn(crate::health::check(Arc::downgrade(self))));
        }
        if !wanted && let Some(old) = checker.take() {
            old.abort();
            drop(checker);
            self.ward.unchecked(millis(Instant::now()));
        }
    }

    /// Looks all names up once; returns when to do it again.
    async fn look_up(&self) -> Duration {
        let upstream = Arc::clone(&self.view().upstream);
        let mut again = Duration::from_secs(300);
        for name in dns_names(&upstream) {
            match self.names.lookup(name).await {
                Ok(answer) => {
                    again = again.min(answer.good_for);
                    self.learn(&upstream, name, answer.addresses);
                }
                Err(why) => {
                    warn!(name, %why, "DNS lookup failed; keeping the last good addresses");
                    again = again.min(Duration::from_secs(1));
                }
            }
        }
        for source in sources(&upstream) {
            match source.look(&self.names, &self.files).await {
                Ok(found) => {
                    self.alarm(&source, None);
                    again = again.min(found.as_ref().map_or(Duration::from_secs(1), |found| found.good_for));
                    if let Some(found) = found {
                        self.learn_list(&upstream, source, found.endpoints);
                    }
                }
                Err(why) => {
                    self.alarm(&source, Some(&why.to_string()));
                    again = again.min(Duration::from_secs(1));
                }
            }
        }
        again
    }

    /// One line in the log when a source turns bad, and one when it is good again.
    fn alarm(&self, source: &Source, why: Option<&str>) {
        let mut alarms = lock(&self.alarms);
        let known = alarms.get(source).map(String::as_str);
        match why {
            Some(why) if known != Some(why) => {
                warn!(source = source.name(), why, "endpoints cannot be found; keeping the last good ones");
                alarms.insert(source.clone(), why.to_owned());
            }
            None if known.is_some() => {
                tracing::info!(source = source.name(), "endpoints are found again");
                alarms.remove(source);
            }
            _ => {}
        }
    }

    /// Sources whose last look failed.
    pub(crate) fn alarms(&self) -> usize {
        lock(&self.alarms).len()
    }

    fn learn_list(&self, upstream: &Arc<Upstream>, source: Source, endpoints: Vec<(Address, u32)>) {
        let mut answers = lock(&self.answers);
        let current = Arc::clone(&self.view().upstream);
        if Arc::ptr_eq(&current, upstream) && answers.lists.get(&source) != Some(&endpoints) {
            answers.lists.insert(source, endpoints);
            self.rebuild(upstream, &answers);
        }
    }

    fn learn(&self, upstream: &Arc<Upstream>, name: &str, addresses: Vec<IpAddr>) {
        let mut answers = lock(&self.answers);
        let current = Arc::clone(&self.view().upstream);
        if Arc::ptr_eq(&current, upstream) && answers.names.get(name) != Some(&addresses) {
            answers.names.insert(name.to_owned(), addresses);
            self.rebuild(upstream, &answers);
        }
    }
}

async fn refresh(live: Weak<Live>) {
    loop {
        let Some(strong) = live.upgrade() else { return };
        let again = strong.look_up().await;
        drop(strong);
        tokio::time::sleep(again).await;
    }
}

fn dns_names(upstream: &Upstream) -> impl Iterator<Item = &str> {
    upstream.endpoints.iter().filter_map(|endpoint| match endpoint {
        policy::Endpoint::Dns { name, .. } => Some(name.as_str()),
        policy::Endpoint::Url { .. } | policy::Endpoint::Srv { .. } | policy::Endpoint::File { .. } => None,
    })
}

fn sources(upstream: &Upstream) -> impl Iterator<Item = Source> {
    upstream.endpoints.iter().filter_map(Source::of)
}

impl View {
    fn new(
        upstream: &Arc<Upstream>,
        names: &Arc<Names>,
        answers: &Answers,
        rulings: &Rulings,
        old: Option<&Self>,
    ) -> Self {
        // Connections made under other TLS settings are not ours to use.
        let old = old.filter(|old| old.connector.is_like(upstream));
        let mut known: HashMap<Address, Arc<Endpoint>> = old
            .into_iter()
            .flat_map(|old| &old.members.all)
            .map(|m| (m.endpoint.address.clone(), Arc::clone(&m.endpoint)))
            .collect();
        let mut all: Vec<Member> = Vec::new();
        for (address, weight) in addresses(upstream, answers) {
            let endpoint = known.entry(address.clone()).or_insert_with(|| Endpoint::new(address));
            endpoint.pool.set(upstream);
            match all.iter_mut().find(|m| Arc::ptr_eq(&m.endpoint, endpoint)) {
                Some(twice) => twice.documented = twice.documented.saturating_add(weight),
                None => all.push(Member { endpoint: Arc::clone(endpoint), weight, documented: weight }),
            }
        }
        for member in &mut all {
            member.weight = rulings.weight(&upstream.id, member.endpoint.name(), member.documented);
        }
        Self {
            upstream: Arc::clone(upstream),
            connector: Arc::new(Connector::new(Arc::clone(upstream), Arc::clone(names))),
            members: Members::new(all, upstream.balance),
            unresolved: upstream.endpoints.iter().any(|endpoint| answers.lacks(endpoint)),
        }
    }

    fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.members.all.iter().any(|m| Arc::ptr_eq(&m.endpoint, endpoint))
    }
}

fn addresses(upstream: &Upstream, answers: &Answers) -> Vec<(Address, u32)> {
    let mut all = Vec::new();
    for endpoint in &upstream.endpoints {
        match endpoint {
            policy::Endpoint::Url { https, host, port, weight } => {
                all.push((Address { https: *https, host: host.clone(), port: *port, ip: None }, *weight));
            }
            policy::Endpoint::Dns { https, name, port, weight } => {
                let ips = answers.names.get(name).into_iter().flatten();
                let at = |ip: &IpAddr| Address { https: *https, host: name.clone(), port: *port, ip: Some(*ip) };
                all.extend(ips.map(|ip| (at(ip), *weight)));
            }
            found => {
                let list = Source::of(found).and_then(|source| answers.lists.get(&source));
                all.extend(list.into_iter().flatten().cloned());
            }
        }
    }
    all
}
