//! Keys of TLS session tickets, renewed by the control leader: one for the whole cluster, whatever node a client comes to.

use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::Cluster;
use tidegate_policy::defaults::TICKET_ROTATION;
use tidegate_proxy::Gate;
use tidegate_tls::{TICKET_KEY_LEN, Tickets};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// While the cluster has not all of its keys: it has just been formed.
const FIRST: Duration = Duration::from_millis(100);

pub(super) async fn rotate_forever(cluster: Cluster, gate: Arc<Gate>) {
    loop {
        let after = gate.snapshot.load().ticket_rotation.unwrap_or(TICKET_ROTATION);
        let mut pause = if cluster.newest_ticket_key().is_none() { FIRST } else { LOOK };
        if cluster.leads_control() && cluster.ticket_keys_are_due(after) {
            match cluster.rotate_ticket_keys().await {
                Ok(_) => pause = FIRST, // Maybe there is none that comes next yet.
                Err(why) => {
                    tracing::debug!(%why, "the keys of session tickets are not renewed");
                    pause = LOOK;
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// What the cluster agreed on is what this node's listeners use.
pub(super) fn follow(cluster: &Cluster, tickets: &Tickets) {
    match cluster.ticket_keys() {
        Ok((keys, current)) => {
            let keys: Vec<[u8; TICKET_KEY_LEN]> = keys;
            tickets.replace(&keys, current);
        }
        Err(why) => {
            tracing::error!(%why, "keys of session tickets cannot be opened: sessions of other nodes begin anew here")
        }
    }
}
