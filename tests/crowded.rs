//! More subjects than a node holds counters: what is shared, and what is nobody else's business.

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

async fn ask(cluster: &Cluster, user: usize) -> StatusCode {
    let user = format!("u{user}");
    cluster.client.get(&cluster.nodes[0].url("/limited/x"), &[("x-user", &user)]).await.unwrap().status
}

async fn gauge(cluster: &Cluster, name: &str) -> u64 {
    let text = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap().body;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in {text}")).rsplit(' ').next().unwrap();
    value.parse::<f64>().unwrap() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_of_counters_newcomers_share_some_and_whoever_was_there_keeps_his() {
    const BOUND: usize = 1_000;
    let backend = Backend::start().await;
    let cluster = Cluster::start_with(1, &["--limit-keys", "1000"]).await;
    cluster.apply(&document(&backend)).await;
    let mut asked = tokio::task::JoinSet::new();
    let cluster = std::sync::Arc::new(cluster);
    for user in 0..BOUND {
        let cluster = std::sync::Arc::clone(&cluster);
        asked.spawn(async move { ask(&cluster, user).await });
        if asked.len() == 50 {
            assert_eq!(asked.join_next().await.unwrap().unwrap(), StatusCode::OK);
        }
    }
    assert!(asked.join_all().await.iter().all(|status| *status == StatusCode::OK));
    assert_eq!(gauge(&cluster, "tidegate_limit_keys_bound").await, 1_000);
    assert_eq!(gauge(&cluster, "tidegate_limit_keys").await, 1_000);
    assert_eq!(gauge(&cluster, "tidegate_limit_overflows_total").await, 0);

    // 64 counters of 3 for all that come now: 192 are admitted, however many ask.
    let (mut admitted, mut refused) = (0, 0);
    for user in BOUND..BOUND + 300 {
        match ask(&cluster, user).await {
            StatusCode::OK => admitted += 1,
            StatusCode::TOO_MANY_REQUESTS => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!((100..=192).contains(&admitted) && refused >= 108, "{admitted} admitted, {refused} refused");
    assert!(gauge(&cluster, "tidegate_limit_overflows_total").await > 0);
    assert!((1_000..=1_064).contains(&gauge(&cluster, "tidegate_limit_keys").await));
    // Whoever had a counter has it still.
    for user in [0, 1, 500, 999] {
        let statuses = [ask(&cluster, user).await, ask(&cluster, user).await, ask(&cluster, user).await];
        assert_eq!(statuses, [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS], "u{user}");
    }
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
