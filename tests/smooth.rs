//! Smooth limits: a burst so small against the rate that nodes hold parts of the rate instead of permits.

use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Backend, Client, Cluster, eventually};

const RUNS: Duration = Duration::from_secs(8);

fn document(backend: &Backend, rate: u64, burst: u64) -> String {
    let address = backend.address;
    format!(
        "\
version: 1
limits:
  - {{name: smooth, rate: {rate}/s, burst: {burst}}}
upstreams:
  - name: origin
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: origin}}]
    limits: [smooth]
"
    )
}

/// Twice the rate, round robin over so many nodes; the part of it that was admitted. A machine that has other things to do
/// may not get round to asking for twice the rate: what is asked for is part of the verdict.
async fn used(nodes: usize, rate: u64, burst: u64) -> f64 {
    let (backend, cluster) = (Backend::start().await, Cluster::start(nodes).await);
    cluster.apply(&document(&backend, rate, burst)).await;
    // Nodes learn who is alive every two seconds.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let client = Client::new();
    eventually("the limit is in force", Duration::from_secs(10), async || {
        client.get(&cluster.nodes[0].url("/limited/first"), &[]).await.unwrap().status == StatusCode::OK
    })
    .await;
    let (mut requests, mut admitted, mut refused, mut unavailable) = (JoinSet::new(), 0_u64, 0_u64, 0_u64);
    let mut tally = |status: Result<StatusCode, _>| match status.unwrap() {
        StatusCode::OK => admitted += 1,
        StatusCode::TOO_MANY_REQUESTS => refused += 1,
        StatusCode::SERVICE_UNAVAILABLE => unavailable += 1,
        other => panic!("{other} is neither yes nor no"),
    };
    let (began, mut nth) = (Instant::now(), 0_usize);
    while began.elapsed() < RUNS {
        tokio::time::sleep(Duration::from_millis(2)).await;
        // Open loop, in steps of the timer.
        let due = (began.elapsed().as_secs_f64() * 2.0 * rate as f64) as usize;
        for nth in nth..due {
            let (client, url) = (client.clone(), cluster.nodes[nth % nodes].url("/limited/x"));
            requests.spawn(async move { client.get(&url, &[]).await.map(|answer| answer.status).map_err(|_| ()) });
        }
        nth = nth.max(due);
        while let Some(status) = requests.try_join_next() {
            tally(status.unwrap());
        }
    }
    let lasted = began.elapsed();
    for status in requests.join_all().await {
        tally(status);
    }
    let ended = began.elapsed();
    let verdict = cluster.verify(&backend.seen()).await;
    let allowed = rate as f64 * lasted.as_secs_f64();
    let share = admitted as f64 / allowed;
    println!("{nodes} nodes: {admitted} of {allowed:.0} admitted, {refused} refused, {lasted:?}/{ended:?}; {verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["limits"][0]["kind"], "bucket", "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    assert!(refused > 0, "twice the rate was asked for");
    println!("{unavailable} got no decision");
    share
}

// How much is used says what else the machine does: 5 permits are 16 ms of 300 a second, and whenever whoever holds them gets no
// turn for longer, the rest is lost for ever. On a machine of its own it is 0.99. That it is never too much, `used` says.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smooth_limit_is_used_by_three_nodes_and_never_exceeded() {
    let share = used(3, 300, 5).await;
    assert!(share >= 0.5, "only {share:.3} of the rate was admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_each_hold_a_part_of_the_rate_use_it_and_never_exceed_it() {
    let share = used(2, 400, 9).await;
    assert!(share >= 0.5, "only {share:.3} of the rate was admitted");
}
