//! The admin port, and telling the world that this node is ready.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tidegate_admin::wire::{self, ReadyReply};
use tidegate_admin::{AppState, backend};
use tidegate_cluster::{Cluster, Progress, Readiness};
use tidegate_proxy::Gate;
use tidegate_tls::tokio_rustls::TlsAcceptor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::args::Settings;
use super::caches::{Caches, CachesOf};
use super::effect::Effect;
use super::handover::Sockets;
use super::listeners::Listeners;
use super::quotas::{Quotas, QuotasOf};
use super::{admin_tls, inputs};

/// The admin port's name among sockets that are passed on: listeners' have two words.
const ADMIN: &str = "admin";

pub(super) struct Admin {
    address: SocketAddr,
    tls: Option<(TlsAcceptor, admin_tls::Terms)>,
    listener: Option<TcpListener>,
}

/// Dropped: the port closes.
pub(super) struct Open(#[expect(dead_code, reason = "its drop is the signal")] oneshot::Sender<()>);

impl Admin {
    /// As the listeners' [`Listeners::bind`].
    pub(super) async fn bind(settings: &Settings, passed: &mut Sockets, kept: &mut Sockets) -> anyhow::Result<Self> {
        let context = || format!("the admin port cannot be bound to {}", settings.admin);
        let listener = match passed.take(ADMIN, settings.admin).pop() {
            Some(listener) => listener,
            None => TcpListener::bind(settings.admin).await.and_then(TcpListener::into_std).with_context(context)?,
        };
        kept.keep(ADMIN, &listener).with_context(context)?;
        let listener = TcpListener::from_std(listener).with_context(context)?;
        let tls = match &settings.admin_tls {
            None => None,
            Some(terms) => Some((terms.acceptor()?, terms.clone())),
        };
        Ok(Self { address: listener.local_addr()?, tls, listener: Some(listener) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers as long as what it gives is kept: that the process lives, and what it waits for.
    pub(super) fn meanwhile(&self, progress: Progress) -> anyhow::Result<Open> {
        let (open, closed) = oneshot::channel();
        let listener = self.listener.as_ref().expect("the admin port is not served yet");
        let listener = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
        let listener = TcpListener::from_std(listener)?;
        let says = move || match progress.now() {
            what if what.is_empty() => "it is starting".to_owned(),
            what => what,
        };
        self.answer(listener, tidegate_admin::starting(Arc::new(says)), closed);
        Ok(Open(open))
    }

    fn answer(&self, listener: TcpListener, router: axum::Router, closed: oneshot::Receiver<()>) {
        let shutdown = async {
            let _closed = closed.await;
        };
        match self.tls.clone() {
            None => drop(tokio::spawn(tidegate_admin::serve(listener, router, shutdown))),
            Some((tls, terms)) => {
                let listener = admin_tls::Listener::new(listener, tls, self.address, terms);
                drop(tokio::spawn(tidegate_admin::serve(listener, router, shutdown)));
            }
        }
    }

    pub(super) fn serve(
        &mut self,
        cluster: &Cluster,
        gate: &Arc<Gate>,
        effect: &Arc<Effect>,
        caches: &Arc<Caches>,
        quotas: &Arc<Quotas>,
    ) -> Open {
        let (open, closed) = oneshot::channel();
        let listener = self.listener.take().expect("the admin port is served once");
        let (telemetry, readiness) = (Arc::clone(&gate.telemetry), (cluster.clone(), Arc::clone(effect)));
        let (shown, compiling) = (effect.shown(), cluster.clone());
        let (breakers, of_models) = (effect.breakers(), effect.breakers());
        let node = backend::cluster::Node {
            compile: Box::new(move |text, revision, instead| inputs::compile(&compiling, text, revision, instead)),
            readiness: Box::new(move || reply(&readiness.0, &readiness.1)),
            endpoints: Box::new(move || {
                let breakers = Arc::clone(&breakers);
                Box::pin(async move { breakers.everywhere().await })
            }),
            deployments: Box::new(move || {
                let breakers = Arc::clone(&of_models);
                Box::pin(async move { breakers.deployments().await })
            }),
            certificates: Box::new(move || shown.of_files()),
            caches: Box::new(CachesOf(Arc::clone(caches))),
            quotas: Box::new(QuotasOf(Arc::clone(quotas))),
            metrics: Box::new(move || telemetry.render()),
        };
        let backend = backend::cluster::OverCluster::new(cluster.clone(), node);
        let router = tidegate_admin::router(AppState::new(Arc::new(backend)));
        self.answer(listener, router, closed);
        Open(open)
    }
}

/// What `/readyz` says.
fn reply(cluster: &Cluster, effect: &Effect) -> ReadyReply {
    let mut reasons = Vec::new();
    let mut status = match cluster.readiness() {
        Readiness::Ready => wire::Readiness::Ready,
        Readiness::Degraded(why) => {
            reasons.push(why);
            wire::Readiness::Degraded
        }
        Readiness::NotYet(why) => {
            reasons.push(why);
            wire::Readiness::Starting
        }
    };
    if let Some(alarm) = effect.alarm() {
        reasons.push(format!("revision {} is not served here: {alarm}", effect.published()));
        if status == wire::Readiness::Ready {
            status = wire::Readiness::Degraded;
        }
    }
    for (why, grave) in effect.issuers_trouble() {
        reasons.push(why);
        if grave && status == wire::Readiness::Ready {
            status = wire::Readiness::Degraded;
        }
    }
    if !effect.is_serving() {
        reasons.push("the listeners are not open".into());
        status = wire::Readiness::Starting;
    }
    if effect.is_draining() {
        reasons.push("the node is told to end".into());
        status = wire::Readiness::Draining;
    }
    ReadyReply { status, reasons }
}

/// Waits until the node may serve: caught up, or nobody there to catch up with.
pub(super) async fn wait(cluster: &Cluster, effect: &Effect) -> anyhow::Result<()> {
    let mut said = Instant::now();
    loop {
        match cluster.readiness() {
            Readiness::Ready => break,
            Readiness::Degraded(why) => {
                tracing::warn!(%why, "serving degraded");
                break;
            }
            Readiness::NotYet(why) => {
                if let Some(removed) = cluster.removed().borrow().clone() {
                    anyhow::bail!(
                        "this node was removed from its cluster ({removed}): join anew with an empty data folder"
                    );
                }
                if said.elapsed() > Duration::from_secs(2) {
                    tracing::info!(%why, "not ready yet");
                    said = Instant::now();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    effect.catch_up().await;
    Ok(())
}

/// Once, when a cluster is formed: nobody could use its admin port otherwise.
pub(super) fn show_first_token(data: &Path) {
    let path = data.join("admin.token");
    if let Ok(token) = std::fs::read_to_string(&path) {
        crate::say(&format!("admin token: {}\n(also in {}; it is not shown again)", token.trim(), path.display()));
    }
}

/// Logs where the node is reached, and writes it to the ready file.
pub(super) fn tell(settings: &Settings, cluster: &Cluster, listeners: &Listeners, admin: &Admin) -> anyhow::Result<()> {
    let text = |address: Option<SocketAddr>| address.map(|it| it.to_string()).unwrap_or_default();
    let (http, https) = (text(listeners.address("http")), text(listeners.address("https")));
    let (id, admin, peer) = (cluster.node().0, admin.address(), &cluster.addresses().peer);
    tracing::info!(node = id, cluster = %cluster.id(), %http, %https, %admin, %peer, "ready");
    crate::process::notify_ready();
    crate::process::notify_status(&format!("node {id} of cluster {}", cluster.id()));
    let Some(path) = &settings.ready_file else { return Ok(()) };
    let facts = json!({
        "id": id,
        "http": http,
        "https": https,
        "admin": admin.to_string(),
        "peer": peer,
        "pid": std::process::id(),
    });
    // Whole or not at all: somebody polls for it.
    let part = path.with_extension("part");
    std::fs::write(&part, facts.to_string())
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("writing {}", path.display()))
}
