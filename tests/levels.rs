//! A cluster of several releases: what one of them does not understand is refused, by name, until it is upgraded.

use std::time::Duration;

use crate::caching::{counting, document, get};
use crate::harness::{Cluster, Node, eventually};

/// Without the switch that makes a node say an older level: as after an upgrade.
async fn upgrade(node: &mut Node) {
    node.drain().await;
    node.extra.clear();
    node.spawn(None);
    node.wait_until_ready().await;
}

/// As `cluster status` shows them.
async fn levels(cluster: &Cluster) -> Vec<u64> {
    let status = cluster.status().await;
    let mut nodes: Vec<_> = status["nodes"].as_array().unwrap().iter().collect();
    nodes.sort_by_key(|node| node["id"].as_u64());
    nodes.iter().map(|node| node["feature_level"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn what_an_older_node_does_not_understand_is_refused_until_it_is_upgraded() {
    let origin = counting().await;
    let mut cluster = Cluster::start_with(3, &["--feature-level", "1"]).await;
    let plain = document(&origin, "{}");
    cluster.apply(&plain).await;
    get(&cluster, 0, "/x").await;
    // Two are upgraded, one after the other; the third is not, whoever is asked.
    for at in [0, 1] {
        upgrade(&mut cluster.nodes[at]).await;
    }
    eventually("the status tells who understands what", Duration::from_secs(10), async || {
        levels(&cluster).await == [2, 2, 1]
    })
    .await;
    let published = plain.replace("version: 1\n", "version: 1\ncache: {redis: {url: \"redis://127.0.0.1:1/\"}}\n");
    let newer = cluster.write("newer.yaml", &published);
    let breaker =
        cluster.write("breaker.yaml", &plain.replace("{name: origin,", "{name: origin, breaker: {stored: 1h},"));
    let (newer, breaker) = (newer.to_str().unwrap(), breaker.to_str().unwrap());
    let purge = ["cache", "purge", "example.com/x"];
    let weigh = ["upstream", "weight", "origin", &origin.address.to_string(), "3"];
    let made = rcgen::generate_simple_self_signed(vec!["api.test".to_owned()]).unwrap();
    let chain = cluster.write("api.pem", &made.cert.pem());
    let key = cluster.write("api.key", &made.signing_key.serialize_pem());
    let import = ["cert", "import", "api", "--cert", chain.to_str().unwrap(), "--key", key.to_str().unwrap()];
    for node in 0..3 {
        for (words, what) in [
            (&purge[..], "a purge"),
            (&weigh[..], "a ruling about an endpoint"),
            (&import[..], "a stored certificate"),
            (&["apply", newer][..], "`cache.redis`"),
            (&["apply", breaker][..], "`breaker.stored`"),
        ] {
            let said = cluster.cli_at(node, words).await.expect_err("one node does not understand it");
            let id = cluster.nodes[2].id();
            for part in [what, "feature level 2", &format!("node {id} (n3, release "), "has 1", "upgrade"] {
                assert!(said.contains(part), "{part:?} is not in {said}");
            }
            for upgraded in ["(n1", "(n2"] {
                assert!(!said.contains(upgraded), "{said}");
            }
        }
    }
    // What every release knows goes on, and nothing of what was refused is in force.
    assert_eq!(cluster.status().await["revision"], 1);
    cluster.cli(&["key", "create", "acme"]).await.expect_err("no such consumer in the document");
    cluster.cli(&["cluster", "token"]).await.unwrap();
    cluster.apply(&plain).await;

    upgrade(&mut cluster.nodes[2]).await;
    eventually("the status tells it", Duration::from_secs(10), async || levels(&cluster).await == [2, 2, 2]).await;
    eventually("the leader has heard of it", Duration::from_secs(10), async || cluster.cli(&purge).await.is_ok()).await;
    cluster.cli(&weigh).await.unwrap();
    cluster.cli(&import).await.unwrap();
    cluster.cli(&["apply", newer]).await.unwrap();
    cluster.cli(&["apply", breaker]).await.unwrap();
}
