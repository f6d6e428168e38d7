//! Calendar windows on the leader of the quota group: it opens the next one when it begins, and only while a majority of the
//! voters' wall clocks agree with its own. A clock that runs wild alone opens nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_model::{Millis, NodeId};
use tidegate_quota::protocol::Command;

use super::client::command;
use crate::cluster::Inner;
use crate::wire::{Lane, Request};

/// How often is looked for windows that have begun. Their end is waited for to the millisecond.
const LOOK: Duration = Duration::from_millis(200);
/// Clocks agree that are no further apart.
const APART: u64 = 1_000;
/// For a voter to tell its time: an answer that took longer would say too little.
const ASK: Duration = Duration::from_millis(500);
const COMMIT: Duration = Duration::from_secs(2);

pub(crate) async fn turn_forever(cluster: Arc<Inner>) {
    loop {
        let next = cluster.quota.read(|quota| quota.ledger.next_end());
        let until_next = next.map_or(LOOK, |end| Duration::from_millis(end.0.saturating_sub(wall().0).max(1)));
        tokio::time::sleep(until_next.min(LOOK)).await;
        if cluster.quota.leadership().is_none() {
            continue;
        }
        let due = cluster.quota.read(|quota| quota.ledger.due_windows(wall()));
        if due.is_empty() {
            continue;
        }
        if clocks_agree(&cluster).await {
            _ = command(&cluster, Command::OpenWindows(due), COMMIT).await; // If not, it is due the next time.
        } else {
            tracing::warn!(
                "calendar windows stay closed: no majority of the voters' wall clocks agrees within a second"
            );
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What the wall clock of this node says.
pub(crate) fn wall() -> Millis {
    Millis(tidegate_clock::wall().0 / 1_000_000)
}

async fn clocks_agree(cluster: &Arc<Inner>) -> bool {
    let voters: Vec<NodeId> = cluster.quota.replica.membership().voter_ids().map(NodeId).collect();
    let needed = voters.len() / 2 + 1;
    let mut agree = usize::from(voters.contains(&cluster.me()));
    let others = voters.iter().filter(|voter| **voter != cluster.me());
    let mut answers: FuturesUnordered<_> = others.map(|voter| agrees(cluster, *voter)).collect();
    while agree < needed {
        match answers.next().await {
            Some(agreed) => agree += usize::from(agreed),
            None => return false,
        }
    }
    true
}

/// Whenever between question and answer it looked at its clock, it was within a second of ours.
async fn agrees(cluster: &Inner, voter: NodeId) -> bool {
    let asked = wall();
    let told = cluster.peers.call::<Millis>(voter, Lane::Pulse, &Request::WallClock, ASK).await;
    let answered = wall();
    told.is_ok_and(|told| told.0.saturating_add(APART) >= answered.0 && told.0 <= asked.0.saturating_add(APART))
}
