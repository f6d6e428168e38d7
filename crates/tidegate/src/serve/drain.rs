//! Signals, and how a node ends: first the load balancer notices, then requests finish, then leases go back, then the
//! cluster lets go.

use std::time::Duration;

use tidegate_cluster::Cluster;
use tidegate_proxy::Gate;
use tokio::signal::unix::{SignalKind, signal};

use super::Node;
use super::effect::Effect;

/// Of a node that does not serve yet.
pub(super) async fn asked_to_end() -> anyhow::Result<&'static str> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

/// Returns why the node should end. SIGUSR1 reopens logs; SIGHUP reads anew what the document names on this machine:
/// certificates and secrets.
pub(super) async fn wait_for_signal(cluster: &Cluster, gate: &Gate, effect: &Effect) -> anyhow::Result<String> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut reload = signal(SignalKind::hangup())?;
    let mut removed = cluster.removed();
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok("SIGTERM".into()),
            _ = interrupt.recv() => return Ok("SIGINT".into()),
            _ = reopen.recv() => {
                tracing::info!("reopening logs");
                gate.telemetry.reopen();
            }
            _ = reload.recv() => {
                tracing::info!("reading the document's files and secrets anew");
                effect.reload();
            }
            Ok(()) = removed.changed() => {
                if let Some(why) = removed.borrow_and_update().clone() {
                    return Ok(format!("removed from the cluster: {why}"));
                }
            }
        }
    }
}

pub(super) async fn drain(node: &Node) {
    let settings = &node.settings;
    node.effect.begin_drain(); // `/readyz` says so, and answers ask clients to connect elsewhere.
    node.drain.announce();
    // The load balancer still sends until it has looked.
    tokio::time::sleep(settings.drain_wait).await;
    // Leadership first: whoever takes over has it before the first lease comes back.
    node.cluster.step_down().await;
    if !node.drain.finish(settings.drain_timeout).await {
        tracing::warn!(after = ?settings.drain_timeout, "requests were still running and have been cut");
    }
    node.limiter.hand_back(Duration::from_secs(2)).await;
    node.usage.tell_last().await;
    node.collector.flush(Duration::from_secs(2)).await;
    node.gate.telemetry.flush();
    if settings.leave
        && let Err(why) = node.cluster.leave().await
    {
        tracing::warn!(%why, "could not leave the cluster: remove this node with `tidegate cluster remove`");
    }
    node.cluster.shutdown().await;
}
