//! A cluster of several releases: what one of them does not understand is refused, by name, until it is upgraded.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::caching::{counting, document, get};
use crate::harness::{Cluster, Node, eventually};

/// What this build says.
const LEVEL: u64 = 4;
/// The one before: without version 2 of the codec, which it neither writes nor reads.
const BEFORE: [&str; 2] = ["--feature-level", "3"];

async fn levels(cluster: &Cluster) -> Vec<u64> {
    levels_in(&cluster.status().await)
}

/// As `cluster status` shows them, by id.
pub(crate) fn levels_in(status: &Value) -> Vec<u64> {
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
        cluster.nodes[at].restart(&[]).await;
    }
    eventually("the status tells who understands what", Duration::from_secs(10), async || {
        levels(&cluster).await == [LEVEL, LEVEL, 1]
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

    cluster.nodes[2].restart(&[]).await;
    eventually("the status tells it", Duration::from_secs(10), async || levels(&cluster).await == [LEVEL; 3]).await;
    eventually("the leader has heard of it", Duration::from_secs(10), async || cluster.cli(&purge).await.is_ok()).await;
    cluster.cli(&weigh).await.unwrap();
    cluster.cli(&import).await.unwrap();
    cluster.cli(&["apply", newer]).await.unwrap();
    cluster.cli(&["apply", breaker]).await.unwrap();
}

/// A document of a megabyte and more, so that snapshots are taken of it; returns when every node has it.
async fn publish(cluster: &Cluster, plain: &str, said: &str) {
    let line = |n: u64| format!("# {said} {n} {:016x}\n", n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    cluster.apply(&format!("{plain}{}", (0..40_000).map(line).collect::<String>())).await;
}

/// Does a node keep this on its disk as it was written?
fn keeps(node: &Node, said: &str) -> bool {
    let plain = format!("# {said} ");
    let files = ["control", "quota"].iter().flat_map(|group| walk(&node.data.join(group)));
    files.into_iter().any(|file| {
        let bytes = std::fs::read(file).unwrap_or_default(); // It may have been put aside.
        bytes.windows(plain.len()).any(|part| part == plain.as_bytes())
    })
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { vec![entry.path()] }).collect()
}

/// Until one of these leads the control group, whoever leads it is started anew.
async fn led_by(cluster: &mut Cluster, these: &[usize]) {
    loop {
        let leader = cluster.leader("control").await;
        if these.contains(&leader) {
            return;
        }
        let extra = cluster.nodes[leader].extra.clone();
        cluster.nodes[leader].restart(&extra.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

/// The release that brought version 2 of the codec, and the one before it: entries and snapshots of each are read by the other,
/// back and forth, until the last is upgraded.
#[tokio::test]
async fn two_versions_of_the_codec_read_each_other_until_all_are_upgraded() {
    let origin = counting().await;
    let plain = document(&origin, "{}");
    let mut cluster = Cluster::start_with(3, &BEFORE).await;
    publish(&cluster, &plain, "all-before").await;

    cluster.nodes[0].restart(&[]).await;
    led_by(&mut cluster, &[1, 2]).await;
    publish(&cluster, &plain, "before-writes").await;
    cluster.nodes[1].restart(&[]).await;
    led_by(&mut cluster, &[0, 1]).await;
    publish(&cluster, &plain, "after-writes").await;
    assert!(cluster.nodes.iter().all(|node| keeps(node, "after-writes")), "written as the release before reads it");
    // Of the new release's snapshot and log one of the release before is made, and the new one goes back.
    cluster.extra = BEFORE.map(str::to_owned).to_vec();
    let fourth = cluster.join().await;
    get(&cluster, fourth, "/x").await;
    cluster.nodes[0].restart(&BEFORE).await;
    publish(&cluster, &plain, "gone-back").await;

    for node in [0, 2, fourth] {
        cluster.nodes[node].restart(&[]).await;
    }
    let mut round = 0;
    eventually("all write the new version", Duration::from_secs(30), async || {
        round += 1;
        let said = format!("all-after-{round}");
        publish(&cluster, &plain, &said).await;
        !cluster.nodes.iter().any(|node| keeps(node, &said))
    })
    .await;

    // Now there is no way back, which is said, and harms nobody.
    let node = &mut cluster.nodes[2];
    node.drain().await;
    node.extra = BEFORE.map(str::to_owned).to_vec();
    node.spawn(None);
    eventually("it says why", Duration::from_secs(30), async || {
        node.log().contains("format version 2, which a newer release wrote; this one reads up to 1")
    })
    .await;
    node.kill().await;
    publish(&cluster, &plain, "meanwhile").await;
    cluster.nodes[2].extra.clear();
    cluster.nodes[2].spawn(None);
    cluster.nodes[2].wait_until_ready().await;
    publish(&cluster, &plain, "again").await;
    let late = cluster.begin_join().await;
    assert_ne!(cluster.nodes[late].wait_for_end().await, Some(0));
    let said = cluster.nodes[late].log();
    assert!(said.contains("feature level 3 and every node of the cluster has at least 4"), "{said}");
}
