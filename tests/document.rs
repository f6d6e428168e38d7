//! Documents: refused whole or in effect everywhere.

use http::StatusCode;

use crate::harness::{Backend, Cluster};
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
