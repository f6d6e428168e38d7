//! Who votes: a voter that falls silent is replaced, so that a second failure finds the quorum whole.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

/// The promise: `GONE_MS` of the cluster crate.
const SILENCE: Duration = Duration::from_secs(10);
/// A lease is renewed each half second, so that much of the silence may have passed before the kill.
const RENEWAL: Duration = Duration::from_millis(500);
/// An election, a newcomer's log, the change of members in both groups; on a machine that has other things to do.
const SLACK: Duration = Duration::from_secs(10);

/// Ids of those who vote, as a running node sees it; nobody while that is being changed.
pub(crate) async fn voters(cluster: &Cluster) -> Vec<u64> {
    let Ok(status) = cluster.cli(&["cluster", "status"]).await else { return Vec::new() };
    if status["settled"] != true {
        return Vec::new();
    }
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().filter(|node| node["role"] == "voter").filter_map(|node| node["id"].as_u64()).collect()
}

#[tokio::test]
async fn a_voter_that_is_silent_for_ten_seconds_is_replaced_so_that_a_second_may_fail() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(4).await);
    cluster.apply(&document(&backend, 10, "60s")).await;
    eventually("three vote", SLACK, async || voters(&cluster).await == [1, 2, 3]).await;

    // The leader, since then the one who counts the seconds is not the one who heard the last word.
    let first = cluster.leader("control").await;
    let dead = cluster.nodes[first].id();
    cluster.nodes[first].kill().await;
    let killed = Instant::now();
    let whole: Vec<u64> = (1..=4).filter(|id| *id != dead).collect();
    eventually("the fourth votes in its place", SILENCE + SLACK, async || voters(&cluster).await == whole).await;
    let waited = killed.elapsed();
    assert!(SILENCE - RENEWAL <= waited, "after {waited:?}: a restart takes longer, and is no reason to replace it");

    // Two of the first three voters are gone: what commits now does so by the fourth's vote, in both groups.
    let second = (0..3).find(|at| *at != first).unwrap();
    cluster.nodes[second].kill().await;
    cluster.apply(&document(&backend, 20, "60s").replace("/open/", "/second/")).await;
    cluster.key("acme").await;
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        let answer = cluster.client.get(&node.url("/second/x"), &[]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", node.name);
    }
}
