//! Answers that are given again: to whom, in which form, and that they cost nothing.

use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Provider, Redis, Says, eventually};
use crate::llm::{document, events, open, post, told};

const TEXT: &str = "These are quite a few words, so that they do not fit into one piece.";

fn chat(text: &str, finish: &str) -> String {
    json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}})
    .to_string()
}

fn stream(text: &str, finish: &str) -> String {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m-1",
            "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
    let mut all = chunk(delta(json!({"role": "assistant", "content": ""}), Value::Null), Value::Null);
    for word in text.split_inclusive(' ') {
        all += &chunk(delta(json!({"content": word}), Value::Null), Value::Null);
    }
    all += &chunk(delta(json!({}), finish.into()), Value::Null);
    all += &chunk(json!([]), json!({"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}));
    all + "data: [DONE]\n\n"
}

/// Says the same to everybody, streamed where that is wanted.
async fn provider() -> Provider {
    Provider::start(|asked| match asked.json()["stream"].as_bool() {
        Some(true) => Says::events(&stream(TEXT, "stop")),
        _ => Says::json(chat(TEXT, "stop")),
    })
    .await
}

const REST: &str = "\
models: [{name: fast, deployments: [{provider: one, model: m-1}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast], cache: {ttl: 1h}}}]
";

async fn started(provider: &Provider, rest: &str) -> Cluster {
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", provider)], rest)).await;
    cluster
}

fn status(answer: &Answer) -> String {
    answer.headers.get("cache-status").map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

/// Kept when its record is: shortly after its last byte.
async fn kept(cluster: &Cluster, path: &str, headers: &[(&str, &str)], ask: &str) -> Answer {
    let mut last = None;
    eventually("the answer is kept", Duration::from_secs(5), async || {
        let answer = post(cluster, path, headers, ask).await;
        let hit = status(&answer).contains("; hit");
        last = Some(answer);
        hit
    })
    .await;
    last.expect("it was asked")
}

#[tokio::test]
async fn a_call_that_asks_the_same_gets_the_same_for_nothing_however_it_is_spelled() {
    let one = provider().await;
    let rest = "\
consumers: [{name: acme}]
limits:
  - {name: tokens, window: 1h, max: 200, cost: {from: tokens}, per: [consumer]}
  - {name: calls, window: 1h, max: 9, per: [consumer]}
  - {name: asked, window: 1h, max: 2, per: [consumer], count_hits: false}
models: [{name: fast, max_output: 60, deployments: [{provider: one, model: m-1, price: {input: 1, output: 2}}]}]
routes: [{name: llm, match: {path: /*}, auth: [key], limits: [tokens, calls, asked], llm: {models: [fast], tell_cost: true, cache: {ttl: 1h}}}]
";
    let cluster = started(&one, rest).await;
    let key = cluster.bearer("acme", "/v1/models").await;
    let key = [("authorization", key.as_str())];
    let first = post(
        &cluster,
        "/v1/chat/completions",
        &key,
        r#"{"model":"fast","temperature":1.0,"messages":[{"role":"user","content":"hé"}]}"#,
    )
    .await;
    assert_eq!(first.status, 200, "{}", String::from_utf8_lossy(&first.body));
    assert_eq!(status(&first), "Tidegate; fwd=uri-miss");
    for ask in [
        r#"{"model":"fast","temperature":1.0,"messages":[{"role":"user","content":"hé"}]}"#,
        "{ \"messages\":[{\"content\":\"h\\u00e9\",\"role\":\"user\"}],\n \"temperature\": 1, \"model\":\"fast\"}",
        r#"{"model":"fast","user":"u1","metadata":{"a":"b"},"temperature":1,"messages":[{"role":"user","content":"hé"}]}"#,
    ] {
        let again = post(&cluster, "/v1/chat/completions", &key, ask).await;
        assert_eq!(again.body, first.body, "{ask}");
        assert!(status(&again).starts_with("Tidegate; hit; ttl=3"), "{ask}: {}", status(&again));
        assert!(again.headers.contains_key("age") && again.headers["x-tidegate-cost"] == "0", "{:?}", again.headers);
        assert!(!again.headers.contains_key("cache-tag") && !again.headers.contains_key("x-tidegate-tokens"));
    }
    assert_eq!(one.asked().len(), 1, "hits went out");
    let line = told(&cluster, |line| line["cache"] == "hit").await;
    let llm = &line["llm"];
    assert_eq!((&llm["saved_tokens"], &llm["input_tokens"], &llm["output_tokens"]), (&12.into(), &0.into(), &0.into()));
    assert!(llm["cost_nanos"].is_null(), "{line}");
    let metrics = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for sample in [
        "tidegate_llm_cache_hits_total{model=\"fast\"} 3",
        "tidegate_llm_saved_tokens_total{model=\"fast\"} 36",
        "tidegate_cache_requests_total{route=\"llm\",result=\"hit\"} 3",
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
    // Another question is one more that somebody is asked, which the limit that does not count hits refuses.
    let other = r#"{"model":"fast","temperature":0.5,"messages":[{"role":"user","content":"hé"}]}"#;
    assert_eq!(post(&cluster, "/v1/chat/completions", &key, other).await.status, 429);
    // And hits are calls: the limit of calls is used up by them.
    let mut served = 0;
    let ask = r#"{"model":"fast","temperature":1,"messages":[{"role":"user","content":"hé"}]}"#;
    while post(&cluster, "/v1/chat/completions", &key, ask).await.status == 200 {
        served += 1;
        assert!(served < 9);
    }
}

#[tokio::test]
async fn what_streamed_answers_whole_and_what_was_whole_is_streamed_in_every_dialect() {
    let one = provider().await;
    let cluster = Cluster::start(1).await;
    // One who speaks nothing but chat completions.
    cluster.apply(&document(&cluster, &[("one", "groq", &one)], REST)).await;
    let doors: [(&str, &str, Value, bool); 5] = [
        (
            "/v1/chat/completions",
            "/v1/chat/completions",
            json!({"model": "fast", "messages": [{"role": "user", "content": "q"}]}),
            true,
        ),
        ("/v1/responses", "/v1/responses", json!({"model": "fast", "input": "q"}), true),
        (
            "/v1/messages",
            "/v1/messages",
            json!({"model": "fast", "max_tokens": 50, "messages": [{"role": "user", "content": "q"}]}),
            true,
        ),
        (
            "/v1beta/models/fast:generateContent",
            "/v1beta/models/fast:streamGenerateContent?alt=sse",
            json!({"contents": [{"role": "user", "parts": [{"text": "q"}]}]}),
            false,
        ),
        (
            "/model/fast/converse",
            "/model/fast/converse-stream",
            json!({"messages": [{"role": "user", "content": [{"text": "q"}]}]}),
            false,
        ),
    ];
    for (whole, streamed, ask, in_body) in doors {
        for stream_first in [false, true] {
            let mut ask = ask.clone();
            ask[if whole.contains("1beta") { "labels" } else { "metadata" }] = Value::Null;
            ask.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            // Another question.
            let text = serde_json::to_string(&ask).unwrap().replace("\"q\"", &format!("\"q {stream_first}\""));
            let ask: Value = serde_json::from_str(&text).unwrap();
            let mut streaming = ask.clone();
            if in_body {
                streaming["stream"] = true.into();
            }
            let (ask, streaming) = (ask.to_string(), streaming.to_string());
            let before = one.asked().len();
            let (first, second) = if stream_first {
                ((streamed, &streaming), (whole, &ask))
            } else {
                ((whole, &ask), (streamed, &streaming))
            };
            let made = post(&cluster, first.0, &[], first.1).await;
            assert_eq!(made.status, 200, "{}: {}", first.0, String::from_utf8_lossy(&made.body));
            let again = kept(&cluster, second.0, &[], second.1).await;
            assert_eq!(one.asked().len(), before + 1, "{whole} {stream_first}: somebody was asked again");
            let body = String::from_utf8_lossy(&again.body).into_owned();
            if stream_first {
                assert!(body.contains(TEXT), "{whole}: {body}");
            } else {
                // Pieces come before the whole, which `responses` tells at its end.
                let first = body.find("These are").expect("a piece");
                assert!(!body[first..].starts_with(TEXT), "{streamed}: {body}");
            }
            // Its own kind from the cache as well.
            let (path, text) = first;
            let again = kept(&cluster, path, &[], text).await;
            assert_eq!(again.headers["content-type"], made.headers["content-type"], "{path}");
            assert_eq!(one.asked().len(), before + 1);
        }
    }
}

#[tokio::test]
async fn a_replayed_stream_comes_in_pieces_in_order_and_tells_usage_only_if_asked() {
    let one = provider().await;
    let cluster = started(&one, REST).await;
    let ask = |more: &str| format!(r#"{{"model":"fast","messages":[{{"role":"user","content":"q"}}]{more}}}"#);
    post(&cluster, "/v1/chat/completions", &[], &ask("")).await;
    let (first, rest) = open(&cluster, "/v1/chat/completions", &ask(r#","stream":true"#)).await;
    let rest = rest.collect().await.unwrap().to_bytes();
    let chunks = events(&[first, rest].concat());
    assert!(chunks.len() >= 5, "one huge piece: {chunks:?}");
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, TEXT);
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == "c1"), "{chunks:?}");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    let more = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let told = post(&cluster, "/v1/chat/completions", &[], &ask(more)).await;
    assert!(told.body.ends_with(b"data: [DONE]\n\n"));
    let chunks = events(&told.body);
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 12);
    let told =
        post(&cluster, "/v1/messages", &[], r#"{"model":"fast","max_tokens":9,"stream":true,"messages":[]}"#).await;
    assert!(!status(&told).contains("hit"), "dialects do not share answers");
    assert_eq!(one.asked().len(), 2);
}

#[tokio::test]
async fn failures_broken_streams_and_filtered_answers_are_not_given_again() {
    let one = Provider::start(|asked| {
        let text = asked.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
        let whole = stream(TEXT, "stop");
        match text.as_str() {
            "error" => Says::error(500, "{}"),
            "bad" => Says::error(400, r#"{"error":{"message":"no","type":"invalid_request_error"}}"#),
            "filtered" => Says::json(chat("no", "content_filter")),
            "broken" => Says { breaks: true, ..Says::events(&whole[..whole.len() / 2]) },
            "short" => Says::events(&whole[..whole.len() / 2]),
            "in-band" => Says::events(
                &(whole[..whole.len() / 2].to_owned() + "data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
            ),
            _ => Says::json(chat(TEXT, "length")),
        }
    })
    .await;
    let cluster = started(&one, REST).await;
    for (odd, streams) in
        [("error", false), ("bad", false), ("filtered", false), ("broken", true), ("short", true), ("in-band", true)]
    {
        let ask = format!(r#"{{"model":"fast","stream":{streams},"messages":[{{"role":"user","content":"{odd}"}}]}}"#);
        for _ in 0..2 {
            let before = one.asked().len();
            let url = cluster.nodes[0].url("/v1/chat/completions");
            // A stream that breaks off may end without order.
            let _any = cluster.client.send(http::Method::POST, &url, &[], ask.clone()).await;
            assert!(one.asked().len() > before, "{odd} was given again");
        }
    }
    let ask = r#"{"model":"fast","messages":[{"role":"user","content":"long"}]}"#;
    post(&cluster, "/v1/chat/completions", &[], ask).await;
    kept(&cluster, "/v1/chat/completions", &[], ask).await;
}

#[tokio::test]
async fn callers_say_no_and_operators_purge() {
    let one = provider().await;
    let rest = "\
models:
  - {name: fast, deployments: [{provider: one, model: m-1}]}
  - {name: never, deployments: [{provider: one, model: m-2}], cache: {ttl: 0s}}
  - {name: sure, deployments: [{provider: one, model: m-3}], cache: {ttl: 1h, deterministic: true, tags: [mine]}}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, never, sure], cache: {ttl: 1h}}}]
";
    let cluster = started(&one, rest).await;
    let chat = "/v1/chat/completions";
    let ask = |model: &str, more: &str| {
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"q"}}]{more}}}"#)
    };
    let asks = async |headers: &[(&str, &str)], text: String| {
        let before = one.asked().len();
        let answer = post(&cluster, chat, headers, &text).await;
        (one.asked().len() > before, answer)
    };
    assert_eq!(asks(&[("cache-control", "only-if-cached")], ask("fast", "")).await.1.status, 504);
    assert!(asks(&[("cache-control", "no-store")], ask("fast", "")).await.0);
    assert!(asks(&[], ask("fast", "")).await.0, "what was not to be stored was");
    assert!(!asks(&[], ask("fast", "")).await.0);
    let (asked, told) = asks(&[("cache-control", "no-cache")], ask("fast", "")).await;
    assert!(asked && status(&told) == "Tidegate; fwd=request", "{}", status(&told));
    for _ in 0..2 {
        assert!(asks(&[], ask("never", "")).await.0);
        assert!(asks(&[], ask("sure", "")).await.0);
    }
    assert!(asks(&[], ask("sure", r#","temperature":0"#)).await.0);
    assert!(!asks(&[], ask("sure", r#","temperature":0.0"#)).await.0);
    for (tag, model, more) in
        [("model:fast", "fast", ""), ("route:llm", "fast", ""), ("mine", "sure", r#","temperature":0"#)]
    {
        kept(&cluster, chat, &[], &ask(model, more)).await;
        cluster.cli(&["cache", "purge", "--tag", tag]).await.unwrap();
        assert!(asks(&[], ask(model, more)).await.0, "{tag} was not purged");
    }
}

#[tokio::test]
async fn tenants_and_consumers_have_walls_between_them() {
    let one = provider().await;
    let rest = "\
consumers: [{name: ann}, {name: bob}]
models: [{name: fast, deployments: [{provider: one, model: m-1}]}]
routes:
  - {name: shared, match: {path: /shared/*}, auth: [key], llm: {models: [fast], cache: {ttl: 1h}}}
  - {name: own, match: {path: /own/*}, auth: [key], llm: {models: [fast], cache: {ttl: 1h, per: consumer}}}
";
    let cluster = started(&one, rest).await;
    let (ann, bob) = (cluster.bearer("ann", "/own/v1/models").await, cluster.bearer("bob", "/own/v1/models").await);
    let ask = r#"{"model":"fast","messages":[]}"#;
    let asks = async |path: &str, key: &str| {
        let before = one.asked().len();
        let answer = post(&cluster, path, &[("authorization", key)], ask).await;
        assert_eq!(answer.status, 200);
        one.asked().len() > before
    };
    let (shared, own) = ("/shared/v1/chat/completions", "/own/v1/chat/completions");
    assert!(asks(shared, &ann).await && !asks(shared, &bob).await);
    assert!(asks(own, &ann).await && asks(own, &bob).await);
    assert!(!asks(own, &ann).await && !asks(own, &bob).await);
}

#[tokio::test]
async fn two_nodes_share_through_redis_and_do_without_it() {
    let (one, mut redis) = (provider().await, Redis::start().await);
    let cluster = Cluster::start_with(2, &["--redis-url", &redis.url()]).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one)], REST)).await;
    crate::caching::all_use_redis(&cluster).await;
    let ask = |node: usize, text: &str| {
        let url = cluster.nodes[node].url("/v1/chat/completions");
        let body = format!(r#"{{"model":"fast","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let client = &cluster.client;
        async move { client.send(http::Method::POST, &url, &[], body).await.unwrap() }
    };
    let first = ask(0, "a").await;
    redis.holds_something().await;
    let second = ask(1, "a").await;
    assert!(second.body == first.body && status(&second).contains("; hit"), "{}", status(&second));
    assert_eq!(one.asked().len(), 1);
    redis.kill().await;
    assert_eq!(ask(0, "b").await.status, 200);
    assert_eq!(ask(1, "c").await.status, 200);
    assert_eq!(one.asked().len(), 3);
}
