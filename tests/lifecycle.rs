//! Joining, draining, restarting, damage on the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use crate::harness::{Backend, Balancer, Client, Cluster, eventually};
use crate::scaling::watch;
use crate::walk::document;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_under_load_without_a_failed_request() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, 1_000_000, "1s")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    let stop = Arc::new(AtomicBool::new(false));
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let load = {
        let urls: Vec<_> = cluster.nodes.iter().map(|node| node.url("/limited/x")).collect();
        let (stop, sent, failed, key) = (stop.clone(), sent.clone(), failed.clone(), key.clone());
        tokio::spawn(async move {
            let (client, mut at) = (Client::new(), Instant::now());
            let mut requests = tokio::task::JoinSet::new();
            while !stop.load(Ordering::Relaxed) {
                at += Duration::from_millis(5);
                tokio::time::sleep_until(at).await;
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let url = urls[usize::try_from(number).unwrap() % urls.len()].clone();
                let (client, failed, key) = (client.clone(), failed.clone(), key.clone());
                requests.spawn(async move {
                    let answer = client.get(&url, &[("authorization", &key)]).await;
                    if !answer.as_ref().is_ok_and(|answer| answer.status == StatusCode::OK) {
                        println!("failed: {answer:?}");
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                });
                while requests.try_join_next().is_some() {}
            }
            while requests.join_next().await.is_some() {}
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (fourth, fifth) = (cluster.join().await, cluster.join().await);
    for node in [fourth, fifth] {
        // Ready means: the first request is served, with the key and the limit in force.
        let url = cluster.nodes[node].url("/limited/x");
        let answer = cluster.client.get(&url, &[("authorization", &key)]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", cluster.nodes[node].name);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    load.await.unwrap();
    assert!(sent.load(Ordering::Relaxed) > 200);
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {sent:?}");
}

/// An upgrade, but for the program: one node after the other, the leader last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_behind_a_balancer_costs_no_request() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 1_000_000, "1h")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    let folder = tempfile::tempdir().unwrap();
    let nodes: Vec<_> = cluster.nodes.iter().map(|node| node.ready.as_ref().unwrap()).collect();
    let balancer = Balancer::start(folder.path(), &nodes).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = |url: String| {
        let (stop, key) = (stop.clone(), key.clone());
        tokio::spawn(async move {
            let (client, mut sent, mut failed) = (Client::new(), 0_u64, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                sent += 1;
                match client.get(&url, &[("authorization", &key)]).await {
                    Ok(answer) if answer.status == StatusCode::OK => {}
                    other => failed.push(format!("{other:?}")),
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (sent, failed)
        })
    };
    let load: Vec<_> = (0..4).map(|_| asking(balancer.url("/limited/x"))).collect();
    // Answers that take longer than it takes to tell a node to go.
    let streams = asking(balancer.url("/open/stream?parts=10&pause_ms=100"));
    let watched = watch(folder.path().to_owned(), stop.clone());
    let leader = cluster.leader("control").await;
    let mut order: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    order.push(leader);
    for at in order {
        assert_eq!(cluster.nodes[at].drain().await, Some(0), "{}", cluster.nodes[at].log());
        cluster.nodes[at].spawn(None);
        cluster.nodes[at].wait_until_ready().await;
        cluster.wait_for_voters(3).await;
        eventually("the balancer gives it requests again", Duration::from_secs(20), async || {
            cluster.metrics(at).await.contains("tidegate_requests_total{")
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let stalled = watched.join().unwrap();
    let (mut all, mut failed) = (0, Vec::new());
    for task in load.into_iter().chain([streams]) {
        let (sent, went_wrong) = task.await.unwrap();
        all += sent;
        failed.extend(went_wrong);
    }
    // A machine that had no time for a leader is one without a leader, and then a limit rightly says so.
    let because_of_the_machine =
        |why: &String| Duration::from_millis(50) < stalled && why.contains("limit_unavailable");
    failed.retain(|why| !because_of_the_machine(why));
    assert!(failed.is_empty(), "{} of {all} (stalled for {stalled:?}):\n{}", failed.len(), failed.join("\n"));
    assert!(all > 200, "{all}");
}

#[tokio::test]
async fn a_draining_node_finishes_its_streams_and_says_so_to_the_balancer() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, 10, "1s")).await;
    let url = cluster.nodes[2].url("/open/stream?parts=30&pause_ms=100");
    let client = Client::new();
    let stream = client.open(Method::GET, &url, &[], Bytes::new()).await.unwrap();
    let body = tokio::spawn(stream.into_body().collect());
    let ready = cluster.nodes[2].admin("/readyz");
    assert_eq!(cluster.client.get(&ready, &[]).await.unwrap().status, StatusCode::OK);
    cluster.nodes[2].signal("TERM");
    eventually("the balancer is told", Duration::from_secs(2), async || {
        cluster.client.get(&ready, &[]).await.map_or(true, |answer| answer.status == StatusCode::SERVICE_UNAVAILABLE)
    })
    .await;
    assert_eq!(cluster.nodes[2].wait_for_end().await, Some(0));
    let whole = body.await.unwrap().expect("the stream was not cut").to_bytes();
    assert!(whole.ends_with(b"part 29\n"), "{whole:?}");
}

#[tokio::test]
async fn a_cluster_whose_every_node_was_killed_comes_back_as_it_was() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, 10, "1s")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    cluster.restart().await;
    eventually("keys and limits are back", Duration::from_secs(15), async || {
        let mut whole = true;
        for node in &cluster.nodes {
            let answer = cluster.client.get(&node.url("/limited/x"), &[("authorization", &key)]).await;
            whole &= answer.is_ok_and(|answer| answer.status == StatusCode::OK);
        }
        whole
    })
    .await;
    let ids: Vec<_> = cluster.nodes.iter().map(|node| node.id()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test]
async fn a_node_restarts_with_no_peer_and_serves_its_last_good_snapshot() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&backend, 10, "1s")).await;
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    cluster.nodes[1].spawn(None);
    let started = Instant::now();
    cluster.nodes[1].wait_until_ready().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let answer = cluster.client.get(&cluster.nodes[1].url("/open/x"), &[]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    let json = [("accept", "application/json")];
    let ready = cluster.client.get(&cluster.nodes[1].admin("/readyz"), &json).await.unwrap();
    assert_eq!((ready.status, ready.json()["status"].as_str()), (StatusCode::OK, Some("degraded")), "{ready:?}");
}

/// As one is that waits for a leader, for entries, or for room on its disk.
#[tokio::test]
async fn a_node_that_is_not_ready_ends_when_it_is_asked_to() {
    let mut cluster = Cluster::start(3).await;
    for node in &mut cluster.nodes {
        node.kill().await;
    }
    let (node, client) = (&mut cluster.nodes[0], &cluster.client);
    node.spawn(None);
    eventually("its admin port is open, and it looks for the leader", Duration::from_secs(5), async || {
        client
            .get(&node.admin("/readyz"), &[])
            .await
            .is_ok_and(|answer| answer.status == StatusCode::SERVICE_UNAVAILABLE)
    })
    .await;
    assert_eq!(node.drain().await, Some(0));
    assert!(node.log().contains("ended before it was ready"), "{}", node.log());
}

#[tokio::test]
async fn damaged_files_are_named_and_never_silently_skipped() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start(1).await;
    cluster.apply(&document(&backend, 10, "1s")).await;
    cluster.nodes[0].drain().await;
    let data = cluster.nodes[0].data.clone();
    let mut files = Vec::new();
    for folder in ["control", "quota", "tls", "."] {
        for entry in std::fs::read_dir(data.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("LOCK") && !path.ends_with("admin.token") {
                files.push(path);
            }
        }
    }
    assert!(files.len() >= 5, "{files:?}");
    for path in files {
        let whole = std::fs::read(&path).unwrap();
        for (how, damaged) in [("truncated", whole[..whole.len() / 2].to_vec()), ("emptied", Vec::new())] {
            std::fs::write(&path, damaged).unwrap();
            let before = cluster.nodes[0].log().len();
            cluster.nodes[0].spawn(None);
            println!("{} {how}", path.display());
            let code = cluster.nodes[0].wait_for_ready_or_end().await;
            let said = cluster.nodes[0].log()[before..].to_owned();
            match code {
                // What was lost with the file can be told from others: then nothing is missing.
                None => {
                    let answer = cluster.client.get(&cluster.nodes[0].url("/open/x"), &[]).await.unwrap();
                    assert_eq!(answer.status, StatusCode::OK, "{} {how}: started without its document", path.display());
                    cluster.nodes[0].kill().await;
                }
                Some(code) => {
                    assert_ne!(code, 0, "{} {how}", path.display());
                    let name = path.file_name().unwrap().to_str().unwrap();
                    assert!(said.contains(name), "{} {how} is not named: {said}", path.display());
                }
            }
            assert!(!said.contains("panicked"), "{} {how}: {said}", path.display());
        }
        std::fs::write(&path, whole).unwrap();
    }
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    let answer = cluster.client.get(&cluster.nodes[0].url("/open/x"), &[]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}
