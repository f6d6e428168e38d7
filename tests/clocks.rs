//! Wall clocks that are wrong: windows of the calendar go by the majority's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually};

fn document(backend: &Backend) -> String {
    let address = backend.address;
    format!(
        "\
version: 1
limits:
  - {{name: minutely, calendar: minute, max: 60}}
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: echo}}]
    limits: [minutely]
"
    )
}

fn until_the_minute_ends() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Duration::from_secs(60) - Duration::from_nanos((now.as_nanos() % 60_000_000_000) as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_open_on_time_and_stay_exact_though_the_leaders_clock_is_an_hour_fast() {
    let backend = Backend::start().await;
    // Formed by the node whose clock is wrong, so that it leads.
    let mut cluster = Cluster::start_with(1, &["--wall-clock-offset", "3600000"]).await;
    cluster.extra.clear();
    cluster.join().await;
    cluster.join().await;
    cluster.wait_for_voters(3).await;
    assert_eq!(cluster.leader("quota").await, 0);
    cluster.apply(&document(&backend)).await;
    let ask = async |at: usize| cluster.client.get(&cluster.nodes[at].url("/limited/x"), &[]).await.unwrap().status;
    eventually("the window is open", Duration::from_secs(10), async || ask(1).await == StatusCode::OK).await;

    // All of this minute: what is left of it could be spent in the next one, and counts to this one then. So not with the last
    // seconds of it, in which that may not be done.
    if until_the_minute_ends() < Duration::from_secs(10) {
        tokio::time::sleep(until_the_minute_ends() + Duration::from_secs(2)).await;
    }
    let began = Instant::now();
    let left = until_the_minute_ends();
    let (mut first, mut refused) = (0, 0);
    while refused < 9 && began.elapsed() + Duration::from_millis(500) < left {
        for node in 0..3 {
            let status = ask(node).await;
            first += u64::from(status == StatusCode::OK);
            refused = if status == StatusCode::OK { 0 } else { refused + 1 };
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(refused >= 9 && first <= 60, "{first} in the first minute, {refused} refused in a row");
    tokio::time::sleep(until_the_minute_ends()).await;
    // The next one: by the two clocks that are right.
    let mut second = 1;
    eventually("the next window is open", Duration::from_secs(5), async || ask(2).await == StatusCode::OK).await;
    for round in 0..120 {
        second += u64::from(ask(round % 3).await == StatusCode::OK);
    }
    assert!(second > 20 && second <= 60, "{second} in the second minute, {first} in the first");
    let verdict = cluster.verify(&backend.seen()).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    assert!(cluster.nodes[0].log().contains("this node's wall clock is wrong"), "{}", cluster.nodes[0].log());
}
