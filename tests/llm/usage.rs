//! What language models were used: sums over the cluster that equal the providers' own meters, once each, whoever is killed.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use super::budgets::bills;
use crate::harness::{Cluster, Provider, eventually};
use crate::llm::document;

const ASK: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hello"}],"max_tokens":40}"#;
const REST: &str = "\
consumers: [{name: ann, team: web}, {name: bob}]
models:
  - {name: fast, deployments: [{provider: one, price: {input: 2, output: 6}}]}
  - {name: slow, deployments: [{provider: one, price: {input: 1, output: 1}}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, slow]}, auth: [key]}]
";

async fn call(cluster: &Cluster, node: usize, key: &str, model: &str) -> u16 {
    let (url, body) = (cluster.nodes[node].url("/v1/chat/completions"), ASK.replace("fast", model));
    let header = [("authorization", key)];
    cluster.client.send(Method::POST, &url, &header, Bytes::from(body)).await.unwrap().status.as_u16()
}

async fn usage(cluster: &Cluster, words: &[&str]) -> Value {
    let node = cluster.nodes.iter().position(|node| node.is_running()).unwrap();
    cluster.cli_at(node, &[&["usage"], words].concat()).await.expect("usage")
}

fn find<'v>(reply: &'v Value, name: &str, value: &str) -> &'v Value {
    let rows = reply["rows"].as_array().unwrap();
    rows.iter().find(|row| row[name] == value).unwrap_or_else(|| panic!("no {name} {value}: {reply}"))
}

#[tokio::test]
async fn usage_is_summed_over_nodes_by_whatever_is_asked_and_equals_the_providers_meter() {
    let provider = Provider::start(|_| bills(7, 5)).await;
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
    let (ann, bob) = (cluster.bearer("ann", "/v1/models").await, cluster.bearer("bob", "/v1/models").await);
    for at in 0..30 {
        assert_eq!(call(&cluster, at % 3, &ann, "fast").await, 200);
        if at % 3 == 0 {
            assert_eq!(call(&cluster, (at / 3) % 3, &bob, "slow").await, 200);
        }
    }
    assert_eq!(call(&cluster, 0, &ann, "nothing").await, 404, "nobody was asked: no usage");
    let billed = provider.meter.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(billed, 40 * 12);
    eventually("all nodes have told", Duration::from_secs(20), async || {
        usage(&cluster, &[]).await["total"]["calls"] == 40
    })
    .await;
    let by_model = usage(&cluster, &["--by", "model,consumer"]).await;
    assert_eq!(by_model["total"]["total_tokens"], billed);
    let fast = find(&by_model, "model", "fast");
    assert_eq!((&fast["consumer"], &fast["calls"], &fast["input_tokens"]), (&"ann".into(), &30.into(), &210.into()));
    assert_eq!(fast["cost_nanos"], 30 * (7 * 2_000 + 5 * 6_000));
    assert_eq!(fast["cost"], "0.00132");
    let by_team = usage(&cluster, &["--by", "team"]).await;
    assert_eq!(
        (&find(&by_team, "team", "web")["calls"], &find(&by_team, "team", "")["calls"]),
        (&30.into(), &10.into())
    );
    let bobs = usage(&cluster, &["--by", "day,route,provider", "--consumer", "bob", "--since", "7d"]).await;
    let rows = bobs["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["route"], &rows[0]["provider"]), (1, &"llm".into(), &"one".into()));
    assert_eq!(rows[0]["cost_nanos"], 10 * 12 * 1_000);
    let [day, month] = [&bobs["projections"][0], &bobs["projections"][1]];
    assert!(
        day["projected_cost_nanos"].as_u64() >= Some(120_000) && month["projected_calls"].as_u64() >= Some(10),
        "{bobs}"
    );
    let wrong = cluster.cli(&["usage", "--by", "colour"]).await.expect_err("no such thing");
    assert!(wrong.contains("usage is told by day, tenant"), "{wrong}");
    let status = cluster.status().await;
    let applied = |status: &Value| status["control"]["applied"].as_u64().unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let later = cluster.status().await;
    assert!(applied(&later) <= applied(&status) + 1, "idle nodes write nothing: {status} {later}");
}

#[tokio::test]
async fn a_killed_node_loses_a_few_seconds_at_most_and_nothing_is_counted_twice() {
    let provider = Provider::start(|_| bills(7, 5)).await;
    let mut cluster = Cluster::start(3).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
    let ann = cluster.bearer("ann", "/v1/models").await;
    for at in 0..60 {
        assert_eq!(call(&cluster, at % 3, &ann, "fast").await, 200);
    }
    eventually("all nodes have told", Duration::from_secs(20), async || {
        usage(&cluster, &[]).await["total"]["calls"] == 60
    })
    .await;
    // What is told is in the log: the leader's death takes none of it away, and the others go on telling.
    let leader = cluster.leader("control").await;
    cluster.nodes[leader].kill().await;
    let left: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    for at in 0..20 {
        assert_eq!(call(&cluster, left[at % 2], &ann, "fast").await, 200);
    }
    let mut seen = 0;
    eventually("the others have told", Duration::from_secs(30), async || {
        let reply = cluster.cli_at(left[0], &["usage"]).await.unwrap_or_default();
        seen = reply["total"]["calls"].as_u64().unwrap_or(0);
        assert!(seen <= 80, "{seen} of 80: counted twice");
        seen == 80
    })
    .await;
    // One that stops in order tells its last calls before it goes.
    for _ in 0..5 {
        assert_eq!(call(&cluster, left[1], &ann, "fast").await, 200);
    }
    cluster.nodes[leader].spawn(None);
    cluster.nodes[leader].wait_until_ready().await;
    cluster.wait_for_voters(3).await;
    cluster.nodes[left[1]].drain().await;
    eventually("the one that stopped has told", Duration::from_secs(20), async || {
        let reply = cluster.cli_at(left[0], &["usage"]).await.unwrap_or_default();
        seen = reply["total"]["calls"].as_u64().unwrap_or(0);
        assert!(seen <= 85, "{seen} of 85: counted twice");
        seen == 85
    })
    .await;
    assert_eq!(provider.meter.load(std::sync::atomic::Ordering::SeqCst), 85 * 12);
}
