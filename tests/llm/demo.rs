//! `tidegate dev --llm` shows what it promises, without any key of a provider.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::harness::{Client, TIDEGATE};
use crate::llm::events;

#[tokio::test]
async fn the_demonstration_streams_falls_back_and_refuses_what_the_budget_does_not_hold() {
    let mut dev = Command::new(TIDEGATE);
    dev.args(["dev", "--llm", "--nodes", "1", "--port", "0", "-o", "json"]);
    let mut dev = dev.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(Duration::from_secs(40), lines.next_line()).await.expect("it starts").unwrap();
    let ready: Value = serde_json::from_str(&line.unwrap()).unwrap();
    let (node, key) = (ready["nodes"][0]["http"].as_str().unwrap(), ready["key"].as_str().unwrap());
    let url = format!("http://{}/v1/chat/completions", node.trim_start_matches("http://"));
    let client = Client::new();
    let ask = async |body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        client.send(Method::POST, &url, &[("x-api-key", key)], body).await.unwrap()
    };
    let stream = ask(r#"{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#).await;
    let said: String = events(&stream.body)
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(said.contains("I am steady") && said.ends_with("Hello"), "the first call meets a busy provider: {said}");
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let answer = ask(r#"{"model":"demo","messages":[{"role":"user","content":"Hello"}]}"#).await;
        statuses.push(answer.status.as_u16());
    }
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!((5..40).contains(&served) && statuses.last() == Some(&429), "{statuses:?}");
}
