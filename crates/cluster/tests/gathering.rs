//! First starts without an order: all nodes are told the same addresses and the same secret, and become one cluster.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_cluster::{Cluster, Error, Secret, Settings, Start};
use tokio::task::JoinHandle;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Machines that are told the same.
struct Rack {
    dir: TempDir,
    addresses: Vec<String>,
}

type Starting = JoinHandle<Result<Cluster, Error>>;

impl Rack {
    fn new(machines: usize) -> Self {
        // All at once, so that no two are the same.
        let sockets: Vec<UdpSocket> = (0..machines).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses = sockets.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
        Self { dir: tempfile::tempdir().unwrap(), addresses }
    }

    /// The first `listed` machines are the initial peers.
    fn settings(&self, machine: usize, listed: usize, secret: &str) -> Settings {
        let peers = self.addresses[..listed].to_vec();
        let mut settings = Settings::new(self.dir.path().join(machine.to_string()), Start::Gather { peers });
        settings.name = format!("m{machine}");
        settings.bind = self.addresses[machine].parse().unwrap();
        settings.secret = Some(Secret::new(secret).unwrap());
        settings.join_patience = Duration::from_secs(5);
        settings
    }

    fn start(&self, machine: usize, listed: usize) -> Starting {
        tokio::spawn(Cluster::start(self.settings(machine, listed, SECRET)))
    }
}

async fn up(starting: Starting) -> Cluster {
    tokio::time::timeout(Duration::from_secs(60), starting).await.expect("it found the others").unwrap().unwrap()
}

/// All are members of one cluster, which has no others.
async fn one_cluster(nodes: &[Cluster]) {
    let ids: BTreeSet<String> = nodes.iter().map(|node| node.id().to_string()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = nodes[0].status().await;
        let live = status.members.iter().filter(|member| member.live == Some(true)).count();
        assert!(status.members.len() <= nodes.len(), "{:?}", status.members);
        if live == nodes.len() && status.settled {
            return;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn stop(nodes: Vec<Cluster>) {
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_that_start_at_once_are_one_cluster_and_a_fourth_joins_it() {
    let rack = Rack::new(4);
    let mut nodes = Vec::new();
    for starting in [rack.start(2, 3), rack.start(0, 3), rack.start(1, 3)] {
        nodes.push(up(starting).await);
    }
    one_cluster(&nodes).await;
    // It is not in the list: told the same, it joins.
    nodes.push(up(rack.start(3, 3)).await);
    one_cluster(&nodes).await;
    let tokens = (0..4).filter(|n| rack.dir.path().join(n.to_string()).join("admin.token").exists()).count();
    assert_eq!(tokens, 1, "one node formed it");
    let kept = (0..4).filter(|n| rack.dir.path().join(n.to_string()).join("gathering.json").exists()).count();
    assert_eq!(kept, 0, "the word that was given has been kept, and is of no use any more");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_waits_and_two_go_on_without_the_first_of_the_list() {
    let rack = Rack::new(3);
    let two = rack.start(2, 3);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!two.is_finished(), "one of three is no majority");
    let one = rack.start(1, 3);
    let mut nodes = vec![up(one).await, up(two).await];
    one_cluster(&nodes).await;
    nodes.push(up(rack.start(0, 3)).await);
    one_cluster(&nodes).await;
    // Told the same at every start, a node comes back as who it is.
    let (back, id) = (nodes.pop().unwrap(), nodes[0].id());
    let node = back.node();
    back.shutdown().await;
    drop(back);
    let back = up(rack.start(0, 3)).await;
    assert_eq!((back.id(), back.node()), (id, node));
    nodes.push(back);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_secret_finds_nobody_and_lets_nobody_in() {
    let rack = Rack::new(3);
    let nodes = vec![up(rack.start(0, 1)).await];
    let stranger = rack.settings(1, 1, &SECRET.replace('0', "1"));
    let waited = tokio::time::timeout(Duration::from_secs(3), Cluster::start(stranger)).await;
    assert!(waited.is_err(), "it waits for somebody it knows");
    assert_eq!(nodes[0].status().await.members.len(), 1);
    // With a token, as always.
    let token = nodes[0].create_join_token(None, 1).await.unwrap();
    let start = Start::Join { address: rack.addresses[0].clone(), token };
    let joined = Settings { start, secret: None, ..rack.settings(2, 1, SECRET) };
    let joined = Cluster::start(joined).await.unwrap();
    assert_eq!(joined.id(), nodes[0].id());
    joined.shutdown().await;
    stop(nodes).await;
}
