//! Clusters in one process, over real QUIC on loopback and real files.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cluster::{Cluster, Error, JoinToken, Readiness, Settings, Start};
use tidegate_model::{NodeId, Revision};
use tidegate_state::{Command, Format, Outcome, Publish};

struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self, name: &str, start: Start) -> Settings {
        let mut settings = Settings::new(self.of(name), start);
        settings.name = name.into();
        settings.join_patience = Duration::from_secs(10);
        settings
    }

    async fn bootstrap(&self, name: &str) -> Cluster {
        Cluster::start(self.settings(name, Start::Bootstrap)).await.unwrap()
    }

    async fn join(&self, name: &str, through: &Cluster) -> Cluster {
        let token = through.create_join_token(None, 1).await.unwrap();
        let cluster = self.try_join(name, through, token).await.unwrap();
        ready(&cluster).await;
        cluster
    }

    async fn try_join(&self, name: &str, through: &Cluster, token: JoinToken) -> Result<Cluster, Error> {
        let address = through.addresses().peer.clone();
        Cluster::start(self.settings(name, Start::Join { address, token })).await
    }

    /// The same node, at the same address.
    async fn resume(&self, name: &str, address: &str) -> Cluster {
        let mut settings = self.settings(name, Start::Resume);
        settings.bind = address.parse().unwrap();
        Cluster::start(settings).await.unwrap()
    }

    async fn three(&self) -> [Cluster; 3] {
        let first = self.bootstrap("a").await;
        let second = self.join("b", &first).await;
        let third = self.join("c", &first).await;
        voters(&first, &[1, 2, 3]).await;
        [first, second, third]
    }
}

async fn until(what: &str, patience: u64, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(patience);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {patience} s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ready(cluster: &Cluster) {
    until("ready", 10, async || cluster.readiness() == Readiness::Ready).await;
}

async fn voters(cluster: &Cluster, expected: &[u64]) {
    until(&format!("voters {expected:?}"), 20, async || {
        let status = cluster.status().await;
        let is = |voters: &std::collections::BTreeSet<NodeId>| voters.iter().map(|node| node.0).eq(expected.iter().copied());
        is(&status.control.group.voters) && status.control.group.leader.is_some()
    })
    .await;
}

fn document(text: &str) -> Command {
    Command::PublishDocument(Publish {
        document: text.into(),
        format: Format::Yaml,
        replaces: None,
        author: "spec".into(),
        note: String::new(),
        policies: Revision(0),
    })
}

fn text(cluster: &Cluster) -> String {
    cluster.read(|state| state.documents.latest().map(|published| published.document.to_string()).unwrap_or_default())
}

async fn leader<'a>(nodes: &'a [Cluster]) -> &'a Cluster {
    let mut found = None;
    until("a leader", 10, async || {
        let status = nodes[0].status().await;
        found = nodes.iter().find(|node| Some(node.node()) == status.control.group.leader);
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_a_cluster_and_agree() {
    let home = Home::new();
    let nodes = home.three().await;
    // From a follower: applied there when it returns, and everywhere soon after.
    let applied = nodes[2].propose(document("version: 1")).await.unwrap();
    assert_eq!(applied.outcome, Outcome::Published { revision: Revision(1) });
    assert_eq!(text(&nodes[2]), "version: 1");
    let everywhere = nodes[1].wait_applied_everywhere(applied.index, Duration::from_secs(5)).await.unwrap();
    assert_eq!(everywhere.acked, [NodeId(1), NodeId(2), NodeId(3)]);
    for node in &nodes {
        assert_eq!(text(node), "version: 1");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_its_leader_and_a_restart_from_disk() {
    let home = Home::new();
    let mut nodes = home.three().await.to_vec();
    nodes[0].propose(document("one")).await.unwrap();
    let first = leader(&nodes).await.node();
    let at = nodes.iter().position(|node| node.node() == first).unwrap();
    let dead = nodes.remove(at);
    let address = dead.addresses().peer.clone();
    dead.shutdown().await;
    let killed = Instant::now();
    nodes[0].propose(document("two")).await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(3), "failover took {:?}", killed.elapsed());

    let name = ["a", "b", "c"][usize::try_from(first.0).unwrap() - 1];
    let back = home.resume(name, &address).await;
    assert_eq!(back.node(), first);
    ready(&back).await;
    assert_eq!(text(&back), "two");
    for node in nodes.iter().chain([&back]) {
        node.shutdown().await;
    }
}
