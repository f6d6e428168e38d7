//! Calendar windows on the leader of the quota group: it opens the next one when it begins, and only while a majority of the
//! voters' wall clocks agree. A clock that runs wild alone opens nothing; if it is the leader's own, it goes by the others'.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tidegate_model::{Millis, NodeId};
use tidegate_quota::calendar::{Ahead, agreed, ahead_of_majority};
use tidegate_quota::protocol::Command;
use tokio::time::Instant;

use super::client::command;
use crate::cluster::Inner;
use crate::wire::{Lane, Request};

/// How often is looked for windows that have begun. Their end is waited for to the millisecond.
const LOOK: Duration = Duration::from_millis(200);
/// For a voter to tell its time: an answer that took longer would say too little.
const ASK: Duration = Duration::from_millis(500);
const COMMIT: Duration = Duration::from_secs(2);

/// For how long what the voters' clocks said of this node's is believed, while no window is due.
const BELIEVED: Duration = Duration::from_secs(5);

pub(crate) async fn turn_forever(cluster: Arc<Inner>) {
    // By how much this node's wall clock is wrong, and when that was found out.
    let mut known: Option<(i64, Instant)> = None;
    loop {
        let asked = wall();
        let now = agreed(asked, asked, known.map_or(0, |(wrong, _)| wrong));
        let next = cluster.quota.read(|quota| quota.ledger.next_end());
        let until_next = next.map_or(LOOK, |end| Duration::from_millis(end.0.saturating_sub(now.0).max(1)));
        tokio::time::sleep(until_next.min(LOOK)).await;
        if cluster.quota.leadership().is_none() {
            known = None;
            continue;
        }
        let has_windows = next.is_some() || !cluster.quota.read(|quota| quota.ledger.due_windows(wall())).is_empty();
        let asked = wall();
        let due = |wrong| cluster.quota.read(|quota| quota.ledger.due_windows(agreed(asked, wall(), wrong)));
        let believed = known.is_some_and(|(wrong, at)| at.elapsed() < BELIEVED && due(wrong).is_empty());
        if !has_windows || believed {
            continue;
        }
        known = clocks_agree(&cluster).await.map(|wrong| (wrong, Instant::now()));
        let Some((wrong, _)) = known else {
            tracing::warn!(
                "calendar windows stay closed: no majority of the voters' wall clocks agrees within a second"
            );
            tokio::time::sleep(LOOK).await;
            continue;
        };
        if wrong != 0 {
            tracing::warn!(
                milliseconds = wrong,
                "this node's wall clock is wrong: calendar windows open by the others'"
            );
        }
        let due = due(wrong);
        if !due.is_empty() {
            _ = command(&cluster, Command::OpenWindows(due), COMMIT).await; // If not, it is due the next time.
        }
    }
}

/// What the wall clock of this node says.
pub(crate) fn wall() -> Millis {
    Millis(tidegate_clock::wall().0 / 1_000_000)
}

/// See [`ahead_of_majority`].
async fn clocks_agree(cluster: &Arc<Inner>) -> Option<i64> {
    let voters: Vec<NodeId> = cluster.quota.replica.membership().voter_ids().map(NodeId).collect();
    let others = voters.iter().filter(|voter| **voter != cluster.me());
    let mut answers: FuturesUnordered<_> = others.map(|voter| ahead_of(cluster, *voter)).collect();
    let mut ahead: Vec<Ahead> = voters.contains(&cluster.me()).then_some(Ahead::NOT).into_iter().collect();
    while let Some(answer) = answers.next().await {
        ahead.extend(answer);
        // The usual case does not wait for whoever is slow, or gone.
        if let Some(0) = ahead_of_majority(&ahead, voters.len()) {
            return Some(0);
        }
    }
    ahead_of_majority(&ahead, voters.len())
}

/// How far this node's clock is ahead of a voter's.
async fn ahead_of(cluster: &Inner, voter: NodeId) -> Option<Ahead> {
    let asked = wall();
    let told = cluster.peers.call::<Millis>(voter, Lane::Pulse, &Request::WallClock, ASK).await.ok()?;
    Some(Ahead::of(told, asked, wall()))
}
