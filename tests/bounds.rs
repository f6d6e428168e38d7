//! How large a number may be: what somebody else says that a call cost, what a document and an order may say, and what becomes of
//! what is larger.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Cluster, Origin, Provider, Says, answer, eventually};

async fn metric(cluster: &Cluster, name: &str) -> u64 {
    let page = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let page = String::from_utf8_lossy(&page.body).into_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse::<f64>().unwrap() as u64)
}

async fn status(cluster: &Cluster, path: &str) -> u16 {
    cluster.client.get(&cluster.nodes[0].url(path), &[]).await.unwrap().status.as_u16()
}

/// How long `path` is refused.
async fn starved(cluster: &Cluster, path: &str) -> Duration {
    let began = Instant::now();
    eventually("it is served again", Duration::from_secs(30), async || status(cluster, path).await == 200).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_cost_of_an_upstream_is_paid_for_in_a_window_and_not_for_ever() {
    let origin = Origin::start(|parts, _| async move {
        let cost = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        answer(&[("x-cost", &cost)], "ok")
    })
    .await;
    let cluster = Cluster::start(1).await;
    let text = format!(
        "\
version: 1
limits:
  - {{name: usual, window: 1s, max: 100, cost: {{from: \"header:x-cost\", estimate: 1}}}}
  - {{name: more, window: 1s, max: 100, cost: {{from: \"header:x-cost\", estimate: 1, at_most: 500}}}}
upstreams: [{{name: origin, endpoints: [{{url: \"http://{}\"}}]}}]
routes:
  - {{name: usual, match: {{path: /usual/*}}, to: [{{upstream: origin}}], limits: [usual]}}
  - {{name: more, match: {{path: /more/*}}, to: [{{upstream: origin}}], limits: [more]}}
",
        origin.address
    );
    cluster.apply(&text).await;
    // Malformed, they cost the estimate.
    for cost in ["-1", "1.5", "1e9", "many", "0x7fffffffffffffff"] {
        assert_eq!(status(&cluster, &format!("/usual/{cost}")).await, 200, "{cost}");
    }
    assert_eq!(metric(&cluster, "tidegate_limit_capped_costs_total").await, 0);
    for (nth, cost) in ["18446744073709551615", "99999999999999999999999999", "101"].into_iter().enumerate() {
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        assert_eq!(status(&cluster, &format!("/usual/{cost}")).await, 200);
        let starved = starved(&cluster, "/usual/1").await;
        assert!(starved < Duration::from_secs(5), "{cost}: a maximum was owed, and no more: {starved:?}");
        assert_eq!(metric(&cluster, "tidegate_limit_capped_costs_total").await, nth as u64 + 1);
    }
    assert_eq!(status(&cluster, "/more/18446744073709551615").await, 200);
    let starved = starved(&cluster, "/more/1").await;
    assert!((Duration::from_secs(3)..Duration::from_secs(10)).contains(&starved), "five maxima: {starved:?}");
    let log = cluster.nodes[0].log();
    let told = log.lines().filter(|line| line.contains("more than one call may come to")).count();
    assert!(told == 1 || told == 2, "told, but not each time: {told}");
    assert!(log.contains("limit=\"usual\"") || log.contains("limit=usual"), "{log}");
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_says_it_used_is_bounded_whatever_it_says() {
    let provider = Provider::start(|asked| {
        let said = asked.json()["user"].as_str().unwrap_or("{}").to_owned();
        Says::json(format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"x"}},"finish_reason":"stop"}}],"usage":{said}}}"#
        ))
    })
    .await;
    let cluster = Cluster::start(1).await;
    let key = cluster.write("one.key", "sk-one");
    let text = format!(
        "\
version: 1
secrets: [{{name: one, from: \"file:{}\"}}]
providers: [{{name: one, kind: openai, url: \"{}\", key: \"${{secrets.one}}\"}}]
models: [{{name: fast, max_output: 10, deployments: [{{provider: one, model: m, price: {{input: 0.1, output: 0.1}}}}]}}]
limits:
  - {{name: tokens, window: 1s, max: 1000, cost: {{from: tokens, estimate: 20}}}}
  - {{name: money, window: 1s, max: 1000000, cost: {{from: money}}}}
routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [fast]}}, limits: [tokens, money]}}]
",
        key.display(),
        provider.url()
    );
    cluster.apply(&text).await;
    let ask = async |usage: &str| {
        let said = serde_json::to_string(usage).unwrap();
        let body = format!(r#"{{"model":"fast","user":{said},"messages":[{{"role":"user","content":"hi"}}]}}"#);
        let headers = [("content-type", "application/json")];
        let url = cluster.nodes[0].url("/v1/chat/completions");
        cluster.client.send(http::Method::POST, &url, &headers, body).await.unwrap().status.as_u16()
    };
    let plain = r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#;
    assert_eq!(ask(plain).await, 200);
    for wrong in [
        r#"{"prompt_tokens":9223372036854775808,"completion_tokens":4,"total_tokens":1}"#,
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615,"total_tokens":7}"#,
        r#"{"prompt_tokens":1e300,"completion_tokens":1.5,"total_tokens":7}"#,
        r#"{"prompt_tokens":-5,"completion_tokens":-9223372036854775808,"total_tokens":-1}"#,
        r#"{"prompt_tokens":"many","completion_tokens":[],"total_tokens":{}}"#,
        r#"{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":18446744073709551615}}"#,
        r#"{"prompt_tokens":3,"completion_tokens":4,"cost":1e300}"#,
        r#"{"prompt_tokens":3,"completion_tokens":4,"cost":8999999}"#,
        r#"{"prompt_tokens":99999999999999999999999999999,"completion_tokens":4}"#,
    ] {
        let began = Instant::now();
        eventually("it is served again", Duration::from_secs(20), async || ask(wrong).await == 200).await;
        eventually("one wrong answer does not starve it", Duration::from_secs(20), async || ask(plain).await == 200)
            .await;
        assert!(began.elapsed() < Duration::from_secs(15), "{wrong}: {:?}", began.elapsed());
    }
    assert!(metric(&cluster, "tidegate_limit_capped_costs_total").await >= 3);
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_billion_dollars_a_month_is_a_budget_in_documents_own_maxima_and_orders_and_more_is_refused_by_name() {
    let cluster = Cluster::start(1).await;
    let document = |budget: &str, own: &str, cost: &str| {
        format!(
            "\
version: 1
limits:
  - {{name: spend, budget: {{money: {budget}, per: month}}, per: [consumer], cost: {{from: \"header:x-cost\", estimate: 1000}}}}
  - {{name: calls, window: 1m, max: 1000000000000000, per: [consumer], cost: {{weight: {cost}}}}}
consumers: [{{name: acme, limits: [{{limit: spend, max: {own}}}]}}]
routes: [{{name: r, match: {{path: /*}}, auth: [key], respond: {{status: 200}}, limits: [calls], weights: {{calls: 2}}}}]
"
        )
    };
    const BILLION: &str = "1000000000000000000";
    cluster.apply(&document("1000000000", BILLION, "5")).await;
    let key = cluster.bearer("acme", "/").await;
    let answer = cluster.client.get(&cluster.nodes[0].url("/"), &[("authorization", &key)]).await.unwrap();
    assert_eq!(answer.status, 200);
    let policy = answer.headers["ratelimit-policy"].to_str().unwrap();
    assert!(policy.contains(&format!("q={BILLION}")), "{policy}");
    let told = cluster.cli(&["quota", "get", "spend", "--consumer", "acme"]).await.expect("a counter");
    assert_eq!(told["max"].as_u64(), Some(1_000_000_000_000_000_000), "{told}");
    cluster
        .cli(&["quota", "set", "spend", "--consumer", "acme", "--max", BILLION, "--until", "9999-12-31"])
        .await
        .expect("an order");
    cluster.cli(&["quota", "grant", "spend", "--consumer", "acme", BILLION, "--for", "1h"]).await.expect("an order");
    assert_eq!(cluster.client.get(&cluster.nodes[0].url("/"), &[("authorization", &key)]).await.unwrap().status, 200);
    for (words, why) in [
        (vec!["set", "spend", "--consumer", "acme", "--max", "1000000000000000001"], "1 to 1000000000000000000"),
        (vec!["set", "calls", "--consumer", "acme", "--max", "1000000000000001"], "1 to 1000000000000000"),
        (vec!["set", "calls", "--consumer", "acme", "--max", "5", "--until", "1999-12-31"], "is over"),
        (vec!["set", "calls", "--consumer", "acme", "--max", "5", "--until", "31.12.2030"], "2026-11-20"),
    ] {
        let all: Vec<_> = ["quota"].into_iter().chain(words).collect();
        let refused = cluster.cli(&all).await.expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    for (text, why) in [
        (document("1000000001", "5", "5"), "limits[0].budget.money"),
        (document("5", "1000000000000000001", "5"), "a maximum is 1 to 1000000000000000000"),
        (document("5", "5", "17592186044416"), "a call costs at most 17592186044415 at once"),
        (document("5", "5", "17592186044415"), "at most 1: a call costs at most"),
    ] {
        let path = cluster.write("large.yaml", &text);
        let refused = cluster.cli(&["apply", path.to_str().unwrap()]).await.expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}
