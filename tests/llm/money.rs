//! Money: prices of the document and of the catalogue, budgets that no call passes, debts to the last billionth, and what is
//! never free silently.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::Instant;

use super::budgets::bills;
use crate::harness::{Cluster, Provider, Says, eventually};
use crate::llm::{document, post, told};

/// Dollars for a million tokens are thousandths of a nano-dollar for one: 2 and 6 make whole numbers.
const INPUT: u64 = 2_000;
const OUTPUT: u64 = 6_000;
const MODEL: &str = "models: [{name: fast, deployments: [{provider: one, price: {input: 2, output: 6}}]}]\n";
const ASK: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hello"}],"max_tokens":40}"#;
const STREAM: &str = r#"{"model":"fast","stream":true,"messages":[{"role":"user","content":"hello"}],"max_tokens":40}"#;

/// A stream of some words, and its usage at the end.
fn streams(prompt: u64, completion: u64) -> Says {
    let word = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":null}]}\n\n";
    let end = format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}],\"usage\":null}}\n\ndata: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
        prompt + completion
    );
    let bills = prompt * INPUT + completion * OUTPUT;
    Says { bills, ..Says::events(&(word.repeat(4) + &end)).paced(Duration::from_millis(10)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_money_is_never_passed_by_two_hundred_streams_over_three_nodes_whose_leader_is_killed() {
    const BUDGET: u64 = 40_000_000; // Four cents; a stream reserves about 370,000 and costs about 150,000.
    let draws = Arc::new(AtomicU64::new(1));
    let dice = Arc::clone(&draws);
    // Its meter is of nano-dollars.
    let provider = Provider::start(move |_| {
        let seed = dice.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        streams(5 + seed % 20, 1 + seed % 40)
    })
    .await;
    let mut cluster = Cluster::start(3).await;
    let rest = format!(
        "limits: [{{name: spend, budget: {{money: 0.04, per: total}}}}]\n{MODEL}\
         routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [fast]}}, limits: [spend]}}]\n"
    );
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], &rest)).await;
    let (mut served, mut refused, mut idle, mut wave) = (0_u64, 0_u64, 0, 0);
    let ends = Instant::now() + Duration::from_secs(60);
    while idle < 8 && Instant::now() < ends {
        let mut calls = tokio::task::JoinSet::new();
        let running: Vec<_> = cluster.nodes.iter().filter(|node| node.is_running()).collect();
        for at in 0..200 {
            let (client, url) = (cluster.client.clone(), running[at % running.len()].url("/v1/chat/completions"));
            calls.spawn(async move {
                let answer = client.send(Method::POST, &url, &[], Bytes::from_static(STREAM.as_bytes())).await;
                answer.map(|answer| answer.status.as_u16()).ok()
            });
        }
        if wave == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await; // Two hundred are on their way.
            let leader = cluster.leader("quota").await;
            cluster.nodes[leader].kill().await;
        }
        wave += 1;
        let statuses: Vec<u16> = calls.join_all().await.into_iter().flatten().collect();
        assert!(statuses.iter().all(|status| [200, 429, 503].contains(status)), "{statuses:?}");
        let some = statuses.iter().filter(|status| **status == 200).count() as u64;
        (served, refused) = (served + some, refused + statuses.len() as u64 - some);
        idle = if some == 0 { idle + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(if some == 0 { 500 } else { 0 })).await;
    }
    let billed = provider.meter.load(Ordering::SeqCst);
    println!("{served} streams served, {refused} refused, {billed} nano-dollars billed of {BUDGET}");
    assert!(billed <= BUDGET, "{billed} nano-dollars were billed of {BUDGET}");
    assert!(billed > BUDGET / 2 && refused > 0, "only {billed} of {BUDGET} could be used");
}

#[tokio::test]
async fn a_provider_that_bills_more_than_it_may_is_a_debt_of_exactly_that() {
    let provider = Provider::start(|asked| match asked.json()["user"].as_str() {
        Some("dear") => bills(900, 900),
        _ => bills(1, 1),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = format!(
        "limits: [{{name: spend, budget: {{money: 0.002, per: total}}}}]\n{MODEL}\
         routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [fast], tell_cost: true}}, limits: [spend]}}]\n"
    );
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], &rest)).await;
    let ask = async |user: &str| {
        let body = ASK.replace("\"model\"", &format!("\"user\":\"{user}\",\"model\""));
        post(&cluster, "/v1/chat/completions", &[], &body).await
    };
    let dear = ask("dear").await;
    assert_eq!(dear.headers.get("x-tidegate-cost").and_then(|value| value.to_str().ok()), Some("0.0072"));
    assert_eq!(dear.headers.get("x-ratelimit-limit-cost").and_then(|value| value.to_str().ok()), Some("0.002"));
    let due = 900 * INPUT + 900 * OUTPUT;
    // Nobody asked since: what is spent and what is owed are all of it, to the last billionth.
    eventually("the debt is exactly what was billed", Duration::from_secs(10), async || {
        let page = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
        let page = String::from_utf8_lossy(&page.body).into_owned();
        let owed = page.lines().find_map(|line| line.strip_prefix("tidegate_limit_owed_permits_total "));
        let owed = owed.map_or(0, |owed| owed.parse::<f64>().unwrap() as u64);
        let told = cluster.cli(&["quota", "get", "spend"]).await.expect("a counter");
        owed > 0 && told["spent"].as_u64().unwrap() + owed == due
    })
    .await;
    eventually("the debt is due", Duration::from_secs(5), async || ask("").await.status == 429).await;
}

