//! The sockets of the data plane and the threads that serve them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tidegate_proxy::{Count, Drain, Gate, Http3, Listener};
use tidegate_tls::Certificates;
use tokio::sync::watch;

use super::args::{Layout, Listen, Settings};
use super::handover::Sockets;
use crate::allocator;

pub(super) struct Listeners {
    bound: Vec<Bound>,
    certificates: Arc<Certificates>,
    threads: Vec<JoinHandle<()>>,
    /// Does the document want HTTP/3?
    http3: watch::Sender<bool>,
}

struct Bound {
    listen: Listen,
    address: SocketAddr,
    connections: Count,
    /// Before they are served.
    sockets: Vec<TcpListener>,
    /// They are of another process, which listens on them.
    passed: bool,
}

impl Listeners {
    /// `passed`: what another process listened on. `kept`: what this one could pass on in its turn.
    pub(super) fn bind(settings: &Settings, passed: &mut Sockets, kept: &mut Sockets) -> anyhow::Result<Self> {
        let mut bound: Vec<Bound> = Vec::new();
        for listen in &settings.listeners {
            let context = || format!("listener {} cannot be bound to {}", listen.name, listen.address);
            let name = format!("listener {}", listen.name);
            let mut sockets = passed.take(&name, listen.address);
            let passed = !sockets.is_empty();
            if !passed {
                sockets = bind(settings, listen.address).with_context(context)?;
            }
            for socket in &sockets {
                kept.keep(&name, socket).with_context(context)?;
            }
            let address = sockets[0].local_addr()?;
            // The kernel would say so only when both listen.
            if let Some(twin) = bound.iter().find(|other| other.address == address) {
                anyhow::bail!("listeners {} and {} have the same address, {address}", twin.listen.name, listen.name);
            }
            bound.push(Bound { listen: listen.clone(), address, connections: Count::default(), sockets, passed });
        }
        Ok(Self { bound, certificates: Certificates::new(), threads: Vec::new(), http3: watch::Sender::new(false) })
    }

    pub(super) fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates)
    }

    /// To be told whether HTTP/3 is wanted.
    pub(super) fn http3(&self) -> watch::Sender<bool> {
        self.http3.clone()
    }

    /// Where the listener of this name is reached.
    pub(super) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.bound.iter().find(|bound| bound.listen.name == name).map(|bound| bound.address)
    }

    pub(super) fn first_address(&self) -> String {
        let clear = self.bound.iter().find(|bound| !bound.listen.tls);
        clear.or(self.bound.first()).map(|bound| bound.address.to_string()).unwrap_or_default()
    }

    /// Starts the worker threads. Each serves all listeners, on its own runtime or on a shared one.
    pub(super) fn serve(&mut self, settings: &Settings, gate: &Arc<Gate>, drain: &Drain) -> anyhow::Result<()> {
        let workers = if settings.runtime == Layout::PerCore { settings.workers } else { 1 };
        let mut shares: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
        let mut beside = Vec::new();
        for bound in &mut self.bound {
            let Listen { name, address, .. } = &bound.listen;
            listen(bound).with_context(|| format!("listener {name} cannot listen on {address}"))?;
            let spoken = Http3::default();
            if bound.listen.tls {
                beside.extend(self::beside(bound, &self.certificates, &spoken, &self.http3));
            }
            for (number, socket) in spread(std::mem::take(&mut bound.sockets), workers)?.into_iter().enumerate() {
                shares[number % workers].push(Listener {
                    name: bound.listen.name.as_str().into(),
                    socket,
                    tls: bound.listen.tls.then(|| Arc::clone(&self.certificates)),
                    connections: bound.connections.clone(),
                    http3: spoken.clone(),
                });
            }
        }
        for (worker, listeners) in shares.into_iter().enumerate() {
            let runtime = match settings.runtime {
                Layout::PerCore => tokio::runtime::Builder::new_current_thread().enable_all().build(),
                Layout::Shared => tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(settings.workers)
                    .thread_name("data")
                    .on_thread_park(allocator::give_back_now_and_then)
                    .enable_all()
                    .build(),
            };
            let runtime = runtime.context("starting a worker")?;
            let (gate, draining) = (Arc::clone(gate), drain.listen());
            let own_thread = settings.runtime == Layout::PerCore;
            // On the first worker's runtime, or the one that all share.
            let beside = std::mem::take(&mut beside);
            let thread = std::thread::Builder::new().name(format!("data-{worker}")).spawn(move || {
                runtime.block_on(async {
                    if own_thread {
                        tokio::spawn(give_back_forever());
                    }
                    let mut serving = tokio::task::JoinSet::new();
                    for listener in listeners {
                        serving.spawn(tidegate_proxy::serve(listener, Arc::clone(&gate), draining.clone()));
                    }
                    for listener in beside {
                        serving.spawn(serve_http3(listener, Arc::clone(&gate), draining.clone()));
                    }
                    while let Some(served) = serving.join_next().await {
                        if let Ok(Err(error)) = served {
                            tracing::error!(%error, "a listener ended");
                        }
                    }
                });
            });
            self.threads.push(thread.context("starting a worker")?);
        }
        Ok(())
    }
}

