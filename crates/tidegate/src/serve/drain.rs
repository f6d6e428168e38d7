//! Signals, and how a node ends: first the load balancer notices, then requests finish, then leases go back, then the
//! cluster lets go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tidegate_cluster::Cluster;
use tidegate_proxy::Gate;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Node;
use super::effect::Effect;
use super::handover::Upgrade;

/// What the process is told by signals, from its start on: none is lost between two who wait for one.
pub(super) struct Signals {
    end: End,
    reopen: Signal,
    reload: Signal,
    replace: Signal,
    upgrade: Upgrade,
}

struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    async fn heard(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

impl Signals {
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            end: End { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? },
            reopen: signal(SignalKind::user_defined1())?,
            reload: signal(SignalKind::hangup())?,
            replace: signal(SignalKind::user_defined2())?,
            upgrade: Upgrade::new(),
        })
    }

    /// Returns by which signal the process is asked to end.
    pub(super) async fn end(&mut self) -> &'static str {
        self.end.heard().await
    }

    /// Was it asked to end until now?
    pub(super) fn ended(&mut self) -> Option<&'static str> {
        self.end().now_or_never()
    }
}

/// Returns why the node should end. SIGUSR1 reopens logs; SIGHUP reads anew what the document names on this machine:
/// certificates and secrets; SIGUSR2 starts the program that is to take over.
pub(super) async fn wait_for_signal(cluster: &Cluster, gate: &Gate, effect: &Effect, signals: &mut Signals) -> String {
    let mut removed = cluster.removed();
    loop {
        tokio::select! {
            why = signals.end.heard() => return why.into(),
            _ = signals.reopen.recv() => {
                tracing::info!("reopening logs");
                gate.telemetry.reopen();
            }
            _ = signals.reload.recv() => {
                tracing::info!("reading the document's files and secrets anew");
                effect.reload();
            }
            _ = signals.replace.recv() => signals.upgrade.start(),
            Ok(()) = removed.changed() => {
                if let Some(why) = removed.borrow_and_update().clone() {
                    return format!("removed from the cluster: {why}");
                }
            }
        }
    }
}

pub(super) async fn drain(node: &mut Node) {
    node.effect.begin_drain(); // `/readyz` says so, and answers ask clients to connect elsewhere.
    node.drain.announce();
    // The load balancer still sends until it has looked.
    tokio::time::sleep(node.settings.drain_wait).await;
    // Leadership first: whoever takes over has it before the first lease comes back.
    node.cluster.step_down().await;
    node.kept = Arc::default(); // Or the kernel would take connections that nobody accepts.
    finish(node).await;
    if node.settings.leave
        && let Err(why) = node.cluster.leave().await
    {
        tracing::warn!(%why, "could not leave the cluster: remove this node with `tidegate cluster remove`");
    }
    node.cluster.shutdown().await;
}

/// What is open, here and in processes before this one, and then what is held and was counted. `false`: something was cut.
pub(super) async fn finish(node: &mut Node) -> bool {
    let after = node.settings.drain_timeout;
    let earlier = node.earlier.take();
    let theirs = async {
        if let Some(earlier) = earlier
            && tokio::time::timeout(after, earlier).await.is_err()
        {
            tracing::warn!(?after, "a process that was here before has not finished, and loses its way to the cluster");
        }
    };
    let (all, ()) = tokio::join!(node.drain.finish(after), theirs);
    if !all {
        tracing::warn!(?after, "requests were still running and have been cut");
    }
    node.limiter.hand_back(Duration::from_secs(2)).await;
    node.usage.tell_last().await;
    node.collector.flush(Duration::from_secs(2)).await;
    node.gate.telemetry.flush();
    all
}
