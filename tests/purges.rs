//! A purge is final: when it returns, no live node serves what was fetched before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::caching::document;
use crate::harness::{Client, Cluster, Origin, Redis, answer, eventually};

const LANES: usize = 25;
const PURGES: usize = 10_000;

/// Each lane is a URL whose version the origin counts up; what it answers is as old as the moment it was asked.
struct Lanes {
    origin: Origin,
    version: Arc<[AtomicU64; LANES]>,
    /// No answer to a request that begins now may be older.
    floor: [AtomicU64; LANES],
}

fn lane_of(path: &str) -> usize {
    path.rsplit('/').next().and_then(|lane| lane.parse().ok()).unwrap_or_default()
}

impl Lanes {
    async fn start() -> Arc<Self> {
        let version: Arc<[AtomicU64; LANES]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(1)));
        let (versions, dice) = (Arc::clone(&version), AtomicU64::new(1));
        let origin = Origin::start(move |parts, _| {
            let lane = lane_of(parts.uri.path());
            let version = versions[lane].load(SeqCst);
            // What it says is old by the time that it arrives: now and then by more than a purge takes.
            let pause = Duration::from_millis(dice.fetch_add(7, SeqCst) % 23);
            async move {
                tokio::time::sleep(pause).await;
                let tag = format!("lane-{lane}");
                answer(&[("cache-control", "max-age=3600"), ("surrogate-key", &tag)], version.to_string())
            }
        })
        .await;
        Arc::new(Self { origin, version, floor: std::array::from_fn(|_| AtomicU64::new(1)) })
    }

    async fn read(&self, client: &Client, cluster: &Cluster, node: usize, lane: usize) -> u64 {
        let floor = self.floor[lane].load(SeqCst);
        let url = cluster.nodes[node].url(&format!("/lanes/{lane}"));
        let answer = client.get(&url, &[("host", "example.com")]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let version: u64 = std::str::from_utf8(&answer.body).unwrap().parse().unwrap();
        assert!(
            floor <= version,
            "lane {lane} on node {node}: {version} after a purge of all before {floor}: {answer:?}"
        );
        version
    }

    /// The thing changes; then a purge, through some node; from its return on nobody may get what was before.
    async fn purge(&self, client: &Client, cluster: &Cluster, lane: usize, turn: usize) {
        let version = self.version[lane].fetch_add(1, SeqCst) + 1;
        let body = match turn % 3 {
            0 => json!({"urls": [format!("http://example.com/lanes/{lane}")]}),
            1 => json!({"tags": [format!("lane-{lane}")]}),
            // Ends with a separator of its own in no lane: `/lanes/1` is a beginning of `/lanes/11` as well.
            _ => json!({"prefixes": [format!("example.com/lanes/{lane}")]}),
        };
        let url = cluster.nodes[(lane + turn) % cluster.nodes.len()].admin("/v1/cache/purge");
        let token = format!("Bearer {}", cluster.token);
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let done = client.send(Method::POST, &url, &headers, body.to_string()).await.unwrap();
        assert_eq!((done.status, &done.json()["complete"]), (StatusCode::OK, &json!(true)), "{done:?}");
        self.floor[lane].store(version, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_purges_race_fills_on_three_nodes_and_redis_and_none_is_lost() {
    let (lanes, redis) = (Lanes::start().await, Redis::start().await);
    let cluster = Arc::new(Cluster::start_with(3, &["--redis-url", &redis.url()]).await);
    cluster.apply(&document(&lanes.origin, "{}")).await;

    let over = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (lanes, cluster, over, reads) =
            (Arc::clone(&lanes), Arc::clone(&cluster), Arc::clone(&over), Arc::clone(&reads));
        readers.spawn(async move {
            let client = Client::new();
            for turn in reader.. {
                if over.load(SeqCst) {
                    break;
                }
                lanes.read(&client, &cluster, turn % 3, (turn / 3 * 7 + reader) % LANES).await;
                reads.fetch_add(1, SeqCst);
            }
        });
    }
    let mut purgers = JoinSet::new();
    let began = Instant::now();
    for lane in 0..LANES {
        let (lanes, cluster) = (Arc::clone(&lanes), Arc::clone(&cluster));
        purgers.spawn(async move {
            let client = Client::new();
            for turn in 0..PURGES / LANES {
                lanes.purge(&client, &cluster, lane, turn).await;
                lanes.read(&client, &cluster, turn % 3, lane).await;
            }
        });
    }
    while let Some(done) = purgers.join_next().await {
        done.unwrap();
    }
    let took = began.elapsed();
    over.store(true, SeqCst);
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
    let fetches: usize = (0..LANES).map(|lane| lanes.origin.asked(&format!("GET /lanes/{lane}"))).sum();
    let reads = reads.load(SeqCst) + PURGES;
    assert!(fetches < reads, "{fetches} fetches for {reads} reads: nothing was kept");
    println!("{PURGES} purges in {took:?}, {reads} reads, {fetches} fetches");

    // All of it is still so when a node joins that saw none of it, and Redis holds what it held.
    redis.holds_something().await;
}
