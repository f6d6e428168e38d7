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
use tracing::warn;

use crate::balance::{Member, Members};
use crate::budget::Budget;
use crate::connect::Connector;
use crate::endpoint::{Address, Endpoint};
use crate::lock;
use crate::names::Names;

#[derive(Debug)]
pub(crate) struct Live {
    view: ArcSwap<View>,
    pub(crate) budget: Budget,
    pub(crate) retries: AtomicU64,
    names: Arc<Names>,
    /// The last good answer per DNS name of the document. Held while a view is built: one at a time.
    answers: Mutex<HashMap<String, Vec<IpAddr>>>,
    pub(crate) resolved: Notify,
    watcher: Mutex<Option<JoinHandle<()>>>,
    /// `retain` named it: calls with another document do not change it.
    retained: AtomicBool,
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
    pub(crate) fn new(upstream: &Arc<Upstream>, names: &Arc<Names>) -> Arc<Self> {
        let answers = HashMap::new();
        let view = View::new(upstream, names, &answers, None);
        let live = Arc::new(Self {
            view: ArcSwap::from_pointee(view),
            budget: Budget::default(),
            retries: AtomicU64::new(0),
            names: Arc::clone(names),
            answers: Mutex::new(answers),
            resolved: Notify::new(),
            watcher: Mutex::new(None),
            retained: AtomicBool::new(false),
        });
        live.watch();
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
        answers.retain(|name, _| dns_names(upstream).any(|n| n == name));
        self.rebuild(upstream, &answers);
        drop(answers);
        // Its names may be others now.
        if let Some(old) = lock(&self.watcher).take() {
            old.abort();
        }
        self.watch();
    }

    fn rebuild(&self, upstream: &Arc<Upstream>, answers: &HashMap<String, Vec<IpAddr>>) {
        let old = self.view.load_full();
        let new = Arc::new(View::new(upstream, &self.names, answers, Some(&old)));
        self.view.store(Arc::clone(&new));
        for gone in old.members.all.iter().filter(|m| !new.has(&m.endpoint)) {
            gone.endpoint.pool.retire();
        }
        self.resolved.notify_waiters();
    }

    pub(crate) fn retire(&self) {
        if let Some(watcher) = lock(&self.watcher).take() {
            watcher.abort();
        }
        for member in &self.view().members.all {
            member.endpoint.pool.retire();
        }
    }

    /// Keeps the addresses of names fresh, in the background, if there are names and a runtime to do it on.
    pub(crate) fn watch(self: &Arc<Self>) {
        if dns_names(&self.view().upstream).next().is_none() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let mut watcher = lock(&self.watcher);
        if watcher.as_ref().is_none_or(JoinHandle::is_finished) {
            *watcher = Some(tokio::spawn(refresh(Arc::downgrade(self))));
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
        again
    }

    fn learn(&self, upstream: &Arc<Upstream>, name: &str, addresses: Vec<IpAddr>) {
        let mut answers = lock(&self.answers);
        let current = Arc::clone(&self.view().upstream);
        if Arc::ptr_eq(&current, upstream) && answers.get(name) != Some(&addresses) {
            answers.insert(name.to_owned(), addresses);
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
        policy::Endpoint::Url { .. } => None,
    })
}

impl View {
    fn new(
        upstream: &Arc<Upstream>,
        names: &Arc<Names>,
        answers: &HashMap<String, Vec<IpAddr>>,
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
                Some(twice) => twice.weight = twice.weight.saturating_add(weight),
                None => all.push(Member { endpoint: Arc::clone(endpoint), weight }),
            }
        }
        Self {
            upstream: Arc::clone(upstream),
            connector: Arc::new(Connector::new(Arc::clone(upstream), Arc::clone(names))),
            members: Members::new(all, upstream.balance),
            unresolved: dns_names(upstream).any(|name| !answers.contains_key(name)),
        }
    }

    fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.members.all.iter().any(|m| Arc::ptr_eq(&m.endpoint, endpoint))
    }
}

fn addresses(upstream: &Upstream, answers: &HashMap<String, Vec<IpAddr>>) -> Vec<(Address, u32)> {
    let mut all = Vec::new();
    for endpoint in &upstream.endpoints {
        match endpoint {
            policy::Endpoint::Url { https, host, port, weight } => {
                all.push((Address { https: *https, host: host.clone(), port: *port, ip: None }, *weight));
            }
            policy::Endpoint::Dns { https, name, port, weight } => {
                let ips = answers.get(name).into_iter().flatten();
                let at = |ip: &IpAddr| Address { https: *https, host: name.clone(), port: *port, ip: Some(*ip) };
                all.extend(ips.map(|ip| (at(ip), *weight)));
            }
        }
    }
    all
}
