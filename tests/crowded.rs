//! More subjects than a node holds counters: each is counted once all the same, on all nodes together.

use std::sync::Arc;

use http::StatusCode;

use crate::harness::{Backend, Cluster};

fn document(backend: &Backend) -> String {
    let address = backend.address;
    format!(
        "\
version: 1
limits:
  - {{name: each, window: 60s, max: 3, per: [\"header:x-user\"]}}
upstreams:
  - name: echo
    endpoints: [{{url: \"http://{address}\"}}]
routes:
  - name: limited
    match: {{path: /limited/*}}
    to: [{{upstream: echo}}]
    limits: [each]
"
    )
}

async fn ask_of(cluster: &Cluster, node: usize, user: &str) -> StatusCode {
    cluster.client.get(&cluster.nodes[node].url("/limited/x"), &[("x-user", user)]).await.unwrap().status
}

async fn ask(cluster: &Cluster, user: usize) -> StatusCode {
    ask_of(cluster, 0, &format!("u{user}")).await
}

/// Each of these is served by this node once, many at a time. Who finds all counters taken waits for one; where a busy machine makes
/// that too long he is told to come again, which costs him nothing.
async fn crowd(cluster: &Arc<Cluster>, node: usize, users: std::ops::Range<usize>) {
    async fn until_served(cluster: &Cluster, node: usize, user: usize) -> StatusCode {
        let mut status = StatusCode::TOO_MANY_REQUESTS;
        for _ in 0..5 {
            status = ask_of(cluster, node, &format!("u{user}")).await;
            if status != StatusCode::TOO_MANY_REQUESTS {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        status
    }
    let mut asked = tokio::task::JoinSet::new();
    for user in users {
        let cluster = Arc::clone(cluster);
        asked.spawn(async move { until_served(&cluster, node, user).await });
        if asked.len() == 50 {
            assert_eq!(asked.join_next().await.unwrap().unwrap(), StatusCode::OK);
        }
    }
    assert!(asked.join_all().await.iter().all(|status| *status == StatusCode::OK));
}

async fn gauge(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let text = cluster.metrics(node).await;
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap();
    value.parse::<f64>().unwrap() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_of_counters_each_newcomer_has_one_and_whoever_was_there_keeps_his_count() {
    const BOUND: usize = 1_000;
    let backend = Backend::start().await;
    let cluster = Arc::new(Cluster::start_with(1, &["--limit-keys", "1000"]).await);
    cluster.apply(&document(&backend)).await;
    crowd(&cluster, 0, 0..BOUND).await;
    assert_eq!(gauge(&cluster, 0, "tidegate_limit_keys_bound").await, 1_000);
    assert!((900..=1_000).contains(&gauge(&cluster, 0, "tidegate_limit_keys").await));

    crowd(&cluster, 0, BOUND..BOUND + 1_000).await;
    let exactly_two = [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS];
    for user in [0, 1, 500, 999, 1_000, 1_500, 1_999] {
        let statuses = [ask(&cluster, user).await, ask(&cluster, user).await, ask(&cluster, user).await];
        assert_eq!(statuses, exactly_two, "u{user}");
    }
    // Others had nothing left to hand back when it came to it.
    assert!(gauge(&cluster, 0, "tidegate_limit_evictions_total").await >= 500);
    assert!(gauge(&cluster, 0, "tidegate_limit_keys").await <= 1_000);
    let verdict = cluster.verify(&backend.seen()).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_counter_on_one_node_gets_no_more_on_one_that_is_full() {
    let backend = Backend::start().await;
    let cluster = Arc::new(Cluster::start_with(2, &["--limit-keys", "1000"]).await);
    cluster.apply(&document(&backend)).await;
    // Their own counters, on the first node; and as many others as the second one holds.
    let own = ["anna", "bert", "carl"];
    for user in own {
        assert_eq!(ask_of(&cluster, 0, user).await, StatusCode::OK);
        assert_eq!(ask_of(&cluster, 0, user).await, StatusCode::OK);
    }
    crowd(&cluster, 1, 0..1_200).await;
    let (mut admitted, mut others) = (0, Vec::new());
    for user in own.into_iter().cycle().take(30) {
        for node in [1, 0] {
            match ask_of(&cluster, node, user).await {
                StatusCode::OK => admitted += 1,
                StatusCode::TOO_MANY_REQUESTS => {}
                other => others.push(other),
            }
        }
    }
    assert_eq!((admitted, others), (3, vec![]), "one was left for each of them");
    // The other way round: whoever came by the full node has his count on both.
    for user in 0..20 {
        let user = format!("u{user}");
        let mut admitted = 0;
        // A permit that lies idle at the other node comes by the next time at the latest: who asks again gets it.
        for node in [0, 1].into_iter().cycle().take(20) {
            match ask_of(&cluster, node, &user).await {
                StatusCode::OK => admitted += 1,
                other => assert_eq!(other, StatusCode::TOO_MANY_REQUESTS, "{user}"),
            }
        }
        assert_eq!(admitted, 2, "{user}");
    }
    assert!(gauge(&cluster, 1, "tidegate_limit_keys").await <= 1_000);
    let verdict = cluster.verify(&backend.seen()).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
}

#[tokio::test]
async fn a_bound_that_makes_no_sense_is_refused_with_what_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let output = tokio::process::Command::new(crate::harness::TIDEGATE)
        .args(["serve", "--limit-keys", "10", "--data"])
        .arg(folder.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("limit-keys 10") && said.contains("1000 to 16000000"), "{said}");
}
