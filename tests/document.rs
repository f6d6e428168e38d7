//! Documents: refused whole or in effect everywhere.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

#[tokio::test]
async fn an_applied_document_is_served_everywhere_when_apply_returns() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    for round in 0..5 {
        let text = document(&backend, 10, "60s").replace("/open/", &format!("/open{round}/"));
        cluster.apply(&text).await;
        for node in &cluster.nodes {
            let answer = cluster.client.get(&node.url(&format!("/open{round}/x")), &[]).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK, "round {round}, {}", node.name);
        }
    }
    let history = cluster.cli(&["history"]).await.unwrap();
    let revisions = history.as_array().or_else(|| history["revisions"].as_array()).map_or(0, Vec::len);
    assert_eq!(revisions, 5, "{history}");
}

#[tokio::test]
async fn a_rejected_document_names_every_problem_and_changes_nothing() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(1).await);
    let good = document(&backend, 10, "60s");
    cluster.apply(&good).await;
    let bad = good.replace("limits: [per-key]", "limits: [per-kee]").replace("upstream: echo", "upstream: ecko");
    let path = cluster.write("bad.yaml", &bad);
    let said = cluster.cli(&["apply", path.to_str().unwrap()]).await.expect_err("refused");
    assert!(said.starts_with("exit Some(1)"), "{said}");
    for word in ["per-kee", "per-key", "ecko", "echo", "bad.yaml"] {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    assert_eq!(cluster.status().await["revision"], 1);
    let answer = cluster.client.get(&cluster.nodes[0].url("/open/x"), &[]).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_rollback_brings_an_old_text_back_but_no_revoked_key() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend, 10, "60s")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    cluster.cli(&["key", "revoke", "1"]).await.unwrap();
    cluster.apply(&document(&backend, 10, "60s").replace("/open/", "/closed/")).await;
    let url = cluster.nodes[0].url("/open/x");
    assert_eq!(cluster.client.get(&url, &[]).await.unwrap().status, StatusCode::NOT_FOUND);
    cluster.cli(&["rollback", "1", "--wait"]).await.unwrap();
    assert_eq!(cluster.client.get(&url, &[]).await.unwrap().status, StatusCode::OK);
    assert_eq!(cluster.status().await["revision"], 3);
    let limited = cluster.nodes[0].url("/limited/x");
    let status = cluster.client.get(&limited, &[("authorization", &key)]).await.unwrap().status;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
}

/// What a new key may do on a node before it is refused: the maximum that is in force.
async fn maximum(cluster: &Cluster, node: usize) -> u64 {
    let key = format!("Bearer {}", cluster.key("acme").await);
    let url = cluster.nodes[node].url("/limited/x");
    let ask = async || cluster.client.get(&url, &[("authorization", &key)]).await.unwrap().status;
    let mut admitted = 0;
    eventually("the limit is reached", Duration::from_secs(10), async || match ask().await {
        StatusCode::OK => {
            admitted += 1;
            false
        }
        // Not known here yet; or an election goes on.
        StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE => false,
        StatusCode::TOO_MANY_REQUESTS => true,
        other => panic!("{other}"),
    })
    .await;
    admitted
}

/// The limits' part of publishing takes a few milliseconds before the document's entry and a few after it: a publisher
/// is killed at many moments around them. Whatever is published then, its limits are in force, and no others.
#[tokio::test]
async fn limits_in_force_are_those_of_the_published_document_wherever_its_publisher_dies() {
    /// What the quota leader takes to notice that a publisher left its work undone, elections apart.
    const BOUND: Duration = Duration::from_secs(15);
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 3, "60s")).await;
    let mut before = 3;
    for (round, millis) in [2, 5, 8, 12, 16, 25].into_iter().enumerate() {
        let max = 4 + round as u64;
        let publisher = round % 3;
        let path = cluster.write("next.yaml", &document(&backend, max, "60s"));
        let url = cluster.nodes[publisher].admin("/v1/document");
        let token = format!("Bearer {}", cluster.token);
        let body = bytes::Bytes::from(std::fs::read(path).unwrap());
        let client = cluster.client.clone();
        let asked = tokio::spawn(async move {
            let headers = [("authorization", token.as_str()), ("content-type", "application/yaml")];
            client.send(http::Method::PUT, &url, &headers, body).await.map(|answer| answer.status)
        });
        tokio::time::sleep(Duration::from_millis(millis)).await;
        cluster.nodes[publisher].kill().await;
        let said = asked.await.unwrap();
        let survivor = (publisher + 1) % 3;
        let killed = Instant::now();
        let mut seen = (0, 0);
        eventually("the published document's limits are in force", BOUND, async || {
            // Nobody can tell what is newest while there is no leader.
            let Ok(published) = cluster.cli_at(survivor, &["get"]).await else { return false };
            let means = published["limits"][0]["max"].as_u64().unwrap();
            seen = (means, maximum(&cluster, survivor).await);
            seen.0 == seen.1
        })
        .await;
        println!("after {millis} ms: {said:?}, max {} in force within {:?}", seen.0, killed.elapsed());
        assert!([before, max].contains(&seen.0), "{seen:?} in round {round}");
        before = seen.0;
        cluster.nodes[publisher].spawn(None);
        cluster.nodes[publisher].wait_until_ready().await;
    }
}
