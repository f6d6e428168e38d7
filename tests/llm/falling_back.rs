//! When a deployment fails before the first byte: who is asked next, for which failure, how often, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{Answer, Cluster, Provider, Says, eventually};
use crate::llm::{document, events, post, told};

fn chat(text: &str) -> String {
    format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}}}"
    )
}

fn chunk(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
const TOO_LONG: &str = r#"{"error":{"message":"This model's maximum context length is 10 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
const FILTERED: &str =
    r#"{"error":{"message":"The response was filtered","type":"invalid_request_error","code":"content_filter"}}"#;

/// Fails as the name of the model says.
fn failing(name: &str) -> Says {
    match name {
        "throttled" => Says::error(429, "{}").with("retry-after", "30"),
        "server" => Says::error(500, "{}"),
        "context" => Says::error(400, TOO_LONG),
        "filtered" => Says::error(400, FILTERED),
        "auth" => Says::error(401, "{}"),
        "missing" => Says::error(404, "{}"),
        "connect" => Says { breaks: true, pieces: vec![], ..Says::json("") },
        _ => Says::json(chat(name)),
    }
}

async fn provider() -> Provider {
    Provider::start(|asked| failing(asked.json()["model"].as_str().unwrap_or_default())).await
}

async fn ask(cluster: &Cluster, model: &str) -> Answer {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]}}"#);
    post(cluster, "/v1/chat/completions", &[], &body).await
}

