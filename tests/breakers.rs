//! A sick backend is tried once, and not once per node.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually};

/// What one node needs to open its breaker.
const NEEDED: usize = 20;

fn document(at: SocketAddr, breaker: &str, more: &str) -> String {
    format!(
        "\
version: 1
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{at}\"}}]
    retries: {{max: 0}}
    breaker: {{{breaker}}}
{more}
routes:
  - {{name: all, match: {{path: /*}}, to: [{{upstream: echo}}]}}
"
    )
}

/// Asks one node; the status and, of refusals, the code.
async fn ask(cluster: &Cluster, node: usize) -> (u16, String) {
    let answer = cluster.client.get(&cluster.nodes[node].url("/x"), &[]).await.unwrap();
    let code = if answer.status == 503 && answer.body.starts_with(b"{") {
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    (answer.status.as_u16(), code)
}

async fn all_say_open(cluster: &Cluster) {
    eventually("every node knows that the backend is sick", Duration::from_secs(5), async || {
        for node in 0..cluster.nodes.len() {
            let text = cluster.client.get(&cluster.nodes[node].admin("/metrics"), &[]).await.unwrap();
            let text = String::from_utf8_lossy(&text.body).into_owned();
            if !text.lines().any(|line| {
                line.starts_with("tidegate_breaker_open{") && [" 1", " 1.0"].iter().any(|end| line.ends_with(end))
            }) {
                return false;
            }
        }
        true
    })
    .await;
}

#[tokio::test]
async fn a_dead_backend_costs_five_nodes_what_one_needs_and_a_quorum() {
    let (backend, mut cluster) = (Backend::start().await, Cluster::start(5).await);
    cluster.apply(&document(backend.address, "open_for: 4s, min_requests: 20, ramp: 1s", "")).await;
    for node in 0..5 {
        for _ in 0..2 {
            assert_eq!(ask(&cluster, node).await.0, 200);
        }
    }
    backend.answer_with(503);
    let before = backend.hits();
    let ends = Instant::now() + Duration::from_secs(3);
    let mut node = 0;
    let mut refused = 0;
    while Instant::now() < ends && refused < 200 {
        node = (node + 1) % 5;
        refused += usize::from(ask(&cluster, node).await.1 == "breaker_open");
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let wasted = backend.hits() - before;
    println!("wasted: {wasted}, refused without asking: {refused}");
    assert!(wasted <= NEEDED + 3, "{wasted} requests were wasted");
    all_say_open(&cluster).await;

    // Who joins now inherits the verdict: it never asks.
    let joiner = cluster.join().await;
    assert_ne!(ask(&cluster, joiner).await.0, 200);
    let log = cluster.nodes[joiner].log();
    assert!(log.contains("the cluster's verdict"), "{log}");

    // One probe of the whole cluster, though all six have requests; it fails, and nobody asks for longer.
    let before = backend.hits();
    eventually("the probe", Duration::from_secs(15), async || {
        for node in 0..cluster.nodes.len() {
            ask(&cluster, node).await;
        }
        backend.hits() > before
    })
    .await;
    for _ in 0..50 {
        for node in 0..cluster.nodes.len() {
            ask(&cluster, node).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(backend.hits(), before + 1, "one probe reached the backend");

    backend.answer_with(0);
    eventually("it is well again everywhere", Duration::from_secs(30), async || {
        let mut well = true;
        for node in 0..cluster.nodes.len() {
            for _ in 0..5 {
                well &= ask(&cluster, node).await.0 == 200;
            }
        }
        well
    })
    .await;
}

#[tokio::test]
async fn a_node_with_a_broken_link_opens_nothing_for_the_others() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(3).await);
    cluster.apply(&document(backend.address, "open_for: 1s, min_requests: 10, ramp: 1s", "")).await;
    // The link between the first node and the backend is broken: whatever goes over it fails.
    let broken = [("x-answer", "502")];
    let mut first_refused = 0;
    for _ in 0..60 {
        let first = cluster.client.get(&cluster.nodes[0].url("/x"), &broken).await.unwrap();
        first_refused += usize::from(first.status == 503);
        for node in 1..3 {
            assert_eq!(ask(&cluster, node).await.0, 200, "node {node}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(first_refused > 20, "it opened its own: {first_refused}");
    // Mended, it comes back by itself.
    eventually("the first node asks again", Duration::from_secs(10), async || ask(&cluster, 0).await.0 == 200).await;
}

#[tokio::test]
async fn while_the_breaker_is_open_the_fallback_answers() {
    let (backend, other) = (Backend::start().await, Backend::start().await);
    let cluster = Cluster::start(1).await;
    let more = format!("  - {{name: static, endpoints: [{{url: \"http://{}\"}}]}}", other.address);
    let breaker = "consecutive: 3, open_for: 30s, fallback: static";
    cluster.apply(&document(backend.address, breaker, &more)).await;
    backend.answer_with(503);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(ask(&cluster, 0).await.0);
    }
    assert_eq!(statuses, [503, 503, 503, 200, 200, 200]);
    assert_eq!((backend.hits(), other.hits()), (3, 3));
    let breaker = "consecutive: 3, open_for: 30s, respond: {status: 203, body: later}";
    cluster.apply(&document(backend.address, breaker, "")).await;
    assert_eq!(ask(&cluster, 0).await.0, 203, "an edit resets no breaker");
    assert_eq!(backend.hits(), 3);
}

#[tokio::test]
async fn three_nodes_check_a_backend_however_many_there_are_and_all_hear_it() {
    let (backend, other, cluster) = (Backend::start().await, Backend::start().await, Cluster::start(5).await);
    let document = format!(
        "\
version: 1
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{}\"}}, {{url: \"http://{}\"}}]
    health: {{path: /health, interval: 500ms, unhealthy: 2, healthy: 2}}
routes:
  - {{name: all, match: {{path: /*}}, to: [{{upstream: echo}}]}}
",
        backend.address, other.address
    );
    cluster.apply(&document).await;
    // Nodes hear within seconds who else is alive.
    eventually("three checkers", Duration::from_secs(20), async || {
        let before = backend.checks();
        tokio::time::sleep(Duration::from_secs(2)).await;
        (4..=14).contains(&(backend.checks() - before))
    })
    .await;
    backend.answer_with(500);
    eventually("no node asks the sick one", Duration::from_secs(15), async || {
        let before = backend.hits();
        for node in 0..5 {
            for _ in 0..4 {
                ask(&cluster, node).await;
            }
        }
        backend.hits() == before
    })
    .await;
    backend.answer_with(0);
    eventually("all ask it again", Duration::from_secs(15), async || {
        let before = backend.hits();
        for node in 0..5 {
            for _ in 0..2 {
                assert_eq!(ask(&cluster, node).await.0, 200);
            }
        }
        backend.hits() - before == 5
    })
    .await;
}

#[tokio::test]
async fn weights_and_drains_are_set_for_every_node() {
    let (one, two, cluster) = (Backend::start().await, Backend::start().await, Cluster::start(3).await);
    let document = format!(
        "version: 1\nupstreams:\n  - {{name: echo, endpoints: [{{url: \"http://{}\"}}, {{url: \"http://{}\"}}]}}\nroutes:\n  - {{name: all, match: {{path: /*}}, to: [{{upstream: echo}}]}}\n",
        one.address, two.address
    );
    cluster.apply(&document).await;
    let endpoint = one.address.to_string();
    let settled = async |share: usize| {
        eventually("the endpoints' shares", Duration::from_secs(5), async || {
            let before = one.hits();
            for node in 0..3 {
                for _ in 0..4 {
                    assert_eq!(ask(&cluster, node).await.0, 200);
                }
            }
            one.hits() - before == share
        })
        .await;
    };
    settled(6).await;
    cluster.cli(&["upstream", "drain", "echo", &endpoint]).await.unwrap();
    settled(0).await;
    let listed = cluster.cli(&["upstream", "ls"]).await.unwrap();
    let listed = listed["endpoints"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 6, "two endpoints on three nodes: {listed:?}");
    assert_eq!(listed.iter().filter(|e| e["drained"] == true && e["endpoint"] == endpoint.as_str()).count(), 3);
    let path = cluster.write("same.yaml", &document);
    let diff = cluster.cli(&["diff", path.to_str().unwrap()]).await.unwrap();
    assert_eq!(diff["by_hand"][0]["endpoint"], endpoint.as_str(), "{diff}");
    cluster.cli(&["upstream", "undrain", "echo", &endpoint]).await.unwrap();
    cluster.cli(&["upstream", "weight", "echo", &endpoint, "3"]).await.unwrap();
    settled(9).await;
    cluster.cli(&["upstream", "weight", "echo", &endpoint, "document"]).await.unwrap();
    settled(6).await;
    let unknown = cluster.cli(&["upstream", "drain", "echo", "10.9.9.9:1"]).await.unwrap_err();
    assert!(unknown.contains("not_found") || unknown.contains("no endpoint"), "{unknown}");
}
