//! Models over real nodes, with providers that say what a spec wants: what reaches whom, what it costs, what happens when
//! they fail.

mod answers;
mod asked;
mod beyond;
mod bodies;
mod budgets;
mod coded;
mod collectors;
mod counting;
mod demo;
mod ends;
mod failing;
mod falling_back;
mod kept;
mod kinds;
mod logs;
mod money;
mod native;
mod passing;
mod proofs;
mod recipes;
mod routing;
mod traces;
mod translating;
mod usage;

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::harness::{Answer, Cluster, Provider, eventually};

/// Providers by name and kind, and whatever else is written here. All take the key `sk-NAME`.
fn document(cluster: &Cluster, providers: &[(&str, &str, &Provider)], rest: &str) -> String {
    let mut text = String::from("version: 1\nsecrets:\n");
    for (name, ..) in providers {
        let file = cluster.write(&format!("{name}.key"), &format!("sk-{name}"));
        text.push_str(&format!("  - {{name: {name}, from: \"file:{}\"}}\n", file.display()));
    }
    text.push_str("providers:\n");
    for (name, kind, provider) in providers {
        let url = provider.url();
        text.push_str(&format!("  - {{name: {name}, kind: {kind}, url: \"{url}\", key: \"${{secrets.{name}}}\"}}\n"));
    }
    text.push_str(&log(cluster));
    text.push_str(rest);
    text
}

fn log(cluster: &Cluster) -> String {
    let file = cluster.write("access.log", "");
    format!("telemetry: {{access_log: {{format: json, file: \"{}\"}}}}\n", file.display())
}

/// The last line of the access log about a call of a model, once it is written. All nodes write to one file.
async fn told(cluster: &Cluster, which: impl Fn(&Value) -> bool) -> Value {
    let path = cluster.nodes[0].folder.join("access.log");
    let mut found = Value::Null;
    eventually("a line of the access log", Duration::from_secs(5), async || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let last = lines.filter(|line| line["llm"].is_object() && which(line)).last();
        found = last.unwrap_or_default();
        !found.is_null()
    })
    .await;
    found
}

async fn post(cluster: &Cluster, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let url = cluster.nodes[0].url(path);
    cluster.client.send(Method::POST, &url, headers, body.to_owned()).await.unwrap()
}

/// Opens a stream and reads its first piece.
async fn open(cluster: &Cluster, path: &str, body: &str) -> (Bytes, hyper::body::Incoming) {
    let url = cluster.nodes[0].url(path);
    let response = cluster.client.open(Method::POST, &url, &[], Bytes::copy_from_slice(body.as_bytes())).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = response.into_body();
    let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
    (first, stream)
}

/// The pieces of data of a stream of events.
fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).unwrap();
    let data = text.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
}