fn said(answer: &Answer) -> String {
    let json = answer.json();
    json["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn fallbacks_are_asked_in_their_order_and_theirs_after_them() {
    let one = provider().await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: first, deployments: [{provider: one, model: server}], fallbacks: [second, fourth]}
  - {name: second, deployments: [{provider: one, model: missing}], fallbacks: [third]}
  - {name: third, deployments: [{provider: one, model: auth}]}
  - {name: fourth, deployments: [{provider: one, model: fourth}]}
  - {name: fail, deployments: [{provider: one, model: server}], fallbacks: [fourth], on_error: {server: {then: fail}}}
  - {name: at-once, deployments: [{provider: one, model: throttled, priority: 1}, {provider: one, model: own}], fallbacks: [fourth], on_error: {throttled: {then: fallbacks}}}
  - {name: few, deployments: [{provider: one, model: server}], fallbacks: [second, fourth], attempts: 2}
routes: [{name: llm, match: {path: /*}, llm: {models: [first, fail, at-once, few]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one)], rest)).await;
    assert_eq!(said(&ask(&cluster, "first").await), "fourth");
    let asked: Vec<_> = one.asked().iter().map(|asked| asked.json()["model"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked, ["server", "missing", "auth", "fourth"]);
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert_eq!((&line["llm"]["fallbacks"], &line["llm"]["deployed"]), (&3.into(), &"fourth".into()), "{line}");
    assert_eq!(line["llm"]["model"], "first");
    assert_eq!(ask(&cluster, "fail").await.status, 500, "the caller is told at once");
    assert_eq!(said(&ask(&cluster, "at-once").await), "fourth");
    assert_eq!(ask(&cluster, "few").await.status, 404, "two tries, and no more");
    for (leads, path) in [
        ("fallbacks: [first]", "models[1]"),
        ("conditions: [{when: stream, model: first}]", "models[1]"),
        ("on_error: {context_exceeded: {model: first}}", "models[1]"),
    ] {
        let text = document(&cluster, &[("one", "openai", &one)], &rest.replace("fallbacks: [third]", leads));
        let file = cluster.write("loop.yaml", &text);
        let said = cluster.cli(&["check", file.to_str().unwrap()]).await.expect_err("a loop");
        assert!(said.contains("leads back to itself") && said.contains(path), "{leads}: {said}");
    }
}

#[tokio::test]
async fn each_kind_of_failure_is_answered_as_the_document_says() {
    let one = provider().await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: spare, deployments: [{provider: one, model: spare}]}
  - {name: tame, deployments: [{provider: one, model: tame}]}
  - name: all
    deployments:
      - {provider: one, model: context, priority: 2, context: 1000}
      - {provider: one, model: small, priority: 1, context: 500}
      - {provider: one, model: large, context: 4000}
  - {name: asked, deployments: [{provider: one, model: context}], on_error: {context_exceeded: {model: spare}}}
  - {name: strict, deployments: [{provider: one, model: filtered}, {provider: one, model: other, priority: -1}]}
  - {name: gentle, deployments: [{provider: one, model: filtered}], on_error: {content_filtered: {model: tame}}}
  - {name: closed, deployments: [{provider: one, model: auth, priority: 1}, {provider: one, model: other}], on_error: {auth: {then: fail}}}
routes: [{name: llm, match: {path: /*}, llm: {models: [all, asked, strict, gentle, closed]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one)], rest)).await;
    assert_eq!(said(&ask(&cluster, "all").await), "large", "those with a smaller context are not even asked");
    assert_eq!(said(&ask(&cluster, "asked").await), "spare");
    let refused = ask(&cluster, "strict").await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].clone()), (400, "content_filter".into()));
    assert_eq!(said(&ask(&cluster, "gentle").await), "tame");
    let closed = ask(&cluster, "closed").await;
    assert_eq!(closed.status, 502);
    assert!(!String::from_utf8_lossy(&closed.body).contains("sk-"), "{:?}", closed.body);
}

#[tokio::test]
async fn a_deployment_is_tried_again_where_the_document_says_so_after_the_pause_that_it_asks_for() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let one =
        Provider::start(move |asked| match (asked.json()["model"].as_str(), count.fetch_add(1, Ordering::SeqCst)) {
            (Some("later"), 0) => Says::error(429, "{}").with("retry-after", "1"),
            (Some("later"), _) => Says::json(chat("later")),
            (Some("twice"), 0 | 1) => Says::error(503, "{}"),
            (Some("twice"), _) => Says::json(chat("twice")),
            _ => Says::error(429, "{}").with("retry-after", "30"),
        })
        .await;
    let two = provider().await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: later, deployments: [{provider: one}], on_error: {throttled: {retries: 1}}}
  - {name: twice, deployments: [{provider: one}], on_error: {server: {retries: 2}}}
  - {name: never, deployments: [{provider: one}, {provider: two, model: two, priority: -1}], on_error: {throttled: {retries: 3, wait: 5s}}}
routes: [{name: llm, match: {path: /*}, llm: {models: [later, twice, never]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], rest)).await;
    let began = Instant::now();
    assert_eq!(said(&ask(&cluster, "later").await), "later");
    assert!(began.elapsed() >= Duration::from_secs(1), "the pause was not kept: {:?}", began.elapsed());
    calls.store(0, Ordering::SeqCst);
    assert_eq!(said(&ask(&cluster, "twice").await), "twice");
    let began = Instant::now();
    assert_eq!(said(&ask(&cluster, "never").await), "two", "nobody waits half a minute");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_throttle_that_one_node_hears_is_passed_over_by_all_within_a_second_and_shown() {
    let one = Provider::start(|_| Says::error(429, "{}").with("retry-after", "4")).await;
    let two = provider().await;
    let cluster = Cluster::start(3).await;
    let rest = "\
models:
  - {name: fast, deployments: [{provider: one, model: busy, priority: 1}, {provider: two, model: well}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], rest)).await;
    let at = async |node: usize| {
        let url = cluster.nodes[node].url("/v1/chat/completions");
        let body = r#"{"model":"fast","messages":[]}"#.to_owned();
        cluster.client.send(http::Method::POST, &url, &[], body).await.unwrap()
    };
    assert_eq!(said(&at(0).await), "well");
    let heard = Instant::now();
    let cooling = async || {
        let all = cluster.cli_at(2, &["model", "ls", "fast"]).await.expect("a list");
        let all = all["deployments"].as_array().unwrap().clone();
        all.into_iter().filter(|d| d["deployment"] == "one/busy" && d["state"] == "cooling").collect::<Vec<_>>()
    };
    eventually("all three know", Duration::from_secs(1), async || cooling().await.len() == 3).await;
    for node in [1, 2] {
        assert_eq!(said(&at(node).await), "well");
    }
    assert_eq!(one.asked().len(), 1, "a throttled deployment was asked by a node that knew");
    println!("all nodes knew after {:?}", heard.elapsed());
    let known = cooling().await;
    let left = known[0]["cooling_ms"].as_u64().unwrap();
    assert!((1..=4_000).contains(&left) && known[0]["why"] == "throttled", "{known:?}");
    eventually("it is over everywhere", Duration::from_secs(6), async || cooling().await.is_empty()).await;
    assert!(heard.elapsed() >= Duration::from_millis(3_900), "it ended too soon: {:?}", heard.elapsed());
    at(1).await;
    assert_eq!(one.asked().len(), 2);
    let all = cluster.cli(&["model", "ls"]).await.expect("a list");
    let well = all["deployments"].as_array().unwrap().iter().find(|d| d["deployment"] == "two/well" && d["calls"] == 2);
    assert!(well.is_some_and(|d| d["state"] == "ready" && d["errors"] == 0 && d["answer_ms"].is_u64()), "{all}");
}

#[tokio::test]
async fn a_late_deployment_is_raced_by_another_and_whoever_is_slower_is_cancelled_and_paid() {
    let one = Provider::start(|asked| {
        let late = asked.json()["user"] != "quick";
        let text = (0..20).map(|_| chunk("slow ")).collect::<String>() + END;
        Says { thinks: Duration::from_secs(if late { 20 } else { 0 }), ..Says::events(&text) }
    })
    .await;
    let two = Provider::start(|_| Says::events(&(chunk("from two") + END))).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: tokens, window: 1h, max: 100000, cost: {from: tokens}}, {name: calls, window: 1h, max: 1000}]
models:
  - name: fast
    hedge: {after: 200ms, budget: 0%}
    deployments: [{provider: one, model: a, priority: 1}, {provider: two, model: b}]
  - name: raced
    hedge: {after: 200ms}
    deployments: [{provider: one, model: a, priority: 1}, {provider: two, model: b}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, raced]}, limits: [tokens, calls]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], rest)).await;
    let body = |model: &str, user: &str| {
        format!(
            r#"{{"model":"{model}","user":"{user}","stream":true,"messages":[{{"role":"user","content":"{}"}}]}}"#,
            "word ".repeat(80)
        )
    };
    let began = Instant::now();
    let answer = post(&cluster, "/v1/chat/completions", &[], &body("raced", "")).await;
    let took = began.elapsed();
    assert_eq!(events(&answer.body)[0]["choices"][0]["delta"]["content"], "from two");
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(3), "{took:?}");
    eventually("the late one is left alone", Duration::from_secs(2), async || one.running.load(Ordering::SeqCst) == 0)
        .await;
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert_eq!((&line["llm"]["hedges"], &line["llm"]["provider"]), (&1.into(), &"two".into()), "{line}");
    // Two prompts of about a hundred tokens: the loser's is an estimate.
    let input = line["llm"]["input_tokens"].as_u64().unwrap();
    assert!((180..320).contains(&input) && line["llm"]["estimated"] == true, "{line}");
    let spent = |told: &serde_json::Value| told["spent"].as_u64().unwrap();
    eventually("both are paid", Duration::from_secs(5), async || {
        (180..340).contains(&spent(&cluster.cli(&["quota", "get", "tokens"]).await.unwrap()))
    })
    .await;
    assert_eq!(spent(&cluster.cli(&["quota", "get", "calls"]).await.unwrap()), 2, "a hedge is a request");
    // Who is quick is raced by nobody.
    let before = two.asked().len();
    post(&cluster, "/v1/chat/completions", &[], &body("raced", "quick")).await;
    assert_eq!(two.asked().len(), before);
    // Without a budget nobody is raced.
    let late = body("fast", "");
    let late = post(&cluster, "/v1/chat/completions", &[], &late);
    assert!(tokio::time::timeout(Duration::from_millis(900), late).await.is_err());
    assert_eq!(two.asked().len(), before);
    // A tenth of the calls, and ten at once: no more.
    let many = (0..30).map(|_| {
        let body = body("raced", "");
        let cluster = &cluster;
        async move {
            tokio::time::timeout(Duration::from_secs(2), post(cluster, "/v1/chat/completions", &[], &body))
                .await
                .is_ok()
        }
    });
    let served = futures_util::future::join_all(many).await.into_iter().filter(|served| *served).count();
    assert!((5..=25).contains(&served), "{served} of 30 late calls were raced");
}

#[tokio::test]
async fn a_deployments_own_limit_is_exact_over_the_cluster_and_who_has_spent_it_is_passed_over() {
    let (one, two) = (provider().await, provider().await);
    let cluster = Cluster::start(3).await;
    let rest = "\
limits:
  - {name: at-one, window: 1h, max: 40}
  - {name: tokens-at-two, window: 1h, max: 400, cost: {from: tokens}}
models:
  - {name: fast, deployments: [{provider: one, model: a, priority: 1, limits: [at-one]}, {provider: two, model: b}]}
  - {name: alone, deployments: [{provider: one, model: a, limits: [at-one]}]}
  - {name: tokens, max_output: 20, deployments: [{provider: two, model: c, limits: [tokens-at-two]}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, alone, tokens]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], rest)).await;
    let at = async |node: usize, model: &str| {
        let url = cluster.nodes[node].url("/v1/chat/completions");
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        cluster.client.send(http::Method::POST, &url, &[], body).await.unwrap()
    };
    let ends = Instant::now() + Duration::from_secs(20);
    let mut calls = 0;
    while one.asked().len() < 40 && Instant::now() < ends {
        let answers = futures_util::future::join_all((0..3).map(|node| at(node, "fast"))).await;
        assert!(answers.iter().all(|answer| answer.status == 200));
        calls += 3;
    }
    for node in 0..3 {
        assert_eq!(at(node, "fast").await.status, 200);
    }
    assert_eq!(one.asked().len(), 40, "of {calls} calls");
    assert!(!two.asked().is_empty());
    let spent = at(0, "alone").await;
    assert_eq!((spent.status.as_u16(), spent.json()["error"]["type"].clone()), (429, "rate_limit_error".into()));
    assert!(spent.headers.contains_key("retry-after"));
    // What is not used comes back: each call reserves more than twenty tokens and uses five.
    let mut served = 0;
    let before = two.asked().len();
    let ends = Instant::now() + Duration::from_secs(20);
    let mut idle = 0;
    while idle < 6 && Instant::now() < ends {
        let good = at(served % 3, "tokens").await.status == 200;
        served += usize::from(good);
        idle = if good { 0 } else { idle + 1 };
        if !good {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!((40..=80).contains(&served), "{served} calls of five tokens of 400");
    assert_eq!(two.asked().len() - before, served);
}

#[tokio::test]
async fn every_dialect_ends_a_broken_stream_with_an_error_of_its_own() {
    let one = Provider::start(|asked| {
        let text = chunk("a") + &chunk("b");
        match asked.json()["model"].as_str() {
            Some("stalls") => Says { stalls: true, ..Says::events(&text) },
            _ => Says { breaks: true, ..Says::events(&text).paced(Duration::from_millis(20)) },
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models: [{name: fast, deployments: [{provider: one}], losses: drop}, {name: stalls, deployments: [{provider: one}], losses: drop}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, stalls]}}]
";
    let text = document(&cluster, &[("one", "groq", &one)], rest);
    cluster.apply(&text.replace("kind: groq,", "kind: groq, timeouts: {idle: 400ms},")).await;
    let chat = |model: &str| {
        format!(r#"{{"model":"{model}","stream":true,"max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]}}"#)
    };
    let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#.to_owned();
    let bedrock = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}]}"#.to_owned();
    for model in ["fast", "stalls"] {
        for (path, body, mark) in [
            ("/v1/chat/completions".to_owned(), chat(model), "\"error\":{"),
            ("/v1/messages".to_owned(), chat(model), "event: error\ndata: {\"type\":\"error\""),
            (
                "/v1/responses".to_owned(),
                format!(r#"{{"model":"{model}","stream":true,"input":"hi"}}"#),
                "response.failed",
            ),
            (format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"), gemini.clone(), "\"error\":{"),
            (format!("/model/{model}/converse-stream"), bedrock.clone(), "exception"),
        ] {
            let began = Instant::now();
            let answer = post(&cluster, &path, &[], &body).await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(answer.status == 200 && text.contains('a'), "{path}: {} {text}", answer.status);
            assert!(text.contains(mark), "{path} {model}: no error inside: {text}");
            assert!(began.elapsed() < Duration::from_secs(5), "{path} {model}: {:?}", began.elapsed());
        }
    }
}
