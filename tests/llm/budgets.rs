//! Limits of tokens: reserved before, settled after, exact over the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::harness::{Cluster, Provider, Says, eventually};
use crate::llm::{document, open, post};

/// Says so many tokens, and bills them.
pub(super) fn bills(prompt: u64, completion: u64) -> Says {
    let total = prompt + completion;
    let body = format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"x\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}}}}}"
    );
    Says { bills: total, ..Says::json(body) }
}

const ASK: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hello"}],"max_tokens":40}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_tokens_is_never_passed_over_three_nodes_and_what_was_not_used_comes_back() {
    const BUDGET: u64 = 6_000;
    let draws = Arc::new(AtomicU64::new(1));
    let dice = Arc::clone(&draws);
    let provider = Provider::start(move |_| {
        let seed = dice.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        bills(5 + seed % 20, 1 + seed % 40)
    })
    .await;
    let cluster = Cluster::start(3).await;
    let rest = format!(
        "\
limits: [{{name: tokens, budget: {{tokens: {BUDGET}, per: total}}, cost: {{from: tokens}}}}]
models: [{{name: fast, deployments: [{{provider: one}}]}}]
routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [fast]}}, limits: [tokens]}}]
"
    );
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], &rest)).await;
    let (mut served, mut refused) = (0_u64, 0_u64);
    let ends = Instant::now() + Duration::from_secs(25);
    let mut idle = 0;
    while idle < 5 && Instant::now() < ends {
        let mut calls = tokio::task::JoinSet::new();
        for node in &cluster.nodes {
            for _ in 0..8 {
                let (client, url) = (cluster.client.clone(), node.url("/v1/chat/completions"));
                calls.spawn(
                    async move { client.send(Method::POST, &url, &[], Bytes::from_static(ASK.as_bytes())).await },
                );
            }
        }
        let statuses: Vec<u16> =
            calls.join_all().await.into_iter().map(|answer| answer.unwrap().status.as_u16()).collect();
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
        let some = statuses.iter().filter(|status| **status == 200).count() as u64;
        (served, refused) = (served + some, refused + statuses.len() as u64 - some);
        idle = if some == 0 { idle + 1 } else { 0 };
        tokio::time::sleep(Duration::from_millis(if some == 0 { 200 } else { 0 })).await;
    }
    let billed = provider.meter.load(Ordering::SeqCst);
    println!("{served} served, {refused} refused, {billed} billed");
    assert!(billed <= BUDGET, "{billed} tokens were billed of {BUDGET}");
    // A call reserves about 120 and uses about 35: without what comes back, a third would be spent.
    assert!(billed > BUDGET * 8 / 10 && refused > 0, "only {billed} of {BUDGET} could be used");
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
}

#[tokio::test]
async fn each_model_has_a_count_of_its_own_by_the_name_in_the_document() {
    let provider = Provider::start(|_| bills(10, 10)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: calls, window: 1h, max: 3, per: [model]}]
models:
  - {name: fast, deployments: [{provider: one}]}
  - {name: \"gpt-*\", deployments: [{provider: one}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, \"gpt-*\"]}, limits: [calls]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    let ask = async |model: &str| {
        post(&cluster, "/v1/chat/completions", &[], &ASK.replace("fast", model)).await.status.as_u16()
    };
    // Names that are made up give nobody a count of his own.
    assert_eq!([ask("gpt-1").await, ask("gpt-2").await, ask("gpt-3").await, ask("gpt-4").await], [200, 200, 200, 429]);
    assert_eq!([ask("fast").await, ask("fast").await, ask("fast").await, ask("fast").await], [200, 200, 200, 429]);
    let told = cluster.cli(&["quota", "get", "calls", "--model", "fast"]).await.expect("a counter");
    assert!(told.to_string().contains("model=fast"), "{told}");
}

