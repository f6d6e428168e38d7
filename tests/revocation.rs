//! What is taken back is gone: on live nodes when the call returns, on a node that is cut off within a stated bound.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::harness::{Backend, Cluster, eventually};
use crate::walk::document;

/// A node lease, and its last renewal.
const LEASE: Duration = Duration::from_millis(2_500);
const MAX_STALENESS: Duration = Duration::from_secs(4);
/// What a look at the lease each half second and a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);

async fn status_of(cluster: &Cluster, node: usize, key: &str) -> StatusCode {
    let url = cluster.nodes[node].url("/limited/x");
    cluster.client.get(&url, &[("authorization", key)]).await.unwrap().status
}

/// A node that leads nothing, so that nobody has to be elected when it is cut off.
async fn follower(cluster: &Cluster) -> usize {
    let leaders = [cluster.leader("control").await, cluster.leader("quota").await];
    (0..cluster.nodes.len()).find(|at| !leaders.contains(at)).expect("three nodes, two groups")
}

#[tokio::test]
async fn a_cut_off_node_delays_a_revocation_by_its_lease_and_refuses_keys_after_max_staleness() {
    let backend = Backend::start().await;
    let mut cluster = Cluster::start_with(3, &["--max-staleness", "4s"]).await;
    cluster.apply(&document(&backend, 1_000, "60s").replace("max: 1000", "max: 1000, on_unavailable: allow")).await;
    let (gone, kept) = (cluster.key("acme").await, cluster.key("acme").await);
    let (gone, kept) = (format!("Bearer {gone}"), format!("Bearer {kept}"));
    for node in 0..3 {
        assert_eq!(status_of(&cluster, node, &gone).await, StatusCode::OK);
    }
    let keys = cluster.cli(&["key", "ls"]).await.unwrap();
    let keys = keys.as_array().or_else(|| keys["keys"].as_array()).unwrap().clone();
    let id = keys.iter().filter_map(|key| key["id"].as_u64()).min().expect("the older key");

    let cut = follower(&cluster).await;
    cluster.nodes[cut].wire.cut();
    let began = Instant::now();
    let asked = (0..3).find(|at| *at != cut).unwrap();
    cluster.cli_at(asked, &["key", "revoke", &id.to_string()]).await.expect("it returns although a node is cut off");
    assert!(began.elapsed() < LEASE + SLACK, "a lease that lapsed is waited for no longer: {:?}", began.elapsed());
    for node in (0..3).filter(|node| *node != cut) {
        assert_eq!(status_of(&cluster, node, &gone).await, StatusCode::UNAUTHORIZED, "live nodes know when it returns");
        assert_eq!(status_of(&cluster, node, &kept).await, StatusCode::OK);
    }

    // The cut-off node cannot know; it trusts its list for max_staleness, and says 503 from then on.
    eventually("it trusts no key", LEASE + MAX_STALENESS + SLACK, async || {
        status_of(&cluster, cut, &gone).await == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert_eq!(status_of(&cluster, cut, &kept).await, StatusCode::SERVICE_UNAVAILABLE);
    let open = cluster.client.get(&cluster.nodes[cut].url("/open/x"), &[]).await.unwrap();
    assert_eq!(open.status, StatusCode::OK, "routes without keys go on");

    // A restart does not begin the span anew.
    cluster.nodes[cut].kill().await;
    cluster.nodes[cut].spawn(None);
    cluster.nodes[cut].wait_until_ready().await;
    assert_eq!(status_of(&cluster, cut, &gone).await, StatusCode::SERVICE_UNAVAILABLE, "as stale as before");

    cluster.nodes[cut].wire.mend();
    eventually("it is back", Duration::from_secs(20), async || status_of(&cluster, cut, &kept).await == StatusCode::OK)
        .await;
    assert_eq!(status_of(&cluster, cut, &gone).await, StatusCode::UNAUTHORIZED, "and knows what it missed");
}

#[tokio::test]
async fn an_answer_tells_its_revision_and_a_cut_off_node_catches_up() {
    let backend = Backend::start().await;
    let cluster = Cluster::start(3).await;
    let text = document(&backend, 1_000, "60s") + "telemetry: {revision_header: true}\n";
    cluster.apply(&text).await;
    let revision = async |node: usize| {
        let answer = cluster.client.get(&cluster.nodes[node].url("/open/x"), &[]).await.unwrap();
        answer.headers["x-tidegate-revision"].to_str().unwrap().parse::<u64>().unwrap()
    };
    for node in 0..3 {
        assert_eq!(revision(node).await, 1);
    }
    let cut = follower(&cluster).await;
    cluster.nodes[cut].wire.cut();
    let path = cluster.write("second.yaml", &text.replace("max: 1000", "max: 2000"));
    let asked = (0..3).find(|at| *at != cut).unwrap();
    let began = Instant::now();
    let reply = cluster.cli_at(asked, &["apply", path.to_str().unwrap(), "--wait"]).await.expect("it returns");
    assert!(began.elapsed() < LEASE + SLACK, "{:?}", began.elapsed());
    let id = cluster.nodes[cut].id();
    let nodes = reply["nodes"].as_array().cloned().unwrap_or_default();
    assert!(nodes.iter().any(|node| node["node"] == id && node["state"] == "lapsed"), "{reply}");
    for node in 0..3 {
        assert_eq!(revision(node).await, if node == cut { 1 } else { 2 });
    }
    cluster.nodes[cut].wire.mend();
    eventually("it serves the second", Duration::from_secs(10), async || revision(cut).await == 2).await;
}
