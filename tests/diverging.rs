//! A node whose state is another one than everybody else's: found by the others, and named.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

/// Comparisons are made each ten seconds.
const FOUND: Duration = Duration::from_secs(60);

/// Ids of the nodes of which the doctor says that they differ.
async fn named(cluster: &Cluster) -> Vec<u64> {
    let (_, report) = cluster.told_at(0, &["cluster", "doctor"]).await;
    let found = report["findings"].as_array().unwrap_or_else(|| panic!("{report}")).iter();
    let differs =
        |found: &&Value| found["what"].as_str().is_some_and(|what| what.contains("another state than the majority"));
    found.filter(differs).filter_map(|found| found["node"].as_u64()).collect()
}

async fn a_planted_divergence_is_found(group: &str) {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 400, "4s")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let compared = format!("tidegate_state_compared_nodes{{group=\"{group}\"}} 3");
    eventually("all three were compared", FOUND, async || {
        // Entries come meanwhile, as they do where there is traffic.
        for node in &cluster.nodes {
            cluster.client.get(&node.url("/limited/x"), &[("authorization", &key)]).await.unwrap();
        }
        cluster.metrics(0).await.contains(&compared)
    })
    .await;
    assert!(named(&cluster).await.is_empty());
    assert_eq!(cluster.status().await["alarms"], serde_json::json!([]));

    cluster.nodes[2].drain().await;
    cluster.nodes[2].extra.extend(["--diverge".to_owned(), group.to_owned()]);
    cluster.nodes[2].spawn(None);
    cluster.nodes[2].wait_until_ready().await;
    let broken = cluster.nodes[2].id();
    eventually("it is named", FOUND, async || named(&cluster).await == [broken]).await;
    let status = cluster.status().await;
    let alarm = status["alarms"][0].as_str().unwrap_or_else(|| panic!("{status}"));
    assert!(alarm.contains(&format!("the {group} state of node {broken} differs from the majority")), "{alarm}");
    let mine = format!("tidegate_state_diverged{{group=\"{group}\"}} 1");
    assert!(cluster.metrics(2).await.contains(&mine) && !cluster.metrics(0).await.contains(&mine));
    assert!(cluster.nodes[0].log().contains("DIVERGED"), "{}", cluster.nodes[0].log());
    assert_eq!(cluster.cli_at(2, &["cluster", "status"]).await.unwrap()["readiness"], "degraded");

    // As the alarm says: removed, and joined anew.
    cluster.cli_at(0, &["cluster", "remove", &broken.to_string()]).await.unwrap();
    cluster.nodes[2].kill().await;
    cluster.join().await;
    eventually("nothing differs any more", FOUND, async || {
        named(&cluster).await.is_empty() && cluster.metrics(0).await.contains(&compared)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_state_that_differs_is_found_named_and_mended() {
    a_planted_divergence_is_found("control").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_differs_is_found_named_and_mended() {
    a_planted_divergence_is_found("quota").await;
}
