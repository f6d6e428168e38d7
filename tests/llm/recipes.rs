//! The recipes of docs/llm/routing.md, as they stand there.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, post};

const PAGE: &str = include_str!("../../docs/llm/routing.md");

/// The document below a heading.
fn recipe(heading: &str) -> &'static str {
    let (_, below) = PAGE.split_once(&format!("### {heading}\n")).unwrap_or_else(|| panic!("no recipe `{heading}`"));
    let (_, yaml) = below.split_once("```yaml\n").unwrap();
    yaml.split_once("```").unwrap().0
}

const HEADINGS: [&str; 8] = [
    "Two accounts of one provider, each within its own quota",
    "A small model, and a large one for what does not fit",
    "What a filter refuses is asked elsewhere",
    "The cheapest that can",
    "Prompt caches of providers hit",
    "European callers stay in Europe",
    "Batches on another deployment, by day and by night",
    "A slow provider is raced after 300 ms",
];

const FILTERED: &str = r#"{"error":{"message":"filtered","type":"invalid_request_error","code":"content_filter"}}"#;

/// Answers with who it is and what it was asked as.
async fn openai() -> Provider {
    Provider::start(|asked| {
        let model = asked.json()["model"].as_str().unwrap_or_default().to_owned();
        let key = asked.header("authorization").trim_start_matches("Bearer ").to_owned();
        if String::from_utf8_lossy(&asked.body).contains("forbidden") {
            return Says::error(400, FILTERED);
        }
        let thinks = Duration::from_secs(if model == "slow" { 20 } else { 0 });
        let body = format!("{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"openai {model} {key}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}}}");
        Says { thinks, ..Says::json(body) }
    })
    .await
}

async fn claude() -> Provider {
    Provider::start(|_| Says::json(r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"claude"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#)).await
}

struct Kitchen {
    cluster: Cluster,
    openai: Provider,
    claude: Provider,
}

impl Kitchen {
    async fn cook(&self, heading: &str) {
        let providers = [("openai", "openai", &self.openai), ("claude", "anthropic", &self.claude)];
        self.cluster.apply(&document(&self.cluster, &providers, recipe(heading))).await;
    }

    /// Status, and what was answered.
    async fn ask(&self, headers: &[(&str, &str)], prompt: &str, rest: &str) -> (u16, String) {
        let prompt = Value::from(prompt);
        let body = format!("{{\"model\":\"chat\",\"messages\":[{{\"role\":\"user\",\"content\":{prompt}}}]{rest}}}");
        let answer = post(&self.cluster, "/v1/chat/completions", headers, &body).await;
        let json = answer.json();
        let text = json["choices"][0]["message"]["content"].as_str().or(json["error"]["message"].as_str());
        (answer.status.as_u16(), text.unwrap_or_default().to_owned())
    }
}

#[tokio::test]
async fn every_recipe_of_the_page_does_what_it_says() {
    let written = PAGE.lines().filter(|line| line.starts_with("### ")).count();
    assert_eq!(written, HEADINGS.len(), "a recipe that nobody tries");
    let kitchen = Kitchen { cluster: Cluster::start(1).await, openai: openai().await, claude: claude().await };
    let tried = AtomicUsize::new(0);
    let cook = async |at: usize| {
        kitchen.cook(HEADINGS[at]).await;
        tried.fetch_add(1, Ordering::Relaxed);
    };

    cook(0).await;
    let mut keys = Vec::new();
    for _ in 0..4 {
        let (status, text) = kitchen.ask(&[], "hi", "").await;
        assert_eq!(status, 200, "{text}");
        keys.push(text.rsplit(' ').next().unwrap().to_owned());
    }
    keys.sort();
    assert_eq!(keys, ["sk-claude", "sk-claude", "sk-openai", "sk-openai"], "each account twice");
    assert_eq!(kitchen.ask(&[], "hi", "").await.0, 429);

    cook(1).await;
    assert!(kitchen.ask(&[], "hi", "").await.1.starts_with("openai my-small-one"));
    assert_eq!(kitchen.ask(&[], &"word ".repeat(6_000), "").await, (200, "claude".into()));

    cook(2).await;
    assert!(kitchen.ask(&[], "hi", "").await.1.starts_with("openai"));
    assert_eq!(kitchen.ask(&[], "forbidden", "").await, (200, "claude".into()));

    cook(3).await;
    assert!(kitchen.ask(&[], "hi", "").await.1.starts_with("openai o3-mini"));
    let image =
        r#","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y.png"}}]}]"#;
    let body = format!("{{\"model\":\"chat\"{image}}}");
    let seen = post(&kitchen.cluster, "/v1/chat/completions", &[], &body).await.json();
    assert!(seen["choices"][0]["message"]["content"].as_str().unwrap().starts_with("openai gpt-4o"), "{seen}");

    cook(4).await;
    let mut homes = std::collections::HashSet::new();
    for conversation in 0..16 {
        let prompt = format!("conversation {conversation}");
        let first = kitchen.ask(&[], &prompt, "").await.1;
        for _ in 0..3 {
            assert_eq!(kitchen.ask(&[], &prompt, "").await.1, first);
        }
        homes.insert(first);
    }
    assert_eq!(homes.len(), 2);

    cook(5).await;
    let key = kitchen.cluster.bearer("app", "/v1/models").await;
    assert_eq!(kitchen.ask(&[("authorization", &key)], "hi", "").await, (200, "claude".into()));
    let (status, why) = kitchen.ask(&[("authorization", &key), ("x-tidegate-residency", "us")], "hi", "").await;
    assert!(status == 400 && why.contains("residency"), "{status} {why}");

    cook(6).await;
    assert!(kitchen.ask(&[], "hi", "").await.1.starts_with("openai"));
    assert_eq!(kitchen.ask(&[("x-tidegate-tags", "batch")], "hi", "").await.1, "claude");
    assert_eq!(kitchen.ask(&[("x-job", "nightly")], "hi", "").await.1, "claude");

    cook(7).await;
    let began = Instant::now();
    assert_eq!(kitchen.ask(&[], "hi", "").await.1, "claude");
    assert!(began.elapsed() >= Duration::from_millis(300) && began.elapsed() < Duration::from_secs(5));
    assert_eq!(tried.load(Ordering::Relaxed), HEADINGS.len());
}
