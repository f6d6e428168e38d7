//! A node keeps its node lease, and learns from the answers how far the cluster is.

use std::sync::Arc;
use std::time::Duration;

use tidegate_model::{Nanos, NodeId};

use super::CALL;
use crate::cluster::Inner;
use crate::propose;
use crate::transport::peers::CallError;
use crate::wire::{Lane, Renewed, Request};

/// Longer than any election.
const LOST: Nanos = Nanos::from_secs(60);
/// A lease is renewed this often; it lives four times as long.
const RENEW: Duration = Duration::from_millis(500);

/// Renews this node's lease, every half second and whenever there is something to tell.
pub(crate) async fn renew_forever(cluster: Arc<Inner>) {
    let mut applied = cluster.control.replica.applied();
    let mut hint = None;
    loop {
        applied.mark_unchanged();
        let pause = match renew(&cluster, &mut hint).await {
            true => RENEW,
            false => Duration::from_millis(50),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cluster.renew_now.notified() => {}
            _ = applied.changed() => {}
        }
        cluster.waiting.applied(*applied.borrow());
    }
}

async fn renew(cluster: &Inner, hint: &mut Option<NodeId>) -> bool {
    // It applies nothing new: nobody should wait for it, and it should know that it is behind.
    if cluster.control.is_full() {
        return true;
    }
    let Some(leader) = propose::find(cluster, hint.take()).await else {
        give_way(cluster);
        return false;
    };
    let renewal = cluster.renewal();
    let sent = tidegate_clock::boot();
    let renewed = if leader == cluster.me() {
        Ok(cluster.renew(leader, renewal).await)
    } else {
        cluster.peers.call(leader, Lane::Pulse, &Request::Renew(renewal), CALL).await
    };
    match renewed {
        Ok(Renewed::Kept { committed, voters }) => {
            cluster.held.kept(sent, committed);
            cluster.waiting.heard(committed);
            *cluster.voters.lock().expect("no panic while locked") = voters;
            true
        }
        Ok(Renewed::NotLeader(other)) => {
            *hint = other.filter(|other| *other != leader);
            give_way(cluster); // Who led last believes that it still does.
            false
        }
        Err(CallError::Removed(why)) => {
            cluster.was_removed(why);
            false
        }
        Err(_) => {
            give_way(cluster);
            false
        }
    }
}

/// Without a lease, and with another cluster where the members of this one were: what this node belonged to is no more. While
/// it holds its lease, or did a moment ago, its own cluster lives, whoever says otherwise.
fn give_way(cluster: &Inner) {
    if !cluster.held.is_missing_for(LOST) {
        return;
    }
    if let Some(reason) = cluster.peers.successor() {
        cluster.was_removed(reason);
    }
}

impl Inner {
    /// A member says that this node was removed. It is for good.
    pub(crate) fn was_removed(&self, why: String) {
        self.removed.send_if_modified(|removed| {
            let news = removed.is_none();
            if news {
                tracing::warn!(reason = %why, "this node was removed from the cluster");
                *removed = Some(why);
            }
            news
        });
    }
}
