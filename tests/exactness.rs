//! One limit over three nodes while everything goes wrong: judged from decisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::harness::{Backend, Client, Cluster, eventually};
use crate::walk::document;

/// What became of the requests of one node.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) admitted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) unavailable: AtomicU64,
    pub(crate) broken: AtomicU64,
}

/// Open-loop demand on one node: `per_second`, however the answers come.
pub(crate) fn demand(
    url: String,
    key: String,
    per_second: f64,
    ends: Instant,
) -> (Arc<Tally>, tokio::task::JoinHandle<()>) {
    let tally = Arc::new(Tally::default());
    let counted = Arc::clone(&tally);
    let task = tokio::spawn(async move {
        let client = Client::new();
        let mut requests = tokio::task::JoinSet::new();
        let mut at = Instant::now();
        while at < ends {
            at += Duration::from_secs_f64(1.0 / per_second);
            tokio::time::sleep_until(at).await;
            if requests.len() >= 200 {
                requests.join_next().await; // A stopped node must not fill this process.
            }
            let (client, url, key, tally) = (client.clone(), url.clone(), key.clone(), Arc::clone(&counted));
            requests.spawn(async move {
                let counter = match client.get(&url, &[("authorization", &key)]).await.map(|answer| answer.status) {
                    Ok(StatusCode::OK) => &tally.admitted,
                    Ok(StatusCode::TOO_MANY_REQUESTS) => &tally.refused,
                    Ok(StatusCode::SERVICE_UNAVAILABLE) => &tally.unavailable,
                    Ok(_) | Err(_) => &tally.broken,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            });
            while requests.try_join_next().is_some() {}
        }
        while tokio::time::timeout(Duration::from_secs(10), requests.join_next()).await.is_ok_and(|one| one.is_some()) {
        }
    });
    (tally, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_is_exceeded_while_the_leader_dies_a_node_stops_and_another_is_cut_off() {
    const MAX: u64 = 400;
    const WINDOW: u64 = 4;
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, MAX, &format!("{WINDOW}s"))).await;
    let key = cluster.bearer("acme", "/limited/x").await;

    // Twice the limit, 80/15/5 over the nodes; the leader gets the middle part, so that the busiest node lives on.
    let leader = cluster.leader("quota").await;
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    let (busy, calm) = (others[0], others[1]);
    let rate = 2.0 * MAX as f64 / WINDOW as f64;
    let (started, runs) = (Instant::now(), Duration::from_secs(30));
    let loads: Vec<_> = [(busy, 0.80), (leader, 0.15), (calm, 0.05)]
        .into_iter()
        .map(|(node, part)| demand(cluster.nodes[node].url("/limited/x"), key.clone(), rate * part, started + runs))
        .collect();

    tokio::time::sleep_until(started + Duration::from_secs(6)).await;
    cluster.nodes[leader].kill().await;
    tokio::time::sleep_until(started + Duration::from_secs(11)).await;
    cluster.nodes[leader].spawn(None);
    cluster.nodes[leader].wait_until_ready().await;
    tokio::time::sleep_until(started + Duration::from_secs(16)).await;
    cluster.nodes[calm].signal("STOP");
    tokio::time::sleep_until(started + Duration::from_secs(19)).await;
    cluster.nodes[calm].signal("CONT");
    tokio::time::sleep_until(started + Duration::from_secs(22)).await;
    cluster.nodes[calm].wire.cut();
    tokio::time::sleep_until(started + Duration::from_secs(26)).await;
    cluster.nodes[calm].wire.mend();

    for (tally, task) in loads {
        task.await.unwrap();
        println!("{tally:?}");
    }
    let verdict = cluster.verify(&backend.seen()).await;
    println!("{verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    let share = verdict["limits"][0]["admitted_share"].as_f64().unwrap();
    assert!(share >= 0.85, "only {share:.3} of the limit was admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_peer_port_dropped_warm_decisions_go_on_for_the_lease() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 5_000, "60s")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    let follower = (0..3).find(|at| !cluster.nodes[*at].log().is_empty() && *at != 0).unwrap();
    let leader = cluster.leader("quota").await;
    let node = if follower == leader { 3 - leader } else { follower };
    let url = cluster.nodes[node].url("/limited/x");
    let ask = async || cluster.client.get(&url, &[("authorization", &key)]).await.unwrap().status;
    let warm_until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < warm_until {
        ask().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    cluster.nodes[node].wire.cut();
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(ask().await, StatusCode::OK, "{:?} after the cut", cut.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually("it says no once its lease has lapsed", Duration::from_secs(15), async || {
        ask().await == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    cluster.nodes[node].wire.mend();
    eventually("it comes back", Duration::from_secs(15), async || ask().await == StatusCode::OK).await;
    let verdict = cluster.verify(&backend.seen()).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
}
