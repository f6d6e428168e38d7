//! Keeps the connection: connects, probes, publishes it, and starts over when the breaker opened.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::time::{sleep, timeout};

use super::Remote;
use super::names::Changed;
use crate::memory::Memory;
use std::sync::atomic::Ordering;

const CONNECT: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_secs(5);

pub(super) async fn keep(remote: Weak<Remote>, memory: Weak<Memory>) {
    let mut told = false;
    loop {
        let Some(strong) = remote.upgrade() else { return };
        let probed = probe(&strong, &remote, &memory).await;
        let pause = strong.settings.open_for;
        match probed {
            Ok(()) => {
                tracing::info!("redis answers");
                told = false;
                drop(strong);
                watch(&remote).await;
                if let Some(strong) = remote.upgrade() {
                    strong.breaker.trip();
                    strong.link.store(None);
                }
            }
            Err(why) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%why, "redis does not answer");
                }
                drop(strong);
                sleep(pause).await;
            }
        }
    }
}

/// The one probe of the half-open breaker: a connection, and two answers in time over it.
async fn probe(remote: &Arc<Remote>, weak: &Weak<Remote>, memory: &Weak<Memory>) -> Result<(), String> {
    let pushed = {
        let (weak, memory) = (weak.clone(), memory.clone());
        Arc::new(move |info: PushInfo| heard(&weak, &memory, &info))
    };
    let connecting = remote.target.connect(CONNECT, remote.names.prefix(), pushed);
    let link = timeout(CONNECT * 4, connecting).await.map_err(|_| "no connection in time".to_owned())?;
    let link = link.map_err(|why| why.to_string())?;
    for mut wire in [link.reads.clone(), link.writes.clone()] {
        let ping = redis::cmd("PING");
        // The first answer may be slow: a fork, a cold page. The second counts.
        let _warm = timeout(CONNECT, wire.query(&ping)).await;
        let answer = timeout(remote.settings.deadline, wire.query(&ping)).await;
        answer.map_err(|_| "no answer within the deadline".to_owned())?.map_err(|why| why.to_string())?;
    }
    remote.link.store(Some(Arc::new(link)));
    remote.breaker.close();
    Ok(())
}

/// Until the breaker opens, the connection breaks or the tier is gone.
async fn watch(remote: &Weak<Remote>) {
    loop {
        let Some(strong) = remote.upgrade() else { return };
        let tripped = strong.tripped.notified();
        tokio::select! {
            () = tripped => {
                if strong.breaker.is_open() {
                    return;
                }
            }
            // Looks whether the tier is still wanted.
            () = sleep(LOOK) => {}
        }
        if strong.breaker.is_open() {
            return;
        }
    }
}

/// A hint: what another node wrote is newer than what we hold.
fn heard(remote: &Weak<Remote>, memory: &Weak<Memory>, info: &PushInfo) {
    let (Some(remote), Some(memory)) = (remote.upgrade(), memory.upgrade()) else { return };
    if info.kind == PushKind::Disconnection {
        if remote.breaker.trip() {
            tracing::warn!("the connection to redis broke");
        }
        remote.tripped.notify_one();
        return;
    }
    if info.kind != PushKind::Invalidate {
        return;
    }
    let names = info.data.iter().flat_map(|value| match value {
        Value::Array(names) => names.as_slice(),
        other => std::slice::from_ref(other),
    });
    for name in names {
        let Value::BulkString(name) = name else { continue };
        match remote.names.changed(name) {
            Some(Changed::Key(key)) => memory.remove(&key),
            Some(Changed::Url(url)) => drop(memory.remove_url(url)),
            None => continue,
        }
        remote.counters.invalidations.fetch_add(1, Ordering::Relaxed);
    }
}