#[tokio::test]
async fn what_nobody_knows_the_price_of_is_refused_by_name_or_told_as_unpriced_and_what_a_provider_bills_is_believed() {
    let provider = Provider::start(|asked| match asked.json()["model"].as_str() {
        Some("told") => Says::json(r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"cost":0.000123}}"#),
        _ => bills(3, 4),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: strict, window: 1h, max: 1000000000, cost: {from: money}}, {name: lenient, window: 1h, max: 1000000000, cost: {from: money, unpriced: free}}]
models: [{name: \"*\", deployments: [{provider: one}]}]
catalogue: [{model: priced, price: {input: 2, output: 6}}]
routes:
  - {name: strict, match: {path: /strict/*}, llm: {models: [\"*\"]}, limits: [strict]}
  - {name: lenient, match: {path: /lenient/*}, llm: {models: [\"*\"]}, limits: [lenient]}
";
    cluster.apply(&document(&cluster, &[("one", "openai_compatible", &provider)], rest)).await;
    let ask = async |route: &str, model: &str| {
        post(&cluster, &format!("/{route}/v1/chat/completions"), &[], &ASK.replace("fast", model)).await
    };
    let no = ask("strict", "mystery").await;
    assert_eq!(no.status, 403);
    assert!(no.json()["error"]["message"].as_str().is_some_and(|text| text.contains("counts money")), "{:?}", no.body);
    assert_eq!(
        [ask("strict", "priced").await.status.as_u16(), ask("lenient", "mystery").await.status.as_u16()],
        [200, 200]
    );
    assert_eq!(ask("lenient", "told").await.status, 200);
    let of = async |model: &str| {
        told(&cluster, |line| line["llm"]["asked"] == model && line["status"] == 200).await["llm"].clone()
    };
    assert_eq!(of("priced").await["cost_nanos"], 3 * INPUT + 4 * OUTPUT);
    assert_eq!(of("mystery").await["unpriced"], true);
    assert_eq!(of("told").await["cost_nanos"], 123_000, "what the provider says that it bills");
    let counter = async |limit: &str, spent: u64| {
        let told = cluster.cli(&["quota", "get", limit]).await.expect("a counter");
        told["spent"] == spent
    };
    eventually("each is counted once", Duration::from_secs(10), async || {
        counter("strict", 3 * INPUT + 4 * OUTPUT).await && counter("lenient", 123_000).await
    })
    .await;
    let page = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("tidegate_llm_cost_nanos_total{model=\"*\"} 153000"), "{page}");
    assert!(page.contains("tidegate_llm_unpriced_calls_total{model=\"*\"} 1"), "{page}");
}

#[tokio::test]
async fn new_prices_hold_on_every_node_once_they_are_published_and_the_count_stays() {
    let provider = Provider::start(|_| bills(100, 0)).await;
    let cluster = Cluster::start(3).await;
    let text = |price: &str| {
        let rest = format!(
            "limits: [{{name: spend, budget: {{money: 1, per: total}}}}]\n\
             models: [{{name: fast, deployments: [{{provider: one, model: gpt-4o}}]}}]\n{price}\
             routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [fast], tell_cost: true}}, limits: [spend]}}]\n"
        );
        document(&cluster, &[("one", "openai", &provider)], &rest)
    };
    let cost = async || {
        let mut told = Vec::new();
        for node in &cluster.nodes {
            let url = node.url("/v1/chat/completions");
            // On a machine short of time the first lease of a new limit may come late: what was refused cost nothing.
            eventually("an answer", Duration::from_secs(10), async || {
                let ask = cluster.client.send(Method::POST, &url, &[], Bytes::from_static(ASK.as_bytes()));
                let answer = ask.await.unwrap();
                assert!([200, 503].contains(&answer.status.as_u16()), "{:?}", answer.body);
                let cost = answer.headers.get("x-tidegate-cost").map(|cost| cost.to_str().unwrap().to_owned());
                told.extend(cost.clone());
                cost.is_some()
            })
            .await;
        }
        told
    };
    cluster.apply(&text("")).await;
    assert_eq!(cost().await, ["0.00025"; 3], "$2.50 for a million, by the built-in catalogue");
    cluster.apply(&text("catalogue: [{model: gpt-4o, provider: openai, price: {input: 5, output: 10}}]\n")).await;
    assert_eq!(cost().await, ["0.0005"; 3]);
    eventually("all is counted", Duration::from_secs(10), async || {
        cluster.cli(&["quota", "get", "spend"]).await.expect("a counter")["spent"] == 3 * 250_000 + 3 * 500_000
    })
    .await;
}
