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

/// Things that change, and how many of them one call makes void.
const THINGS: usize = 200;
const AT_ONCE: usize = 8;
const PURGES: usize = 10_000;

/// Each thing is a URL whose version the origin counts up; what it answers is as old as the moment it was asked.
struct Things {
    origin: Origin,
    version: Arc<[AtomicU64; THINGS]>,
    /// No answer to a request that begins now may be older.
    floor: [AtomicU64; THINGS],
}

fn thing_of(path: &str) -> usize {
    path.rsplit('/').next().and_then(|thing| thing.parse().ok()).unwrap_or_default()
}

impl Things {
    async fn start() -> Arc<Self> {
        let version: Arc<[AtomicU64; THINGS]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(1)));
        let (versions, dice) = (Arc::clone(&version), AtomicU64::new(1));
        let origin = Origin::start(move |parts, _| {
            let thing = thing_of(parts.uri.path());
            let version = versions[thing].load(SeqCst);
            // What it says is old by the time that it arrives: now and then by more than a purge takes.
            let pause = Duration::from_millis(dice.fetch_add(7, SeqCst) % 23);
            async move {
                tokio::time::sleep(pause).await;
                let tag = format!("thing-{thing}");
                answer(&[("cache-control", "max-age=3600"), ("surrogate-key", &tag)], version.to_string())
            }
        })
        .await;
        Arc::new(Self { origin, version, floor: std::array::from_fn(|_| AtomicU64::new(1)) })
    }

    async fn read(&self, client: &Client, cluster: &Cluster, node: usize, thing: usize) -> u64 {
        let floor = self.floor[thing].load(SeqCst);
        let url = cluster.nodes[node].url(&format!("/things/{thing}"));
        let answer = client.get(&url, &[("host", "example.com")]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let version: u64 = std::str::from_utf8(&answer.body).unwrap().parse().unwrap();
        assert!(
            floor <= version,
            "thing {thing} on node {node}: {version} after a purge of all before {floor}: {answer:?}"
        );
        version
    }

    /// Some things change; then a purge of them, through some node; from its return on nobody may get what was before.
    async fn purge(&self, client: &Client, cluster: &Cluster, group: usize, turn: usize) {
        let (mut urls, mut tags, mut prefixes, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for thing in group * AT_ONCE..(group + 1) * AT_ONCE {
            changed.push((thing, self.version[thing].fetch_add(1, SeqCst) + 1));
            match (thing + turn) % 3 {
                0 => urls.push(format!("http://example.com/things/{thing}")),
                1 => tags.push(format!("thing-{thing}")),
                _ => prefixes.push(format!("example.com/things/{thing}")),
            }
        }
        let url = cluster.nodes[(group + turn) % cluster.nodes.len()].admin("/v1/cache/purge");
        let token = format!("Bearer {}", cluster.token);
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let body = json!({"urls": urls, "tags": tags, "prefixes": prefixes}).to_string();
        let done = client.send(Method::POST, &url, &headers, body).await.unwrap();
        assert_eq!((done.status, &done.json()["complete"]), (StatusCode::OK, &json!(true)), "{done:?}");
        for (thing, version) in changed {
            self.floor[thing].store(version, SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_purges_race_fills_on_three_nodes_and_redis_and_none_is_lost() {
    let redis = Redis::start().await;
    race(Cluster::start_with(3, &["--redis-url", &redis.url()]).await, PURGES).await;
}

/// What one node fetched goes to the others by messages, and is as void.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_race_fills_that_nodes_hand_each_other_and_none_is_lost() {
    race(Cluster::start(3).await, PURGES / 4).await;
}

async fn race(cluster: Cluster, purges: usize) {
    let (things, cluster) = (Things::start().await, Arc::new(cluster));
    cluster.apply(&document(&things.origin, "{}")).await;

    let over = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let (things, cluster, over, reads) =
            (Arc::clone(&things), Arc::clone(&cluster), Arc::clone(&over), Arc::clone(&reads));
        readers.spawn(async move {
            let client = Client::new();
            for turn in reader.. {
                if over.load(SeqCst) {
                    break;
                }
                things.read(&client, &cluster, turn % 3, (turn / 3 * 7 + reader) % THINGS).await;
                reads.fetch_add(1, SeqCst);
            }
        });
    }
    let mut purgers = JoinSet::new();
    let began = Instant::now();
    for group in 0..THINGS / AT_ONCE {
        let (things, cluster) = (Arc::clone(&things), Arc::clone(&cluster));
        purgers.spawn(async move {
            let client = Client::new();
            for turn in 0..purges / THINGS {
                things.purge(&client, &cluster, group, turn).await;
                for thing in [turn % AT_ONCE, (turn + 3) % AT_ONCE] {
                    things.read(&client, &cluster, (turn + thing) % 3, group * AT_ONCE + thing).await;
                }
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
    let fetches: usize = (0..THINGS).map(|thing| things.origin.asked(&format!("GET /things/{thing}"))).sum();
    let reads = reads.load(SeqCst) + 2 * purges / AT_ONCE;
    assert!(fetches < reads, "{fetches} fetches for {reads} reads: nothing was kept");
    println!("{purges} purges in {took:?}, {reads} reads, {fetches} fetches");
}

/// A node that leads nothing.
async fn follower(cluster: &Cluster) -> usize {
    let leaders = [cluster.leader("control").await, cluster.leader("quota").await];
    (0..cluster.nodes.len()).find(|at| !leaders.contains(at)).expect("more nodes than leaders")
}

async fn cli_purge(cluster: &Cluster, node: usize) {
    let done = cluster.cli_at(node, &["cache", "purge", "--prefix", "example.com/things/"]).await.unwrap();
    assert_eq!(done["complete"], true, "{done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_node_does_without_its_cache_until_it_knows_what_was_purged() {
    let (things, redis) = (Things::start().await, Redis::start().await);
    let cluster = Cluster::start_with(3, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&things.origin, "{}")).await;
    let client = Client::new();
    let get = async |node: usize, thing: usize| {
        let url = cluster.nodes[node].url(&format!("/things/{thing}"));
        client.get(&url, &[("host", "example.com")]).await.unwrap()
    };
    let version =
        |answer: &crate::harness::Answer| -> u64 { std::str::from_utf8(&answer.body).unwrap().parse().unwrap() };
    let cut = follower(&cluster).await;
    let other = (cut + 1) % 3;
    for node in 0..3 {
        assert_eq!(version(&get(node, 0).await), 1);
        assert_eq!(version(&get(node, 1).await), 1);
    }

    cluster.nodes[cut].wire.cut();
    things.version[0].store(2, SeqCst);
    cli_purge(&cluster, other).await; // Returns when the node's lease has lapsed.
    let answer = get(cut, 0).await;
    assert_eq!(version(&answer), 2, "{answer:?}");
    assert!(answer.headers["cache-status"].to_str().unwrap().contains("cut-off"), "{answer:?}");
    assert_eq!(version(&get(other, 0).await), 2);

    // Back again, whenever that is: it never shows what was purged while it was gone.
    things.version[0].store(3, SeqCst);
    cli_purge(&cluster, other).await;
    cluster.nodes[cut].wire.mend();
    eventually("it uses its cache again", Duration::from_secs(20), async || {
        let answer = get(cut, 0).await;
        assert_eq!(version(&answer), 3, "{answer:?}");
        answer.headers["cache-status"].to_str().unwrap().contains("hit")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_and_a_restarted_node_know_the_purges_and_redis_cannot_bring_anything_back() {
    let (things, redis) = (Things::start().await, Redis::start().await);
    let mut cluster = Cluster::start_with(1, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&things.origin, "{key: {sort_query: true}}")).await;
    let client = Client::new();
    let get = async |cluster: &Cluster, node: usize, query: &str| -> u64 {
        let url = cluster.nodes[node].url(&format!("/things/0{query}"));
        let answer = client.get(&url, &[("host", "example.com")]).await.unwrap();
        std::str::from_utf8(&answer.body).unwrap().parse().unwrap()
    };
    assert_eq!((get(&cluster, 0, "").await, get(&cluster, 0, "?b=1&a=2").await), (1, 1));
    eventually("Redis has both", Duration::from_secs(5), async || redis.keys().await >= 2).await;
    things.version[0].store(2, SeqCst);
    for purge in [vec!["example.com/things/0"], vec!["https://Example.com:80/things/0?b=1&a=2"]] {
        let done = cluster.cli(&[vec!["cache", "purge"], purge].concat()).await.unwrap();
        assert_eq!(done["complete"], true, "{done}");
    }
    assert!(redis.keys().await >= 2, "a purge asks nothing of Redis: it holds what it held");
    let joined = cluster.join().await;
    for query in ["", "?b=1&a=2", "?a=2&b=1"] {
        assert_eq!(get(&cluster, joined, query).await, 2, "{query} on a node that joined");
        assert_eq!(get(&cluster, 0, query).await, 2, "{query}");
    }
    things.version[0].store(3, SeqCst);
    let done = cluster.cli(&["cache", "purge", "--all"]).await.unwrap();
    assert_eq!(done["complete"], true);
    cluster.nodes[joined].kill().await;
    cluster.nodes[joined].spawn(None);
    cluster.nodes[joined].wait_until_ready().await;
    for query in ["", "?a=2&b=1"] {
        assert_eq!(get(&cluster, joined, query).await, 3, "{query} on a node that was restarted");
    }
    redis.cli(&["flushall"]).await;
    assert_eq!(get(&cluster, 0, "").await, 3);
}
