//! Every kind of limit over three nodes at twice what it admits, while one is killed: judged from decisions, and by what the
//! backend saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Client, Cluster, Origin, answer, eventually};

/// Requests that a backend answers now.
#[derive(Debug, Default)]
struct Crowd {
    now: AtomicUsize,
    most: AtomicUsize,
}

struct Inside(Arc<Crowd>);

impl Crowd {
    fn enter(self: &Arc<Self>) -> Inside {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        Inside(Arc::clone(self))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
    }
}

fn document(origin: &Origin, limits: &str) -> String {
    let address = origin.address;
    format!(
        "\
version: 1
limits:
{limits}
upstreams:
  - name: origin
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: origin}}]
    limits: [it]
"
    )
}

/// Asks each node `per_second` times a second; what became of it: (admitted, refused).
async fn demand(cluster: &Cluster, nodes: &[usize], per_second: f64, runs: Duration) -> (usize, usize) {
    let (client, ends) = (Client::new(), Instant::now() + runs);
    let mut requests = tokio::task::JoinSet::new();
    let mut at = Instant::now();
    while at < ends {
        at += Duration::from_secs_f64(1.0 / per_second);
        tokio::time::sleep_until(at).await;
        for node in nodes {
            let (client, url) = (client.clone(), cluster.nodes[*node].url("/limited/x"));
            requests.spawn(async move { client.get(&url, &[]).await.map(|answer| answer.status) });
        }
    }
    let statuses: Vec<_> = requests.join_all().await;
    let count = |status| statuses.iter().filter(|answer| matches!(answer, Ok(it) if *it == status)).count();
    (count(StatusCode::OK), count(StatusCode::TOO_MANY_REQUESTS))
}

/// Three nodes, twice the limit, and the last of them is killed half way.
async fn hold(origin: &Origin, limits: &str, per_second: f64) -> (Cluster, usize, usize, Value) {
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(origin, limits)).await;
    eventually("the limit is in force", Duration::from_secs(10), async || {
        let answer = cluster.client.get(&cluster.nodes[0].url("/limited/first"), &[]).await.unwrap();
        answer.status == StatusCode::OK
    })
    .await;
    let before = demand(&cluster, &[0, 1, 2], per_second, Duration::from_secs(5)).await;
    cluster.nodes[2].kill().await;
    let after = demand(&cluster, &[0, 1], per_second * 1.5, Duration::from_secs(7)).await;
    let verdict = cluster.verify(&[]).await;
    println!("{before:?} {after:?} {verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    (cluster, before.0 + after.0, before.1 + after.1, verdict)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_never_gives_more_than_its_burst_and_its_rate() {
    let origin = Origin::start(|_, _| async { answer(&[], "ok") }).await;
    let limits = "  - {name: it, rate: 60/s, burst: 90}";
    let (_cluster, admitted, refused, verdict) = hold(&origin, limits, 40.0).await;
    assert!(refused > 100, "twice the rate was asked for: {refused}");
    // 12 seconds, of which a lost lease costs some.
    assert!(admitted > 500, "only {admitted} of about 810");
    assert_eq!(verdict["limits"][0]["kind"], "bucket");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_calls_run_at_a_time_than_there_are_places() {
    const PLACES: usize = 12;
    let crowd = Arc::new(Crowd::default());
    let inside = Arc::clone(&crowd);
    let origin = Origin::start(move |_, _| {
        let inside = inside.enter();
        async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            drop(inside);
            answer(&[], "ok")
        }
    })
    .await;
    let limits = format!("  - {{name: it, concurrency: {PLACES}}}");
    let (cluster, admitted, refused, verdict) = hold(&origin, &limits, 40.0).await;
    assert!(refused > 100, "twice the places were asked for: {refused}");
    assert!(admitted > 350, "only {admitted} of about 700");
    assert_eq!(verdict["limits"][0]["kind"], "concurrency");
    let most = crowd.most.load(Ordering::SeqCst);
    assert!(most <= PLACES, "{most} were in the backend at a time");
    // All have ended: all places are there again, on whichever node.
    eventually("the places come back", Duration::from_secs(10), async || {
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..PLACES {
            let (client, url) = (cluster.client.clone(), cluster.nodes[0].url("/limited/x"));
            requests.spawn(async move { client.get(&url, &[]).await.map(|answer| answer.status) });
        }
        requests.join_all().await.iter().all(|status| matches!(status, Ok(StatusCode::OK)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_calendar_window_holds_its_maximum_and_the_next_one_begins_on_time() {
    let origin = Origin::start(|_, _| async { answer(&[], "ok") }).await;
    let limits = "  - {name: it, calendar: minute, zone: Asia/Kathmandu, max: 150}";
    let (cluster, admitted, refused, verdict) = hold(&origin, limits, 40.0).await;
    assert!(refused > 100, "more than the maximum was asked for: {refused}");
    assert!(admitted <= 300 && admitted > 75, "{admitted} in one or two minutes");
    assert_eq!(verdict["limits"][0]["kind"], "calendar");
    let refusal = eventually_refused(&cluster).await;
    let wait: u64 = refusal["retry-after"].to_str().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = 60 - now % 60;
    assert!(wait.abs_diff(left) <= 2, "told to wait {wait} s, the minute goes on for {left} s");
    tokio::time::sleep(Duration::from_secs(left)).await;
    eventually("the next minute is open", Duration::from_secs(5), async || {
        let answer = cluster.client.get(&cluster.nodes[0].url("/limited/x"), &[]).await.unwrap();
        answer.status == StatusCode::OK
    })
    .await;
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}

async fn eventually_refused(cluster: &Cluster) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    eventually("the window is spent", Duration::from_secs(20), async || {
        let answer = cluster.client.get(&cluster.nodes[0].url("/limited/x"), &[]).await.unwrap();
        headers = answer.headers;
        answer.status == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    headers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_paid_after_the_fact_and_raises_its_alerts_once() {
    let origin = Origin::start(|_, _| async { answer(&[("x-cost", "3")], "ok") }).await;
    let limits = "  - {name: it, budget: {tokens: 600, per: month}, per: [tenant], cost: {from: \"header:x-cost\", estimate: 10}}";
    let (cluster, admitted, refused, verdict) = hold(&origin, limits, 40.0).await;
    assert!(refused > 100, "more than the budget was asked for: {refused}");
    // 3 each, once what was reserved beyond it came back; a killed node's part is lost for the period.
    assert!(admitted * 3 <= 600 && admitted * 3 > 400, "{admitted} calls of 3 were paid of 600");
    assert_eq!(verdict["limits"][0]["kind"], "calendar");
    let told = |percent: &str| {
        let lines = cluster.nodes.iter().map(|node| node.log());
        lines
            .flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|line| line.contains("a budget has passed a threshold") && line.contains(percent))
            .count()
    };
    assert_eq!((told("percent=50"), told("percent=80")), (1, 1));
    assert!(told("words=tenant=default") >= 2, "whom it is about, in words");
}
