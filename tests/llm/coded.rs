//! Providers that compress what they answer although nobody asked for it: it is read all the same, streams at once, and what
//! grows beyond all measure ends in an error. What passes as it is stays as it is, and is counted.

use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt;
use serde_json::json;

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, open, post, told};

const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const STREAM: &str = "\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hello\"},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" there\"},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n\
data: [DONE]\n\n";

const REST: &str = "\
models:
  - {name: fast, deployments: [{provider: one, model: real}], losses: drop}
  - name: safe
    deployments: [{provider: one, model: real, priority: 1}, {provider: two, model: real}]
routes:
  - {name: llm, match: {path: /*}, llm: {models: [fast, safe], native: [one]}}
";

static BOMB: OnceLock<Bytes> = OnceLock::new();

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// One part that is stored as it is (RFC 7932), and the end.
fn brotli(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len() - 1).unwrap();
    let head = (length << 4 | 1 << 20).to_le_bytes();
    [&head[..3], text, &[3]].concat()
}

/// One block that is stored as it is (RFC 8878).
fn zstd(text: &[u8]) -> Vec<u8> {
    let block = (u32::try_from(text.len()).unwrap() << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58], &block[..3], text].concat()
}

fn coded(coding: &str, text: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" | "x-gzip" => gzip(text),
        "deflate" => deflate(text),
        "br" => brotli(text),
        "zstd" => zstd(text),
        _ => text.to_vec(),
    }
}

/// Says in which coding it is asked by its name: `{"user": "gzip"}`.
async fn provider() -> Provider {
    Provider::start(|asked| {
        let json = asked.json();
        let coding = json["user"].as_str().unwrap_or_default().to_owned();
        if json["stream"] == true {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            let mut pieces = Vec::new();
            for event in STREAM.split_inclusive("\n\n") {
                encoder.write_all(event.as_bytes()).unwrap();
                encoder.flush().unwrap();
                pieces.push(Bytes::from(std::mem::take(encoder.get_mut())));
            }
            pieces.push(encoder.finish().unwrap().into());
            let pace = if coding == "slow" { Duration::from_millis(400) } else { Duration::ZERO };
            return Says { pieces, ..Says::events("") }.paced(pace).with("content-encoding", "gzip");
        }
        match coding.as_str() {
            "bomb" => Says::json(BOMB.get_or_init(|| gzip(&vec![b' '; 1 << 20]).repeat(64).into()).clone())
                .with("content-encoding", "gzip"),
            "cut" => Says::json(gzip(CHAT.as_bytes())[..60].to_vec()).with("content-encoding", "gzip"),
            "lie" => Says::json(CHAT).with("content-encoding", "gzip"),
            "no" | "key" => {
                let error =
                    br#"{"error":{"message":"no such thing (sk-one)","type":"invalid_request_error","param":"x","code":null}}"#;
                Says { status: 400, ..Says::json(gzip(error)) }.with("content-encoding", "gzip")
            }
            coding => {
                let body = coded(coding, CHAT.as_bytes());
                Says::json(body).with("content-encoding", if coding.is_empty() { "identity" } else { coding })
            }
        }
    })
    .await
}

fn ask(model: &str, user: &str, stream: bool) -> String {
    json!({"model": model, "user": user, "stream": stream, "max_tokens": 9, "metadata": {"user_id": user},
        "messages": [{"role": "user", "content": "hi"}]})
    .to_string()
}

#[tokio::test]
async fn a_compressed_answer_is_read_whoever_asks() {
    let (one, two) = (provider().await, Provider::start(|_| Says::json(CHAT.replace("hello", "elsewhere"))).await);
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "groq", &two)], REST)).await;
    for coding in ["gzip", "x-gzip", "deflate", "br", "zstd", "", "identity"] {
        let answer = post(&cluster, "/v1/chat/completions", &[], &ask("fast", coding, false)).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, CHAT.as_bytes()), "{coding}");
        assert!(!answer.headers.contains_key("content-encoding"), "{coding}");
        let line = told(&cluster, |line| line["status"] == 200).await;
        assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&3.into(), &2.into()), "{line}");
        let answer = post(&cluster, "/v1/messages", &[], &ask("fast", coding, false)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && text.contains("hello there"), "{coding}: {text}");
    }
    assert_eq!(one.last().header("accept-encoding"), "identity");
    // An error is told as it was meant.
    let answer = post(&cluster, "/v1/chat/completions", &[], &ask("fast", "no", false)).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 400 && text.contains("no such thing"), "{text}");
    // What cannot be read is no answer, and somebody else has one.
    for coding in ["lie", "cut", "compress", "gzip, br"] {
        let answer = post(&cluster, "/v1/chat/completions", &[], &ask("fast", coding, false)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 502 && text.contains("\"error\""), "{coding}: {} {text}", answer.status);
        let answer = post(&cluster, "/v1/chat/completions", &[], &ask("safe", coding, false)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && text.contains("elsewhere"), "{coding}: {text}");
    }
}

#[tokio::test]
async fn a_compressed_stream_goes_on_event_by_event() {
    let one = provider().await;
    let two = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "groq", &two)], REST)).await;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let began = Instant::now();
        let (first, rest) = open(&cluster, path, &ask("fast", "slow", true)).await;
        let first = String::from_utf8_lossy(&first).into_owned();
        // Five pieces, 400 ms each: the second word, and all the rest, are not said yet.
        assert!(first.contains("hello") && !first.contains("there"), "{path}: {first}");
        assert!(began.elapsed() < Duration::from_millis(1_500), "{path}: {:?}", began.elapsed());
        let rest = rest.collect().await.unwrap().to_bytes();
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(rest.contains(" there") && rest.contains("stop"), "{path}: {rest}");
        let line = told(&cluster, |line| line["status"] == 200).await;
        assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&9.into(), &2.into()), "{line}");
    }
}

#[tokio::test]
async fn a_bomb_ends_in_an_error_and_takes_no_memory() {
    let one = provider().await;
    let two = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "groq", &two)], REST)).await;
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.nodes[0].pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let bombs = (0..8).map(|_| async {
        let answer = post(&cluster, "/v1/chat/completions", &[], &ask("fast", "bomb", false)).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 502 && text.contains("decompressed"), "{} {text}", answer.status);
    });
    futures_util::future::join_all(bombs).await;
    // Eight times 64 MB; each is given up at about seven: four, and 62 KB fifty times.
    let grown = resident() - before;
    assert!(grown < 200 << 10, "{grown} KB");
    assert_eq!(post(&cluster, "/v1/chat/completions", &[], &ask("fast", "gzip", false)).await.status, 200);
}

#[tokio::test]
async fn what_passes_as_it_is_stays_compressed_and_is_counted() {
    let one = provider().await;
    let two = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "groq", &two)], REST)).await;
    for coding in ["gzip", "br", "zstd", "deflate"] {
        let answer = post(&cluster, "/one/v1/chat/completions", &[], &ask("gpt-5", coding, false)).await;
        assert_eq!(answer.headers["content-encoding"], coding);
        assert_eq!(answer.body, coded(coding, CHAT.as_bytes()), "{coding}");
        let line = told(&cluster, |line| line["llm"]["dialect"] == "openai_chat").await;
        assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&3.into(), &2.into()), "{line}");
        assert!(line["llm"]["estimated"].is_null(), "{line}");
    }
    // Of an error that came compressed our key is left out as well.
    let answer = post(&cluster, "/one/v1/chat/completions", &[], &ask("gpt-5", "key", false)).await;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 400 && text.contains("no such thing") && !text.contains("sk-one"), "{text}");
    assert!(!answer.headers.contains_key("content-encoding"));
    let answer = post(&cluster, "/one/v1/chat/completions", &[], &ask("gpt-5", "", true)).await;
    assert_eq!(answer.headers["content-encoding"], "gzip");
    let line = told(&cluster, |line| line["llm"]["stream"] == true).await;
    assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&9.into(), &2.into()), "{line}");
}
