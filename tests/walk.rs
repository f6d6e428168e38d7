//! The thinnest whole: a cluster, a document, a key, a limit.

use http::StatusCode;

use crate::harness::{Backend, Cluster};

/// A document with an open and a limited route to one backend.
pub(crate) fn document(backend: &Backend, max: u64, window: &str) -> String {
    let address = backend.address;
    format!(
        "\
version: 1
consumers:
  - {{name: acme, plan: gold}}
plans:
  - {{name: gold, limits: [per-key]}}
limits:
  - {{name: per-key, window: {window}, max: {max}, per: [key]}}
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: open
    match: {{path: /open/*}}
    to: [{{upstream: echo}}]
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: echo}}]
    auth: [key]
"
    )
}

#[tokio::test]
async fn one_node_without_any_flag_but_addresses_serves_a_document() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(1).await);
    cluster.apply(&document(&backend, 5, "60s")).await;
    let answer = cluster.client.get(&cluster.nodes[0].url("/open/x"), &[]).await.unwrap();
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"ok\n"[..]));
    let nowhere = cluster.client.get(&cluster.nodes[0].url("/nowhere"), &[]).await.unwrap();
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    assert!(nowhere.json()["error"]["request_id"].is_string());
}

#[tokio::test]
async fn three_nodes_count_one_limit_once() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 10, "60s")).await;
    let key = format!("Bearer {}", cluster.key("acme").await);
    let mut statuses = Vec::new();
    for _ in 0..10 {
        for node in &cluster.nodes {
            let answer = cluster.client.get(&node.url("/limited/x"), &[("authorization", &key)]).await.unwrap();
            if answer.status == StatusCode::TOO_MANY_REQUESTS {
                assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
                assert!(answer.headers.contains_key("ratelimit"), "{:?}", answer.headers);
                assert_eq!(answer.json()["error"]["code"], "rate_limited");
            }
            statuses.push(answer.status.as_u16());
        }
    }
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(admitted, 10, "{statuses:?}");
    let verdict = cluster.verify(&backend.seen()).await;
    assert_eq!(verdict["worst_window_ratio"], 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
}

#[tokio::test]
async fn a_key_works_on_every_node_until_it_is_revoked() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 1_000, "60s")).await;
    let secret = cluster.key("acme").await;
    let key = format!("Bearer {secret}");
    for node in &cluster.nodes {
        let url = node.url("/limited/x");
        assert_eq!(cluster.client.get(&url, &[]).await.unwrap().status, StatusCode::UNAUTHORIZED);
        let wrong = cluster.client.get(&url, &[("authorization", "Bearer tg_wrong")]).await.unwrap();
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
        loop {
            let status = cluster.client.get(&url, &[("authorization", &key)]).await.unwrap().status;
            if status == StatusCode::OK {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the key is not known on {}: {status}", node.name);
        }
    }
    let keys = cluster.cli(&["key", "ls"]).await.unwrap();
    let keys = keys.as_array().or_else(|| keys["keys"].as_array()).unwrap().clone();
    assert!(!keys[0].to_string().contains(&secret), "a list never shows a secret");
    let id = keys[0]["id"].to_string();
    cluster.cli(&["key", "revoke", id.trim_matches('"')]).await.unwrap();
    for node in &cluster.nodes {
        let status = cluster.client.get(&node.url("/limited/x"), &[("authorization", &key)]).await.unwrap().status;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "revoked, also on {}", node.name);
    }
}