/// One socket per worker when each has its own.
fn bind(settings: &Settings, address: SocketAddr) -> anyhow::Result<Vec<TcpListener>> {
    let share = settings.runtime == Layout::PerCore && settings.workers > 1;
    if share {
        // Workers share their port; another process, or another listener of this one, must not share it too.
        drop(tidegate_proxy::bind(address, false)?);
    }
    let mut sockets = vec![tidegate_proxy::bind(address, share)?];
    let address = sockets[0].local_addr()?;
    for _ in 1..if share { settings.workers } else { 1 } {
        sockets.push(tidegate_proxy::bind(address, share)?);
    }
    Ok(sockets)
}

/// Only a node that serves listens: before that a load balancer is refused at once, instead of waiting for an answer.
fn listen(bound: &Bound) -> anyhow::Result<()> {
    if 1 < bound.sockets.len() && !bound.passed {
        // Who shares a port is not refused by others that share it; one who does not share it is.
        drop(tidegate_proxy::bind(bound.address, false)?);
    }
    bound.sockets.iter().try_for_each(tidegate_proxy::listen)?;
    Ok(())
}

/// Every socket is accepted from, and every worker accepts: a process may have other numbers of them than the one before.
fn spread(mut sockets: Vec<TcpListener>, workers: usize) -> std::io::Result<Vec<TcpListener>> {
    for number in sockets.len()..workers {
        sockets.push(sockets[number % sockets.len()].try_clone()?);
    }
    Ok(sockets)
}

/// On a runtime of one thread: a task costs its requests nothing, a look at the clock each time it rests would.
async fn give_back_forever() {
    loop {
        tokio::time::sleep(allocator::GIVE_BACK_EVERY).await;
        allocator::give_back();
    }
}

/// HTTP/3 on the UDP port of the same number.
#[cfg(feature = "h3")]
fn beside(
    bound: &Bound,
    certificates: &Arc<Certificates>,
    spoken: &Http3,
    wanted: &watch::Sender<bool>,
) -> Option<tidegate_proxy::Http3Listener> {
    Some(tidegate_proxy::Http3Listener {
        name: bound.listen.name.as_str().into(),
        address: bound.address,
        certificates: Arc::clone(certificates),
        connections: bound.connections.clone(),
        spoken: spoken.clone(),
        wanted: wanted.subscribe(),
    })
}

#[cfg(feature = "h3")]
use tidegate_proxy::serve_http3;

/// This program was built without it.
#[cfg(not(feature = "h3"))]
fn beside(_: &Bound, _: &Arc<Certificates>, _: &Http3, _: &watch::Sender<bool>) -> Option<std::convert::Infallible> {
    None
}

#[cfg(not(feature = "h3"))]
async fn serve_http3(
    never: std::convert::Infallible,
    _: Arc<Gate>,
    _: tidegate_proxy::Draining,
) -> std::io::Result<()> {
    match never {}
}
