//! Nodes' own certificates: they end, and are renewed by themselves before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;

use crate::harness::{Backend, Client, Cluster, eventually};
use crate::walk::document;

/// Renewed after 8 seconds; clocks may be wrong by 4.
const LIFE: [&str; 2] = ["--node-certificate-life", "12s"];
const LASTS: u64 = 12;
const RENEWED_EVERY: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(90);

/// In seconds since 1970.
async fn ends(cluster: &Cluster, node: usize) -> u64 {
    let metrics = cluster.metrics(node).await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("tidegate_node_certificate_expires_seconds "));
    line.expect("the metric is told").trim().parse::<f64>().unwrap() as u64
}

/// Of a node that has just ended: whatever it renewed last.
async fn wait_until_its_certificate_ends() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ends = now() + LASTS;
    eventually("its certificate ends", PATIENCE, async || ends < now()).await;
}

/// Asks each of these in turn, until it is told to stop; what went wrong.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    failed: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<usize>,
}

impl Traffic {
    pub(crate) fn start(urls: Vec<String>, key: String) -> Self {
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ends, bad) = (stop.clone(), failed.clone());
        let task = tokio::spawn(async move {
            let (client, mut asked) = (Client::new(), 0);
            while !ends.load(Ordering::Relaxed) {
                let url = &urls[asked % urls.len()];
                match client.get(url, &[("authorization", &key)]).await {
                    Ok(answer) if answer.status == StatusCode::OK => {}
                    other => bad.lock().unwrap().push(format!("{url}: {other:?}")),
                }
                asked += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            asked
        });
        Self { stop, failed, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.task.await.unwrap();
        let failed = self.failed.lock().unwrap();
        assert!(0 < asked && failed.is_empty(), "{} of {asked}: {:?}", failed.len(), failed.first());
    }
}

#[tokio::test]
async fn certificates_of_seconds_are_renewed_under_traffic_and_who_was_off_for_longer_comes_back() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start_with(3, &LIFE).await;
    cluster.apply(&document(&backend, 1_000_000, "60s")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let urls = |path: &str| cluster.nodes[..2].iter().map(|node| node.url(path)).collect::<Vec<_>>();
    let traffic = Traffic::start([urls("/limited/x"), urls("/open/x")].concat(), key.clone());
    let mut first = Vec::new();
    for node in 0..3 {
        first.push(ends(&cluster, node).await);
    }
    eventually("each is renewed three times", PATIENCE, async || {
        let mut all = true;
        for (node, first) in first.iter().enumerate() {
            all &= first + 3 * RENEWED_EVERY <= ends(&cluster, node).await;
        }
        all
    })
    .await;
    traffic.stop().await;
    let status = cluster.status().await;
    assert!(status["settled"] == true && status["nodes"].as_array().unwrap().iter().all(|node| node["live"] == true));
    assert!(status["certificate"]["renews_at"].as_str() < status["certificate"]["expires_at"].as_str(), "{status}");

    // Off for longer than its certificate is good, and back as who it was; the others go on meanwhile.
    let open = Traffic::start(urls("/open/x"), key);
    let id = cluster.nodes[2].id();
    cluster.nodes[2].drain().await;
    wait_until_its_certificate_ends().await;
    cluster.nodes[2].spawn(None);
    cluster.nodes[2].wait_until_ready().await;
    assert_eq!(cluster.nodes[2].id(), id);
    assert!(cluster.nodes[2].log().contains("certificate had ended"), "{}", cluster.nodes[2].log());
    cluster.leader("control").await;
    let fourth = cluster.join().await;
    open.stop().await;

    // Without what it needs to sign itself one, it says what to do.
    let sealed = cluster.nodes[fourth].data.join("tls/ca.sealed");
    eventually("it has what it needs", PATIENCE, async || sealed.exists()).await;
    cluster.nodes[fourth].drain().await;
    std::fs::remove_file(sealed).unwrap();
    wait_until_its_certificate_ends().await;
    cluster.nodes[fourth].spawn(None);
    assert_ne!(cluster.nodes[fourth].wait_for_end().await, Some(0));
    let said = cluster.nodes[fourth].log();
    assert!(said.contains("certificate ended") && said.contains("join with a new token"), "{said}");
}
