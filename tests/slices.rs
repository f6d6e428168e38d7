//! Limits too small to be sliced: an owner holds each of them, and the other nodes ask it.

use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Backend, Client, Cluster};
use crate::walk::document;

/// Twice 20 permits a second, round robin over so many nodes; the share of the limit that was admitted.
async fn used_of_twenty_a_second(nodes: usize) -> f64 {
    const RUNS: u64 = 10;
    let (backend, cluster) = (Backend::start().await, Cluster::start(nodes).await);
    cluster.apply(&document(&backend, 20, "1s")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    // Nodes learn who is alive every two seconds.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let (client, mut requests, mut admitted) = (Client::new(), JoinSet::new(), 0);
    let mut at = Instant::now();
    for nth in 0..RUNS * 40 {
        at += Duration::from_millis(25);
        tokio::time::sleep_until(at).await;
        let (client, key) = (client.clone(), key.clone());
        let url = cluster.nodes[nth as usize % nodes].url("/limited/x");
        requests.spawn(async move { client.get(&url, &[("authorization", &key)]).await.map(|answer| answer.status) });
    }
    for status in requests.join_all().await {
        match status.unwrap() {
            StatusCode::OK => admitted += 1,
            StatusCode::TOO_MANY_REQUESTS => {}
            other => panic!("{other} is neither yes nor no"),
        }
    }
    let verdict = cluster.verify(&backend.seen()).await;
    let share = f64::from(admitted) / (20 * RUNS) as f64;
    println!("{nodes} nodes: {admitted} of {} that 20 a second allow, {share:.3}; {verdict}", 20 * RUNS);
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    share
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_a_limit_of_twenty_a_second_over_three_nodes_uses_it_and_never_exceeds_it() {
    let share = used_of_twenty_a_second(3).await;
    assert!(share >= 0.85, "only {share:.3} of the limit was admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_a_limit_of_twenty_a_second_over_five_nodes_uses_it_and_never_exceeds_it() {
    let share = used_of_twenty_a_second(5).await;
    assert!(share >= 0.85, "only {share:.3} of the limit was admitted");
}
