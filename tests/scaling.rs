//! Three nodes become seven and three again, at twice the limit.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::harness::{Backend, Client, Cluster};
use crate::walk::document;

/// Twice the limit, in turn over the nodes that are in service.
struct Load {
    urls: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    admitted: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(urls: Vec<String>, key: String, per_second: u64) -> Self {
        let (urls, stop) = (Arc::new(Mutex::new(urls)), Arc::new(AtomicBool::new(false)));
        let (asked, admitted) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let (all, ends, good, bad) = (urls.clone(), stop.clone(), admitted.clone(), failed.clone());
        let sent = asked.clone();
        let task = tokio::spawn(async move {
            let (client, mut at, mut nth) = (Client::new(), Instant::now(), 0_usize);
            let mut requests = tokio::task::JoinSet::new();
            while !ends.load(Ordering::Relaxed) {
                at += Duration::from_micros(1_000_000 / per_second);
                tokio::time::sleep_until(at).await;
                nth += 1;
                sent.fetch_add(1, Ordering::Relaxed);
                let url = {
                    let urls = all.lock().unwrap();
                    urls[nth % urls.len()].clone()
                };
                let (client, key, good, bad) = (client.clone(), key.clone(), good.clone(), bad.clone());
                requests.spawn(async move {
                    match client.get(&url, &[("authorization", &key)]).await {
                        Ok(answer) if answer.status == StatusCode::OK => _ = good.fetch_add(1, Ordering::Relaxed),
                        Ok(answer) if answer.status == StatusCode::TOO_MANY_REQUESTS => {}
                        Ok(answer) => {
                            let text = String::from_utf8_lossy(&answer.body).into_owned();
                            bad.lock()
                                .unwrap()
                                .push(format!("{url}: {} {:?} {text}", answer.status, answer.headers["date"]));
                        }
                        Err(why) => bad.lock().unwrap().push(format!("{url}: {why:?}")),
                    }
                });
                while requests.try_join_next().is_some() {}
            }
            requests.join_all().await;
        });
        Self { urls, stop, asked, admitted, failed, task }
    }
}

/// The longest that this machine kept somebody waiting who wanted the processor for a moment, and a disk for one page. Who would
/// be refused waits one and a half seconds for a leader; beyond that a node counts it as gone, and rightly says 503.
pub(crate) fn watch(folder: std::path::PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Duration> {
    std::thread::spawn(move || {
        let mut worst = Duration::ZERO;
        while !stop.load(Ordering::Relaxed) {
            let began = std::time::Instant::now();
            std::fs::write(folder.join("probe"), b"x").unwrap();
            std::fs::File::open(folder.join("probe")).unwrap().sync_all().unwrap();
            std::thread::sleep(Duration::from_millis(10));
            worst = worst.max(began.elapsed());
        }
        worst
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_become_seven_and_three_again_at_twice_the_limit_without_a_failed_request() {
    const MAX: u64 = 400;
    const WINDOW: u64 = 4;
    let backend = Backend::start().await;
    let mut cluster = Cluster::start_with(3, &["--leave"]).await;
    cluster.apply(&document(&backend, MAX, &format!("{WINDOW}s"))).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let urls = cluster.nodes.iter().map(|node| node.url("/limited/x")).collect();
    let began = Instant::now();
    let load = Load::start(urls, key, 2 * MAX / WINDOW);
    let folder = tempfile::tempdir().unwrap();
    let watched = watch(folder.path().to_owned(), load.stop.clone());
    tokio::time::sleep(Duration::from_secs(4)).await;

    for _ in 0..4 {
        let at = cluster.join().await;
        load.urls.lock().unwrap().push(cluster.nodes[at].url("/limited/x"));
    }
    println!("seven after {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    for at in (3..7).rev() {
        let url = cluster.nodes[at].url("/limited/x");
        load.urls.lock().unwrap().retain(|known| *known != url);
        // As a balancer does: what is on its way arrives before it is told to go.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(cluster.nodes[at].drain().await, Some(0), "{}", cluster.nodes[at].log());
    }
    println!("three again after {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    load.stop.store(true, Ordering::Relaxed);
    load.task.await.unwrap();

    let verdict = cluster.verify(&backend.seen()).await;
    let failed = load.failed.lock().unwrap();
    let stalled = watched.join().unwrap();
    println!("{:?} admitted, {} failed, the machine stalled for {stalled:?}, {verdict}", load.admitted, failed.len());
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    // None on a machine that has time for us. A pause of a tenth of a second may be one of a leader and of a disk after the other,
    // and then who waits for both is told 503: of few, whatever the machine does.
    if stalled < Duration::from_millis(50) {
        assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    }
    let asked = load.asked.load(Ordering::Relaxed);
    assert!(failed.len() as u64 * 50 <= asked, "{} of {asked} failed:\n{}", failed.len(), failed.join("\n"));
    let only_undecided = failed.iter().all(|why| why.contains("limit_unavailable"));
    assert!(only_undecided, "whatever the machine does:\n{}", failed.join("\n"));
    let share = verdict["limits"][0]["admitted_share"].as_f64().unwrap();
    assert!(share >= 0.8, "only {share:.3} of the limit was admitted");
}
