//! First starts without an order and without tokens: `--initial-peers` and a secret that all nodes know.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{Backend, Client, Cluster, eventually};

async fn cluster_ids(cluster: &Cluster) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for node in 0..cluster.nodes.len() {
        let status = cluster.cli_at(node, &["cluster", "status"]).await.expect("it answers");
        ids.insert(status["cluster_id"].as_str().unwrap().to_owned());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_told_the_same_become_one_gate_in_any_order_and_later_ones_join() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::told_the_same(4, 3).await);
    for node in [2, 1, 0, 3] {
        cluster.nodes[node].spawn(None);
    }
    for node in 0..4 {
        cluster.nodes[node].wait_until_ready().await;
    }
    cluster.wait_for_voters(3).await;
    assert_eq!(cluster_ids(&cluster).await.len(), 1);
    let status = cluster.status().await;
    assert_eq!(status["nodes"].as_array().unwrap().len(), 4, "{status}");
    // One gate: a limit holds over all of them, and the first admin token is the one that was given.
    cluster
        .apply(&format!(
            "\
version: 1
limits: [{{name: few, window: 1h, max: 10}}]
upstreams: [{{name: plain, endpoints: [{{url: \"http://{}\"}}]}}]
routes: [{{name: all, match: {{path: /*}}, to: [{{upstream: plain}}], limits: [few]}}]
",
            backend.address
        ))
        .await;
    let mut let_through = 0;
    for at in 0..40 {
        let answer = cluster.client.get(&cluster.nodes[at % 4].url("/"), &[]).await.unwrap();
        let_through += usize::from(answer.status == 200);
    }
    assert_eq!(let_through, 10);
    // Told the same at the next start, each is who it was.
    cluster.nodes[0].kill().await;
    cluster.nodes[0].spawn(None);
    cluster.nodes[0].wait_until_ready().await;
    assert_eq!(cluster.status().await["nodes"].as_array().unwrap().len(), 4);
    // The secret is nowhere to be read.
    for node in &cluster.nodes {
        assert!(!node.log().contains("0123456789abcdef0123456789abcdef"), "{}", node.log());
    }
}

/// Machines start, are killed and start again before there is a cluster: in the end there is one, and nobody is outside.
#[tokio::test(flavor = "multi_thread")]
async fn however_machines_start_and_die_at_first_there_is_one_cluster() {
    const MACHINES: usize = 5;
    let mut cluster = Cluster::told_the_same(MACHINES, MACHINES).await;
    let mut random = u64::from(std::process::id()) | 1;
    let mut below = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    for _ in 0..30 {
        let machine = &mut cluster.nodes[usize::try_from(below(MACHINES as u64)).unwrap()];
        if machine.is_running() {
            machine.kill().await;
        } else {
            machine.spawn(None);
        }
        tokio::time::sleep(Duration::from_millis(below(400))).await;
    }
    for machine in &mut cluster.nodes {
        if !machine.is_running() {
            machine.spawn(None);
        }
    }
    for machine in &mut cluster.nodes {
        machine.wait_until_ready().await;
    }
    assert_eq!(cluster_ids(&cluster).await.len(), 1);
    cluster.wait_for_voters(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_says_for_whom_it_waits_and_settings_that_cannot_work_are_refused() {
    let mut cluster = Cluster::told_the_same(3, 3).await;
    let admin = cluster.nodes[1].ports.admin;
    cluster.nodes[1].spawn(None);
    let silent = cluster.nodes[2].wire.address.to_string();
    eventually("it names who is silent", Duration::from_secs(30), async || {
        let log = cluster.nodes[1].log();
        log.contains("1 of 3 initial peers") && log.contains(&silent)
    })
    .await;
    // Whoever asks the admin port hears that the process lives, and what it waits for: nobody has to end it.
    let client = Client::new();
    let told = async |path: &str| {
        let answer = client.get(&format!("http://{admin}{path}"), &[]).await.expect("it answers");
        (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
    };
    assert_eq!(told("/healthz").await, (200, "ok\n".to_owned()));
    let (code, text) = told("/readyz").await;
    assert!(code == 503 && text.contains("starting") && text.contains(&silent), "{code} {text}");
    let (code, text) = told("/v1/cluster").await;
    assert!(code == 503 && text.contains("\"starting\""), "{code} {text}");
    // A load balancer is refused at once instead of waiting for an answer.
    let refused = std::net::TcpStream::connect(cluster.nodes[1].ports.http).expect_err("it does not listen yet");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    cluster.nodes[1].signal("TERM");
    assert_eq!(cluster.nodes[1].wait_for_end().await, Some(0), "it ends when it is told to");
    for (words, reason) in [
        (vec!["--initial-peers", "10.0.0.1:7081"], "needs a secret"),
        (vec!["--initial-peers", "10.0.0.1", "--cluster-secret-file", "SECRET"], "write it as host:7081"),
        (vec!["--initial-peers", "a:1,b:1,a:1", "--cluster-secret-file", "SECRET"], "names a:1 twice"),
        (vec!["--cluster-secret-file", "/nowhere"], "/nowhere"),
        (vec!["--initial-peers", "a:1", "--join", "b:1"], "cannot be used with"),
    ] {
        let secret = cluster.write("secret", &"12345678".repeat(4)).display().to_string();
        cluster.nodes[0].extra =
            words.iter().map(|word| if *word == "SECRET" { secret.clone() } else { (*word).to_owned() }).collect();
        cluster.nodes[0].spawn(None);
        assert!(cluster.nodes[0].wait_for_end().await.is_some_and(|code| code != 0), "{words:?}");
        assert!(cluster.nodes[0].log().contains(reason), "{words:?}: {}", cluster.nodes[0].log());
    }
}
