//! Zones: machines that are lost together. Voters are spread over them.

use std::time::Duration;

use http::StatusCode;

use crate::harness::{Backend, Cluster, Node, eventually};
use crate::members::voters;
use crate::walk::document;

const SOON: Duration = Duration::from_secs(30);

/// One node in each of these zones, in this order.
async fn in_zones(zones: &[&str]) -> Cluster {
    let mut cluster = Cluster::start_with(1, &["--zone", zones[0]]).await;
    for zone in &zones[1..] {
        cluster.extra = vec!["--zone".to_owned(), (*zone).to_owned()];
        cluster.join().await;
    }
    cluster
}

fn zone(node: &Node) -> &str {
    &node.extra[1]
}

#[tokio::test]
async fn five_nodes_in_three_zones_lose_one_and_both_groups_go_on() {
    let backend = Backend::start().await;
    let mut cluster = in_zones(&["a", "a", "b", "b", "c"]).await;
    eventually("five vote", SOON, async || voters(&cluster).await == [1, 2, 3, 4, 5]).await;
    cluster.apply(&document(&backend, 1_000, "60s")).await;
    let key = cluster.bearer("acme", "/limited/x").await;
    let status = cluster.status().await;
    let told: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|node| node["zone"].clone()).collect();
    assert_eq!(told, ["a", "a", "b", "b", "c"], "{status}");

    // The control leader's, which holds two votes of five at most.
    let lost = zone(&cluster.nodes[cluster.leader("control").await]).to_owned();
    for node in cluster.nodes.iter_mut().filter(|node| zone(node) == lost) {
        node.kill().await;
    }
    cluster.apply(&document(&backend, 2_000, "60s").replace("/open/", "/second/")).await;
    cluster.leader("quota").await;
    for node in cluster.nodes.iter().filter(|node| node.is_running()) {
        // Its limit is counted by the quota group.
        eventually("it is admitted by the others", SOON, async || {
            let answer = cluster.client.get(&node.url("/limited/x"), &[("authorization", &key)]).await;
            answer.is_ok_and(|answer| answer.status == StatusCode::OK)
        })
        .await;
    }
    for node in cluster.nodes.iter_mut().filter(|node| !node.is_running()) {
        node.spawn(None);
        node.wait_until_ready().await;
    }
    eventually("all of them vote", SOON, async || voters(&cluster).await == [1, 2, 3, 4, 5]).await;
}

#[tokio::test]
async fn votes_move_to_zones_that_have_none_and_then_stay() {
    let mut cluster = in_zones(&["a", "a", "a"]).await;
    eventually("three vote", SOON, async || voters(&cluster).await == [1, 2, 3]).await;
    for zone in ["b", "c"] {
        cluster.extra = vec!["--zone".to_owned(), zone.to_owned()];
        cluster.join().await;
    }
    // Five votes would be three in `a`: its loss would be the cluster's.
    let spread = async || {
        let voters = voters(&cluster).await;
        let zones: Vec<&str> = voters.iter().map(|id| zone(&cluster.nodes[*id as usize - 1])).collect();
        zones == ["a", "b", "c"]
    };
    eventually("each zone has a vote", SOON, spread).await;
    let before = voters(&cluster).await;
    let lost = cluster.nodes.iter().position(|node| Some(&node.id()) == before.first()).unwrap();
    cluster.nodes[lost].kill().await;
    // Another of its zone takes its place.
    let whole = async || {
        let now = voters(&cluster).await;
        now.len() == 3 && !now.contains(&before[0]) && now.ends_with(&before[1..])
    };
    eventually("another of its zone votes", SOON, whole).await;
}
