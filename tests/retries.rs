//! A retry is a request: the limits count it, and the decision log knows it.

use std::time::Duration;

use crate::harness::{Backend, Cluster};

#[tokio::test]
async fn a_backend_sees_no_more_requests_than_there_are_permits_however_often_they_are_retried() {
    let (backend, cluster) = (Backend::start().await, Cluster::start(1).await);
    let address = backend.address;
    let document = format!(
        "\
version: 1
limits:
  - {{name: few, window: 1h, max: 7, per: [cluster]}}
upstreams:
  - name: sick
    endpoints: [{{url: \"http://{address}\"}}]
    retries: {{max: 3, budget: 100%, on: [connect, 503]}}
routes:
  - {{name: all, match: {{path: /*}}, to: [{{upstream: sick}}], limits: [few]}}
"
    );
    cluster.apply(&document).await;
    backend.answer_with(503);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        let answer = cluster.client.get(&cluster.nodes[0].url("/x"), &[]).await.unwrap();
        statuses.push(answer.status.as_u16());
        // What this node asks for after a miss comes in a moment.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(backend.hits(), 7, "{statuses:?}");
    assert_eq!(statuses[0], 503, "the last answer is passed on");
    assert_eq!(statuses.last(), Some(&429));
    let retried = 7 - statuses.iter().filter(|status| **status == 503).count();
    assert!(retried > 0, "some were tried again: {statuses:?}");
    let verdict = cluster.verify(&backend.seen()).await;
    assert_eq!(verdict["backend_requests_missing"], 0, "{verdict}");
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}
