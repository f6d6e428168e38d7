//! What operators see of a cluster: `tidegate top`, `tidegate cluster doctor`.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::harness::{Backend, Cluster, TIDEGATE, eventually};

fn document(backend: &Backend) -> String {
    format!(
        "\
version: 1
upstreams: [{{name: plain, endpoints: [{{url: \"http://{}\"}}]}}]
routes: [{{name: all, match: {{path: /*}}, to: [{{upstream: plain}}]}}]
",
        backend.address
    )
}

/// What the doctor finds that is worse than good to know.
async fn findings(cluster: &Cluster) -> Vec<(String, Option<u64>, String)> {
    let (_, report) = cluster.told_at(0, &["cluster", "doctor"]).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = report["findings"].as_array().unwrap_or_else(|| panic!("{report}")).iter();
    let all = all.map(|found| (text(&found["severity"]), found["node"].as_u64(), text(&found["what"])));
    all.filter(|(severity, ..)| severity != "info").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_nothing_in_a_cluster_that_is_well_and_names_a_node_that_died() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend)).await;
    eventually("nothing is wrong", Duration::from_secs(30), async || findings(&cluster).await.is_empty()).await;
    assert_eq!(cluster.told_at(0, &["cluster", "doctor"]).await.0, Some(0));
    cluster.nodes[2].kill().await;
    let (id, mut found) = (cluster.nodes[2].id(), Vec::new());
    eventually("the dead one is named", Duration::from_secs(30), async || {
        found = findings(&cluster).await;
        found.iter().any(|(severity, node, _)| severity == "critical" && *node == Some(id))
    })
    .await;
    assert!(found.iter().any(|(.., what)| what.contains("2 of 3 voters live")), "{found:?}");
    assert_eq!(cluster.told_at(0, &["cluster", "doctor"]).await.0, Some(1), "a program sees it by the exit code");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_that_the_quorum_is_lost_and_top_goes_on_when_whom_it_asked_dies() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend)).await;
    eventually("nothing is wrong", Duration::from_secs(30), async || findings(&cluster).await.is_empty()).await;
    let mut top = Command::new(TIDEGATE)
        .args(["--admin", &format!("http://{}", cluster.nodes[2].ready.as_ref().unwrap().admin), "-o", "json"])
        .args(["--token", &cluster.token, "top", "--interval", "500ms"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut views = BufReader::new(top.stdout.take().unwrap()).lines();
    let gone = cluster.nodes[2].id();
    let silent = |view: &str| -> Vec<u64> {
        let view: Value = serde_json::from_str(view).unwrap();
        let rows = view["nodes"].as_array().unwrap().iter();
        rows.filter(|row| row["readiness"].is_null()).map(|row| row["id"].as_u64().unwrap()).collect()
    };
    assert!(silent(&views.next_line().await.unwrap().expect("a view")).is_empty());
    cluster.nodes[2].kill().await;
    let seen = async { while silent(&views.next_line().await.unwrap().expect("it goes on")) != vec![gone] {} };
    tokio::time::timeout(Duration::from_secs(60), seen).await.expect("top tells that it, and nobody else, is silent");

    cluster.nodes[1].kill().await;
    let mut found = Vec::new();
    eventually("the quorum is lost", Duration::from_secs(60), async || {
        found = findings(&cluster).await;
        found.iter().any(|(severity, _, what)| severity == "critical" && what.contains("quorum is lost: 1 of 3"))
    })
    .await;
    for dead in [1, 2].map(|at| cluster.nodes[at].id()) {
        assert!(
            found.iter().any(|(_, node, what)| *node == Some(dead) && what.contains("does not answer")),
            "{found:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_all_nodes_and_what_they_are_asked() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(&backend)).await;
    let asking = async {
        loop {
            for node in &cluster.nodes {
                assert_eq!(cluster.client.get(&node.url("/"), &[]).await.unwrap().status, 200);
            }
        }
    };
    let looking = cluster.told_at(0, &["top", "--interval", "1s", "--rounds", "1"]);
    let (code, view) = tokio::select! {
        looked = looking => looked,
        () = asking => unreachable!("it never ends"),
    };
    assert_eq!(code, Some(0));
    let nodes = view["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3, "{view}");
    for node in nodes {
        assert!(node["requests"].as_f64().unwrap() > 0.0 && node["readiness"] == "ready", "{view}");
        assert!(node["memory_bytes"].as_f64().unwrap() > 1e6, "{view}");
    }
    assert_eq!(view["routes"][0]["route"], "all", "{view}");
    assert!(view["routes"][0]["mean_seconds"].as_f64().unwrap() > 0.0, "{view}");
}
