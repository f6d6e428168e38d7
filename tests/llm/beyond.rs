//! Streams that come to more tokens than were reserved for them: seen while they run, and cut where a limit says so, in the caller's
//! own words.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;

use crate::harness::{Cluster, Provider, Says, eventually};
use crate::llm::{document, told};

/// So many words, twenty milliseconds apart; its end says what they came to.
fn stream(words: usize) -> Says {
    let chunk = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real-1\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let mut text: String = (0..words).map(|_| chunk("{\"content\":\" word\"}", "null")).collect();
    text.push_str(&chunk("{}", "\"stop\""));
    text.push_str(&format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real-1\",\"choices\":[],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{words},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
        words + 5
    ));
    Says::events(&text).paced(Duration::from_millis(20))
}

const REST: &str = "\
models: [{name: fast, deployments: [{provider: one, model: real-1}]}]
limits:
  - {name: finish, window: 1h, max: 100, cost: {from: tokens, estimate: 10}}
  - {name: cut, window: 1h, max: 100, cost: {from: tokens, estimate: 10, beyond: cut}}
routes:
  - {name: finish, match: {path: /finish/*}, llm: {models: [fast]}, limits: [finish]}
  - {name: cut, match: {path: /cut/*}, llm: {models: [fast]}, limits: [cut]}
";

async fn open(cluster: &Cluster, path: &str, body: &str) -> http::Response<hyper::body::Incoming> {
    let url = cluster.nodes[0].url(path);
    let headers = [("content-type", "application/json"), ("anthropic-version", "2023-06-01")];
    cluster.client.open(Method::POST, &url, &headers, Bytes::copy_from_slice(body.as_bytes())).await.unwrap()
}

const CHAT: &str = r#"{"model":"fast","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const MESSAGES: &str = r#"{"model":"fast","stream":true,"max_tokens":500,"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test]
async fn others_are_refused_while_a_stream_uses_the_tokens_that_there_are() {
    let provider = Provider::start(|_| stream(300)).await;
    let cluster = Cluster::start(3).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
    let answer = open(&cluster, "/finish/v1/chat/completions", CHAT).await;
    assert_eq!(answer.status(), 200);
    let rest = tokio::spawn(answer.into_body().collect());
    eventually("all of it is in use", Duration::from_secs(5), async || {
        open(&cluster, "/finish/v1/chat/completions", CHAT).await.status() == 429
    })
    .await;
    assert!(!rest.is_finished(), "it runs, and is seen");
    let body = rest.await.unwrap().unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"), "it goes on to its end");
    let verdict = cluster.verify(&[]).await;
    assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    assert!(verdict["limits"].as_array().unwrap().iter().any(|limit| limit["debt"].as_u64() > Some(0)), "{verdict}");
}

#[tokio::test]
async fn a_stream_that_a_limit_cuts_ends_with_an_error_in_the_callers_dialect() {
    let provider = Provider::start(|_| stream(300)).await;
    for (path, body, is_told) in [
        ("/cut/v1/chat/completions", CHAT, "\"type\":\"rate_limit_error\""),
        ("/cut/v1/messages", MESSAGES, "event: error"),
    ] {
        let cluster = Cluster::start(1).await;
        cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
        let answer = open(&cluster, path, body).await;
        assert_eq!(answer.status(), 200);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        let words = text.matches(" word").count();
        assert!((70..=110).contains(&words), "{words} of a hundred, with a prompt: {text}");
        let last = &text[text.len().saturating_sub(400)..];
        assert!(last.contains(is_told) || last.contains("rate_limit"), "{last}");
        assert!(!text.contains("message_stop"), "no clean end: {last}");
        let line = told(&cluster, |line| line["route"] == "cut").await;
        assert_eq!(line["cut"], "limit", "{line}");
        eventually("the provider is left alone", Duration::from_secs(5), async || {
            provider.running.load(std::sync::atomic::Ordering::SeqCst) == 0
        })
        .await;
        assert_eq!(open(&cluster, path, body).await.status(), 429);
        let verdict = cluster.verify(&[]).await;
        assert!(verdict["worst_window_ratio"].as_f64().unwrap() <= 1.0, "{verdict}");
    }
}
