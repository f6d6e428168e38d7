//! Some nodes that know each other.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::node::{Node, TIDEGATE};
use super::wire::Switchboard;
use super::{Client, eventually};

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) token: String,
    pub(crate) client: Client,
    board: Switchboard,
    /// For the nodes that join.
    pub(crate) extra: Vec<String>,
    folder: TempDir,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// `extra`: further words on each node's command line.
    pub(crate) async fn start_with(count: usize, extra: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("tidegate-spec-").tempdir().unwrap();
        let board = Switchboard::default();
        let mut first = Node::new(folder.path(), "n1", &board, extra).await;
        first.spawn(None);
        first.wait_until_ready().await;
        let token = std::fs::read_to_string(first.data.join("admin.token")).unwrap().trim().to_owned();
        let mut cluster = Self {
            nodes: vec![first],
            token,
            client: Client::new(),
            board,
            extra: extra.iter().map(|word| (*word).to_owned()).collect(),
            folder,
        };
        for _ in 1..count {
            cluster.join().await;
        }
        cluster
            .wait_for_voters(if count >= 5 {
                5
            } else if count >= 3 {
                3
            } else {
                1
            })
            .await;
        cluster
    }

    /// Nodes that are all told the same, none of them started: `listed` of them are the initial peers.
    pub(crate) async fn told_the_same(count: usize, listed: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("tidegate-spec-").tempdir().unwrap();
        let board = Switchboard::default();
        let token = format!("tga_{}", "5".repeat(40));
        let files = [("cluster.secret", "0123456789abcdef0123456789abcdef\n"), ("first.token", token.as_str())];
        let [secret, first_token] = files.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        });
        let mut nodes = Vec::new();
        for number in 1..=count {
            nodes.push(Node::new(folder.path(), &format!("n{number}"), &board, &[]).await);
        }
        let peers: Vec<String> = nodes[..listed].iter().map(|node: &Node| node.wire.address.to_string()).collect();
        let (peers, words) =
            (peers.join(","), ["--initial-peers", "--cluster-secret-file", "--first-admin-token-file"]);
        for node in &mut nodes {
            let told = words.iter().zip([&peers, &secret, &first_token]);
            node.extra = told.flat_map(|(word, value)| [(*word).to_owned(), value.clone()]).collect();
        }
        Self { nodes, token, client: Client::new(), board, extra: Vec::new(), folder }
    }

    /// Starts one more node and waits until it is ready; its position.
    pub(crate) async fn join(&mut self) -> usize {
        let at = self.begin_join().await;
        self.nodes[at].wait_until_ready().await;
        at
    }

    pub(crate) async fn begin_join(&mut self) -> usize {
        let member = self.nodes.iter().position(Node::is_running).expect("somebody to join");
        let token = self.cli_at(member, &["cluster", "token"]).await.expect("a join token");
        let token = token["token"].as_str().unwrap().to_owned();
        let extra: Vec<_> = self.extra.iter().map(String::as_str).collect();
        let name = format!("n{}", self.nodes.len() + 1);
        let mut node = Node::new(self.folder.path(), &name, &self.board, &extra).await;
        node.spawn(Some((self.nodes[member].wire.address, &token)));
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Kills all, and starts them again.
    pub(crate) async fn restart(&mut self) {
        for node in &mut self.nodes {
            node.kill().await;
        }
        for node in &mut self.nodes {
            node.spawn(None);
        }
        for node in &mut self.nodes {
            node.wait_until_ready().await;
        }
    }

    /// Runs the CLI against a node; its JSON, or what it said when it refused.
    pub(crate) async fn cli_at(&self, node: usize, words: &[&str]) -> Result<Value, String> {
        let output = self.asked(node, words).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(format!("exit {:?}: {out}{err}", output.status.code()));
        }
        Ok(serde_json::from_str(&out).unwrap_or_else(|why| panic!("{words:?}: {why}: {out}{err}")))
    }

    /// For commands whose exit code says something as well.
    pub(crate) async fn told_at(&self, node: usize, words: &[&str]) -> (Option<i32>, Value) {
        let output = self.asked(node, words).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let told = serde_json::from_str(&out).unwrap_or_else(|why| panic!("{words:?}: {why}: {out}{err}"));
        (output.status.code(), told)
    }

    async fn asked(&self, node: usize, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(TIDEGATE);
        command.args(words).args(["-o", "json"]);
        command.env("TIDEGATE_ADMIN", self.nodes[node].admin("")).env("TIDEGATE_TOKEN", &self.token);
        command.output().await.unwrap()
    }

    pub(crate) async fn cli(&self, words: &[&str]) -> Result<Value, String> {
        let node = self.nodes.iter().position(Node::is_running).expect("a node to ask");
        self.cli_at(node, words).await
    }

    /// What a node tells Prometheus.
    pub(crate) async fn metrics(&self, node: usize) -> String {
        let answer = self.client.get(&self.nodes[node].admin("/metrics"), &[]).await.unwrap();
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Publishes a document and waits until every node serves it.
    pub(crate) async fn apply(&self, document: &str) {
        let path = self.write("document.yaml", document);
        self.cli(&["apply", path.to_str().unwrap(), "--wait"]).await.expect("the document is good");
    }

    /// A new key of a consumer: its secret.
    pub(crate) async fn key(&self, consumer: &str) -> String {
        let key = self.cli(&["key", "create", consumer]).await.expect("a key");
        let secret = key.get("secret").or_else(|| key.get("key")).and_then(Value::as_str);
        secret.unwrap_or_else(|| panic!("no secret in {key}")).to_owned()
    }

    /// A key of this consumer as it is sent along, once every node knows it; `path` asks for a key.
    pub(crate) async fn bearer(&self, consumer: &str, path: &str) -> String {
        let key = format!("Bearer {}", self.key(consumer).await);
        eventually("the key is known", Duration::from_secs(5), async || {
            let mut known = true;
            for node in &self.nodes {
                let answer = self.client.get(&node.url(path), &[("authorization", &key)]).await.unwrap();
                known &= answer.status != StatusCode::UNAUTHORIZED;
            }
            known
        })
        .await;
        key
    }

    pub(crate) async fn status(&self) -> Value {
        self.cli(&["cluster", "status"]).await.expect("a status")
    }

    /// Position of the node that leads a group (`control` or `quota`).
    pub(crate) async fn leader(&self, group: &str) -> usize {
        let mut found = None;
        eventually("a leader", Duration::from_secs(15), async || {
            for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.is_running()) {
                let Ok(status) = self.cli_at(at, &["cluster", "status"]).await else { continue };
                let leader = status[group]["leader"].as_u64();
                found = self.nodes.iter().position(|n| n.is_running() && n.ready.is_some() && Some(n.id()) == leader);
                let _ = node;
                if found.is_some() {
                    return true;
                }
            }
            false
        })
        .await;
        found.unwrap()
    }

    pub(crate) async fn wait_for_voters(&self, count: usize) {
        eventually("voters", Duration::from_secs(30), async || {
            let status = self.status().await;
            let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
            let voters = nodes.iter().filter(|node| node["role"] == "voter").count();
            status["settled"] == true && count <= voters
        })
        .await;
    }

    /// What `quota verify` says of all nodes' decision logs.
    pub(crate) async fn verify(&self, seen: &[String]) -> Value {
        let requests = self.write("seen.txt", &seen.join("\n"));
        let output = Command::new(TIDEGATE)
            .args(["quota", "verify", "-o", "json", "--requests"])
            .arg(requests)
            .arg(self.folder.path())
            .output()
            .await
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
    }
}

/// Whoever looks into a failure wants to know what the nodes said.
impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in &self.nodes {
            let log = node.log();
            let last: Vec<_> = log.lines().rev().take(25).collect();
            println!("--- {} said at last:", node.name);
            last.into_iter().rev().for_each(|line| println!("{line}"));
        }
    }
}
