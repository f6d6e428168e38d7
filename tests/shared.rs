//! The Redis that the document names: used by every node that was told nothing else, changed while it runs.

use std::time::Duration;

use serde_json::Value;

use crate::caching::{all_use_redis, counting, document, get, redis_of};
use crate::harness::{Cluster, Redis, eventually};

/// What needs care in a URL, and is easily found in what somebody printed.
const PASSWORD: &str = "s3:cr/t@pass%word";

#[tokio::test]
async fn a_document_names_the_redis_and_no_node_is_restarted() {
    let (origin, redis) = (counting().await, Redis::start_with(&["--requirepass", PASSWORD]).await);
    let cluster = Cluster::start(2).await;
    let secret = cluster.write("redis.secret", PASSWORD);
    let with = |url: &str| {
        let rest = document(&origin, "{}");
        format!(
            "{rest}secrets: [{{name: redis, from: \"file:{}\"}}]\ncache: {{redis: {{url: \"{url}\"}}}}\n",
            secret.display()
        )
    };
    cluster.apply(&document(&origin, "{}")).await;
    get(&cluster, 0, "/alone").await;
    assert!(redis_of(&cluster, 0).await.is_null());

    let literal = cluster.write("literal.yaml", &with("redis://:Sup3rS3cret@127.0.0.1:1/"));
    for words in [vec!["check"], vec!["diff"], vec!["apply"]] {
        let said = cluster.cli(&[words, vec![literal.to_str().unwrap()]].concat()).await.expect_err("refused");
        assert!(said.contains("${secrets.NAME}") && !said.contains("Sup3rS3cret"), "{said}");
    }

    let good = with(&format!("redis://:${{secrets.redis}}@127.0.0.1:{}/", redis.port));
    cluster.apply(&good).await;
    all_use_redis(&cluster).await;
    get(&cluster, 0, "/shared").await;
    let pass = ["-a", PASSWORD, "--no-auth-warning", "dbsize"];
    eventually("Redis has it", Duration::from_secs(5), async || redis.cli(&pass).await.parse::<u32>().unwrap() > 0)
        .await;

    // Nowhere is the password to be seen.
    let mut shown = String::new();
    for words in [&["get"][..], &["history"], &["cache", "stats"], &["cluster", "status"]] {
        shown += &cluster.cli(words).await.unwrap().to_string();
    }
    let plain = cluster.write("plain.yaml", &document(&origin, "{}"));
    shown += &cluster.cli(&["diff", plain.to_str().unwrap()]).await.unwrap_or_else(Value::String).to_string();
    let metrics = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap().body;
    shown += &String::from_utf8_lossy(&metrics);
    shown += &cluster.nodes[0].log();
    for part in [PASSWORD, "s3%3Acr"] {
        assert!(!shown.contains(part), "{part} is in {shown}");
    }
    assert!(shown.contains("tidegate_cache_redis_up"), "{shown}");

    // Another one, and then none: from one request to the next.
    let other = Redis::start().await;
    cluster.apply(&with(&other.url())).await;
    all_use_redis(&cluster).await;
    get(&cluster, 1, "/moved").await;
    other.holds_something().await;
    cluster.apply(&document(&origin, "{}")).await;
    for node in 0..2 {
        assert!(redis_of(&cluster, node).await.is_null());
        assert_eq!(get(&cluster, node, "/alone").await.status, 200);
    }
}

#[tokio::test]
async fn what_a_node_was_told_itself_wins_over_the_document() {
    let (origin, own, published) = (counting().await, Redis::start().await, Redis::start().await);
    let text = document(&origin, "{}") + &format!("cache: {{redis: {{url: \"{}\"}}}}\n", published.url());
    let cluster = Cluster::start_with(1, &["--redis-url", &own.url()]).await;
    cluster.apply(&text).await;
    all_use_redis(&cluster).await;
    get(&cluster, 0, "/x").await;
    own.holds_something().await;
    assert_eq!(published.keys().await, 0);

    let cluster = Cluster::start_with(1, &["--redis-url", "none"]).await;
    cluster.apply(&text).await;
    get(&cluster, 0, "/x").await;
    assert!(redis_of(&cluster, 0).await.is_null());
    assert_eq!(published.keys().await, 0);
}
