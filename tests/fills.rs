//! Without Redis the nodes fetch together all the same: each key has an owner among them who says who fetches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::caching::{counting, document, get, herd, metric, said};
use crate::harness::{Cluster, Origin, Redis, answer, eventually};

/// As long as a lookup waits for who fetches, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nodes that waited for an owner in vain, or lost their lease: each of those goes by itself.
async fn went_alone(cluster: &Cluster) -> u64 {
    let mut sum = 0;
    for node in 0..cluster.nodes.len() {
        for name in ["owners_away", "bypassed", "stillborn", "waits_over"] {
            sum += metric(cluster, node, name).await;
        }
    }
    sum
}

/// Everybody has heard who is alive: what one node fetches the others get.
async fn they_know_each_other(cluster: &Cluster, origin: &Origin, word: &str) {
    let mut turn = 0..;
    eventually("nodes fetch together", Duration::from_secs(20), async || {
        let path = format!("/warm/{word}/{}", turn.next().unwrap());
        for node in 0..cluster.nodes.len() {
            get(cluster, node, &path).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        origin.asked(&format!("GET {path}")) == 1
    })
    .await;
}

/// A herd on cold keys until none of it had to go alone; then it was one request to the origin.
async fn one_request_for_a_thousand(cluster: &Cluster, origin: &Origin, word: &str) {
    for turn in 0..8 {
        let (path, before) = (format!("/slow/{word}/{turn}"), went_alone(cluster).await);
        let bodies = herd(cluster, 1_000, &path).await;
        if went_alone(cluster).await == before {
            assert_eq!(origin.asked(&format!("GET {path}")), 1, "{path}");
            assert!(bodies.iter().all(|body| *body == bodies[0]));
            return;
        }
    }
    panic!("some node went alone each time: this machine has too much to do");
}

#[tokio::test]
async fn a_thousand_clients_of_a_cold_key_on_three_nodes_are_one_request_to_the_origin_without_redis() {
    let origin = counting().await;
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_know_each_other(&cluster, &origin, "up").await;
    for word in ["a", "b", "c", "d"] {
        one_request_for_a_thousand(&cluster, &origin, word).await;
    }
    let mut shared = 0;
    for node in 0..3 {
        shared += metric(&cluster, node, "from_peers").await;
    }
    assert!(shared > 0);
}

#[tokio::test]
async fn when_redis_is_dead_the_nodes_fetch_together_without_it() {
    let (origin, mut redis) = (counting().await, Redis::start().await);
    let cluster = Cluster::start_with(3, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_know_each_other(&cluster, &origin, "up").await;
    redis.kill().await;
    // While one node still asks Redis and another no longer does, each of the two may fetch.
    they_know_each_other(&cluster, &origin, "dead").await;
    one_request_for_a_thousand(&cluster, &origin, "dead").await;
}

/// What it sends comes after a second, with the number of the request and when it came.
async fn slow() -> Origin {
    let turn = AtomicU64::new(0);
    Origin::start(move |_, _| {
        let turn = turn.fetch_add(1, SeqCst) + 1;
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer(&[("cache-control", "max-age=3600"), ("surrogate-key", "slow")], turn.to_string())
        }
    })
    .await
}

#[tokio::test]
async fn a_node_that_is_killed_while_others_wait_for_it_holds_nobody_up() {
    let origin = slow().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_know_each_other(&cluster, &origin, "up").await;
    let dies = 2;
    // Many keys: the dead node owns some of them, and was asked first for all.
    let paths: Vec<String> = (0..12).map(|n| format!("/key/{n}")).collect();
    let mut first = JoinSet::new();
    for path in &paths {
        let (client, url) = (cluster.client.clone(), cluster.nodes[dies].url(path));
        first.spawn(async move { client.get(&url, &[("host", "example.com")]).await.is_ok() });
    }
    eventually("it fetches", Duration::from_secs(10), async || {
        paths.iter().all(|path| origin.asked(&format!("GET {path}")) == 1)
    })
    .await;
    let mut waiting = JoinSet::new();
    for path in &paths {
        for node in 0..2 {
            let (client, url) = (cluster.client.clone(), cluster.nodes[node].url(path));
            waiting.spawn(async move {
                let began = Instant::now();
                let answer = client.get(&url, &[("host", "example.com")]).await.unwrap();
                (answer, began.elapsed())
            });
        }
    }
    cluster.nodes[dies].kill().await;
    for (answer, took) in waiting.join_all().await {
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        // Its patience, and the origin's second.
        assert!(took < PATIENCE + Duration::from_millis(2_500), "{took:?}");
    }
    for path in &paths {
        let asked = origin.asked(&format!("GET {path}"));
        assert!(asked <= 3, "{path}: {asked} times");
    }
    while first.join_next().await.is_some() {}
    // And what comes now is fetched once more, by those who are left.
    let mut turn = 0..;
    eventually("they fetch together again", Duration::from_secs(20), async || {
        let path = format!("/later/{}", turn.next().unwrap());
        for node in 0..2 {
            get(&cluster, node, &path).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        origin.asked(&format!("GET {path}")) == 1
    })
    .await;
}

#[tokio::test]
async fn a_purge_in_the_middle_of_a_fetch_voids_it_for_all_who_wait() {
    let origin = slow().await;
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_know_each_other(&cluster, &origin, "up").await;
    for turn in 0..4 {
        let path = format!("/purged/{turn}");
        let ask = |node: usize| {
            let (client, url) = (cluster.client.clone(), cluster.nodes[node].url(&path));
            tokio::spawn(async move { client.get(&url, &[("host", "example.com")]).await.unwrap().body })
        };
        let number = |body: &Bytes| -> u64 { std::str::from_utf8(body).unwrap().parse().unwrap() };
        let begun = ask(turn % 3);
        eventually("one fetches", Duration::from_secs(10), async || origin.asked(&format!("GET {path}")) == 1).await;
        let waits = ask((turn + 1) % 3);
        let purged = cluster.cli_at(turn % 3, &["cache", "purge", "--tag", "slow"]).await.unwrap();
        assert_eq!(purged["complete"], true, "{purged}");
        let after = number(&get(&cluster, (turn + 2) % 3, &path).await.body);
        let (begun, _waits) = (number(&begun.await.unwrap()), waits.await.unwrap());
        assert!(begun < after, "asked after the purge: {after}, and {begun} was begun before");
        for node in 0..3 {
            let kept = get(&cluster, node, &path).await;
            assert!(number(&kept.body) > begun, "{} on {node}: {}", number(&kept.body), said(&kept));
        }
    }
}

#[tokio::test]
async fn a_cut_off_node_neither_asks_nor_answers_for_its_keys() {
    let origin = Arc::new(counting().await);
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&origin, "{}")).await;
    they_know_each_other(&cluster, &origin, "up").await;
    let leaders = [cluster.leader("control").await, cluster.leader("quota").await];
    let cut = (0..3).find(|at| !leaders.contains(at)).unwrap();
    cluster.nodes[cut].wire.cut();
    eventually("it knows", Duration::from_secs(20), async || said(&get(&cluster, cut, "/x").await).contains("cut-off"))
        .await;
    let (one, other) = ((cut + 1) % 3, (cut + 2) % 3);
    let mut turn = 0..;
    eventually("those who are left share all keys", Duration::from_secs(20), async || {
        let turn = turn.next().unwrap();
        let mut all = true;
        for n in 0..8 {
            let path = format!("/left/{turn}/{n}");
            get(&cluster, one, &path).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            get(&cluster, other, &path).await;
            all &= origin.asked(&format!("GET {path}")) == 1;
        }
        all
    })
    .await;
}