#[tokio::test]
async fn a_failed_call_costs_nothing_and_one_that_bills_more_than_it_may_is_a_debt() {
    let provider = Provider::start(|asked| match asked.json()["user"].as_str() {
        Some("fails") => Says::error(400, r#"{"error":{"message":"no","type":"invalid_request_error"}}"#),
        Some("dear") => bills(900, 900),
        _ => bills(1, 1),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: tokens, window: 1h, max: 1000, cost: {from: tokens}}]
models: [{name: fast, deployments: [{provider: one}]}]
routes:
  - {name: llm, match: {path: /*}, llm: {models: [fast]}, limits: [tokens]}
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    let ask = async |user: &str| {
        let body = ASK.replace("\"model\"", &format!("\"user\":\"{user}\",\"model\""));
        post(&cluster, "/v1/chat/completions", &[], &body).await
    };
    for _ in 0..30 {
        assert_eq!(ask("fails").await.status, 400);
    }
    assert_eq!(ask("").await.status, 200, "thirty failures cost nothing");
    assert_eq!(ask("dear").await.status, 200);
    eventually("the debt is due", Duration::from_secs(5), async || ask("").await.status == 429).await;
    let told = cluster.cli(&["quota", "get", "tokens"]).await.expect("a counter");
    let spent = told["spent"].as_u64().unwrap();
    let page = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let page = String::from_utf8_lossy(&page.body).into_owned();
    let owed = page.lines().find_map(|line| line.strip_prefix("tidegate_limit_owed_permits_total ")).unwrap_or("0");
    let owed = owed.parse::<f64>().unwrap() as u64;
    // Of 1802 tokens a thousand fit the limit at most: the rest is owed, none of it is forgiven.
    assert!((802..1_800).contains(&owed) && spent + owed >= 1_802, "{owed} are owed beside {spent}: {told}");
    // A call that says nothing of its length may come to more than the limit ever allows.
    let long = post(&cluster, "/v1/chat/completions", &[], r#"{"model":"fast","messages":[]}"#).await;
    assert_eq!((long.status.as_u16(), long.headers.get("x-should-retry").is_some()), (429, true));
}

#[tokio::test]
async fn a_caller_who_hangs_up_pays_for_what_was_said_and_not_for_what_was_reserved() {
    let word = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":null}]}\n\n";
    let provider = Provider::start(move |_| Says::events(&word.repeat(200)).paced(Duration::from_millis(20))).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: tokens, window: 1h, max: 10000, cost: {from: tokens}}]
models: [{name: fast, deployments: [{provider: one}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}, limits: [tokens]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    let ask = r#"{"model":"fast","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let (_, mut stream) = open(&cluster, "/v1/chat/completions", ask).await;
    for _ in 0..9 {
        stream.frame().await.unwrap().unwrap();
    }
    drop(stream);
    eventually("what was not used comes back", Duration::from_secs(10), async || {
        let told = cluster.cli(&["quota", "get", "tokens"]).await.expect("a counter");
        // About fifteen words and a prompt of ten tokens; 4096 and more were reserved.
        (10..100).contains(&told["spent"].as_u64().unwrap())
    })
    .await;
}

#[tokio::test]
async fn a_caller_uses_the_models_that_its_consumer_and_its_plan_name() {
    let provider = Provider::start(|_| bills(1, 1)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
plans: [{name: free, models: [small, fast]}]
consumers: [{name: ann, models: [fast, large]}, {name: bob, plan: free}, {name: cid, plan: free, models: [fast]}]
models:
  - {name: small, deployments: [{provider: one}]}
  - {name: fast, deployments: [{provider: one}]}
  - {name: large, deployments: [{provider: one}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [small, fast, large]}, auth: [key]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    for (consumer, may) in [("ann", vec!["fast", "large"]), ("bob", vec!["small", "fast"]), ("cid", vec!["fast"])] {
        let key = cluster.bearer(consumer, "/v1/models").await;
        let header = [("authorization", key.as_str())];
        let listed = cluster.client.get(&cluster.nodes[0].url("/v1/models"), &header).await.unwrap().json();
        let listed: Vec<&str> = listed["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
        assert_eq!(listed, may, "{consumer}");
        for model in ["small", "fast", "large"] {
            let answer = post(&cluster, "/v1/chat/completions", &header, &ASK.replace("fast", model)).await;
            let code = answer.json()["error"]["code"].as_str().unwrap_or("served").to_owned();
            let expected = if may.contains(&model) { (200, "served") } else { (403, "permission_denied") };
            assert_eq!((answer.status.as_u16(), code.as_str()), expected, "{consumer} {model}");
        }
    }
}

#[tokio::test]
async fn a_models_largest_output_bounds_every_call_of_it() {
    let provider = Provider::start(|_| bills(1, 1)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models: [{name: fast, deployments: [{provider: one, model: gpt-4o}], max_output: 50}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    for (asks, gets) in [("", 50), (",\"max_tokens\":40", 40), (",\"max_tokens\":400", 50)] {
        let body = format!("{{\"model\":\"fast\",\"messages\":[]{asks}}}");
        assert_eq!(post(&cluster, "/v1/chat/completions", &[], &body).await.status, 200);
        assert_eq!(provider.last().json()["max_tokens"], gets, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_used_up_a_limit_of_requests_is_told_before_the_body_of_the_call_is_read() {
    let provider = Provider::start(|_| bills(5, 5)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: calls, window: 1m, max: 2, per: [ip]}, {name: tokens, budget: {tokens: 100000, per: total}, cost: {from: tokens}}]
models: [{name: fast, deployments: [{provider: one}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}, limits: [calls, tokens]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    let mut served = 0;
    while post(&cluster, "/v1/chat/completions", &[], ASK).await.status == 200 {
        served += 1;
    }
    assert_eq!(served, 2, "what is asked before the body and with it is taken once");

    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{";
    let at = cluster.nodes[0].ready.as_ref().unwrap().http;
    let mut line = tokio::net::TcpStream::connect(at).await.unwrap();
    line.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let told = tokio::time::timeout(Duration::from_secs(5), line.read_exact(&mut answer)).await;
    told.expect("nobody waits for the rest of the body").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 429");
}
