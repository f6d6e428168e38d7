//! Reading what the cluster agreed on: from any node, as new as from the one that was told.

use std::time::Duration;

use crate::harness::{Backend, Cluster};
use crate::walk::document;

#[tokio::test]
async fn what_one_node_acknowledged_every_other_shows_at_once() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 10, "60s")).await;
    let path = cluster.write("next.yaml", &document(&backend, 10, "60s"));
    let token = format!("Bearer {}", cluster.token);
    let headers = [("authorization", token.as_str())];
    for round in 0..20_u64 {
        let (writer, reader) = (round as usize % 3, (round as usize + 1) % 3);
        let url = cluster.nodes[writer].admin("/v1/document");
        let text = std::fs::read(&path).unwrap();
        let told = cluster.client.send(http::Method::PUT, &url, &headers, text).await.unwrap();
        assert_eq!(told.json()["revision"], round + 2, "{told:?}");
        let read = cluster.client.get(&cluster.nodes[reader].admin("/v1/document"), &headers).await.unwrap();
        assert_eq!(read.json()["revision"], round + 2, "{} after {}", cluster.nodes[reader].name, writer);
        let url = cluster.nodes[writer].admin("/v1/keys");
        let made = cluster.client.send(http::Method::POST, &url, &headers, r#"{"consumer":"acme"}"#).await.unwrap();
        assert_eq!(made.status, http::StatusCode::CREATED, "{made:?}");
        let read = cluster.client.get(&cluster.nodes[reader].admin("/v1/keys"), &headers).await.unwrap();
        assert_eq!(read.json()["keys"].as_array().map(Vec::len), Some(round as usize + 1), "{read:?}");
    }
}

#[tokio::test]
async fn without_a_quorum_a_read_says_so_and_shows_what_there_is_when_asked() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend, 10, "60s")).await;
    cluster.nodes[1].kill().await;
    cluster.nodes[2].kill().await;
    for words in [["get"].as_slice(), &["history"], &["key", "ls"]] {
        let asked = tokio::time::timeout(Duration::from_secs(15), cluster.cli_at(0, words)).await;
        let said = asked.expect("it does not hang").expect_err("nobody can tell what is newest");
        assert!(said.contains("--stale"), "{words:?}: {said}");
        let stale = [words, &["--stale"]].concat();
        cluster.cli_at(0, &stale).await.unwrap_or_else(|said| panic!("{stale:?}: {said}"));
    }
}
