//! What of a call goes to a provider and what does not: headers that name an account, bounds that bound nothing.

use serde_json::{Value, json};

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, post};

const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const ASK: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hello"}]}"#;

/// Whose account, whose bill.
const ACCOUNTS: [(&str, &str); 9] = [
    ("openai-organization", "org-1"),
    ("openai-project", "proj-1"),
    ("anthropic-organization", "org-2"),
    ("idempotency-key", "same-again"),
    ("x-goog-user-project", "their-project"),
    ("x-amz-security-token", "their-token"),
    ("helicone-auth", "Bearer theirs"),
    ("helicone-user-id", "u"),
    ("chatgpt-account-id", "theirs"),
];
const SAID: [(&str, &str); 3] =
    [("openai-beta", "assistants=v2"), ("anthropic-beta", "b-1"), ("x-stainless-lang", "python")];

#[tokio::test]
async fn no_account_of_a_callers_travels_beside_our_key() {
    let provider = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: fast, deployments: [{provider: one, model: real}]}
  - {name: told, deployments: [{provider: two, model: real}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, told], native: [one, two]}}]
";
    let text = document(&cluster, &[("one", "openai", &provider), ("two", "openai", &provider)], rest);
    let text = text.replace("name: one, kind: openai,", "name: one, kind: openai, caller_keys: may,");
    let chosen = "name: two, kind: openai, caller_headers: [OpenAI-Project, x-odd],";
    cluster.apply(&text.replace("name: two, kind: openai,", chosen)).await;
    let mut headers: Vec<(&str, &str)> = ACCOUNTS.iter().chain(&SAID).copied().collect();
    headers.push(("x-odd", "1"));
    let gone = |asked: &crate::harness::Asked, but: &[&str]| {
        for (name, value) in ACCOUNTS {
            let want = if but.contains(&name) || but.contains(&"*") { value } else { "" };
            assert_eq!(asked.header(name), want, "{name}: {}", asked.line);
        }
    };
    for path in ["/v1/chat/completions", "/one/v1/chat/completions"] {
        assert_eq!(post(&cluster, path, &headers, ASK).await.status, 200);
        let asked = provider.last();
        gone(&asked, &[]);
        for (name, value) in SAID.into_iter().filter(|(name, _)| path.starts_with("/one") || !name.starts_with("anth"))
        {
            assert_eq!(asked.header(name), value, "{name} says how to answer");
        }
        // With a key of his own it is his account.
        let own = [&headers[..], &[("x-tidegate-provider-key", "sk-mine")]].concat();
        assert_eq!(post(&cluster, path, &own, ASK).await.status, 200);
        let asked = provider.last();
        assert_eq!(asked.header("authorization"), "Bearer sk-mine");
        gone(&asked, &["*"]);
    }
    // By choice of the operator.
    for path in ["/v1/chat/completions", "/two/v1/chat/completions"] {
        assert_eq!(post(&cluster, path, &headers, &ASK.replace("fast", "told")).await.status, 200);
        gone(&provider.last(), &["openai-project"]);
        assert_eq!(provider.last().header("x-odd"), "1");
    }
    // In another dialect nothing is said but what is chosen.
    let claude = r#"{"model":"told","max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;
    assert_eq!(post(&cluster, "/v1/messages", &headers, claude).await.status, 200);
    gone(&provider.last(), &["openai-project"]);
    assert_eq!(provider.last().header("anthropic-beta"), "");
}

#[tokio::test]
async fn a_bound_that_bounds_nothing_is_refused_by_its_name_and_passes_no_maximum() {
    let provider = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: hosted, deployments: [{provider: openai, model: real}], max_output: 100, losses: drop}
  - {name: local, deployments: [{provider: ollama, model: real}], max_output: 100}
  - {name: free, deployments: [{provider: ollama, model: real}]}
  - {name: both, deployments: [{provider: openai, model: real, priority: 1}, {provider: ollama, model: real}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [hosted, local, free, both]}}]
";
    cluster.apply(&document(&cluster, &[("openai", "openai", &provider), ("ollama", "ollama", &provider)], rest)).await;
    let ask = async |path: &str, body: Value| post(&cluster, path, &[], &body.to_string()).await;
    let messages = json!([{"role": "user", "content": "x"}]);
    for value in [json!(-1), json!(0), json!(1.5), json!("5"), json!(-7), json!(1e300)] {
        for name in ["max_tokens", "max_completion_tokens"] {
            let mut body = json!({"model": "hosted", "messages": messages});
            body[name] = value.clone();
            let answer = ask("/v1/chat/completions", body).await;
            let error = &answer.json()["error"];
            assert_eq!((answer.status.as_u16(), &error["param"]), (400, &json!(name)), "{value} {error}");
            assert!(error["message"].as_str().unwrap().contains(name), "{error}");
        }
        let answer = ask("/v1/messages", json!({"model": "hosted", "messages": messages, "max_tokens": value})).await;
        let error = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &error["error"]["type"]),
            (400, &json!("invalid_request_error")),
            "{value}"
        );
        assert!(error["error"]["message"].as_str().unwrap().contains("max_tokens"), "{error}");
        let answer = ask("/v1/responses", json!({"model": "hosted", "input": "x", "max_output_tokens": value})).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (400, &json!("max_output_tokens")));
        if !value.is_string() {
            let gemini =
                json!({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"maxOutputTokens": value}});
            let answer = ask("/v1beta/models/hosted:generateContent", gemini).await;
            let error = answer.json();
            assert_eq!((answer.status.as_u16(), &error["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
            assert!(
                error["error"]["message"].as_str().unwrap().contains("generationConfig.maxOutputTokens"),
                "{error}"
            );
        }
        let converse = json!({"messages": [{"role": "user", "content": [{"text": "x"}]}], "inferenceConfig": {"maxTokens": value}});
        let answer = ask("/model/hosted/converse", converse).await;
        assert_eq!(
            (answer.status.as_u16(), answer.headers["x-amzn-errortype"].to_str().unwrap()),
            (400, "ValidationException")
        );
        assert!(answer.json()["message"].as_str().unwrap().contains("inferenceConfig.maxTokens"));
    }
    assert!(provider.asked().is_empty(), "nobody was asked");
    // Who takes -1 is asked; what the document allows at the most stays the most.
    let endless = |model: &str| json!({"model": model, "messages": messages, "max_tokens": -1});
    for (model, most) in [("local", json!(100)), ("free", json!(-1)), ("both", json!(-1))] {
        let answer = ask("/v1/chat/completions", endless(model)).await;
        assert_eq!((answer.status.as_u16(), &provider.last().json()["max_tokens"]), (200, &most), "{model}");
    }
    let two = json!({"model": "local", "messages": messages, "max_tokens": -1, "max_completion_tokens": 5});
    assert_eq!(ask("/v1/chat/completions", two).await.status, 200);
    let asked = provider.last().json();
    assert_eq!((&asked["max_tokens"], &asked["max_completion_tokens"]), (&json!(100), &Value::Null), "{asked}");
}

#[tokio::test]
async fn the_longest_answer_reaches_who_knows_one_name_of_it_only_by_that_name() {
    let provider = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let kinds = ["mistral", "deepseek", "huggingface", "ollama", "qwen", "openai", "groq"];
    let models: String = kinds
        .iter()
        .map(|kind| format!("  - {{name: {kind}, deployments: [{{provider: {kind}, model: m}}]}}\n"))
        .collect();
    let rest = format!(
        "models:\n{models}routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [{}]}}}}]\n",
        kinds.join(", ")
    );
    let providers: Vec<_> = kinds.iter().map(|kind| (*kind, *kind, &provider)).collect();
    cluster.apply(&document(&cluster, &providers, &rest)).await;
    let body = |kind: &str| format!(r#"{{"model":"{kind}", "max_completion_tokens" : 5, "messages":[]}}"#);
    for kind in kinds {
        assert_eq!(post(&cluster, "/v1/chat/completions", &[], &body(kind)).await.status, 200, "{kind}");
        let name = if matches!(kind, "openai" | "groq") { "max_completion_tokens" } else { "max_tokens" };
        let want = body(kind).replace("max_completion_tokens", name).replace(&format!("\"{kind}\""), "\"m\"");
        assert_eq!(provider.last().body, want, "{kind}");
    }
}

#[tokio::test]
async fn openrouter_is_asked_for_one_model_and_told_how_hard_to_think() {
    let provider = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models: [{name: fast, deployments: [{provider: one, model: maker/small}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openrouter", &provider)], rest)).await;
    let ask = async |more: Value| {
        let mut body = json!({"model": "fast", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&cluster, "/v1/chat/completions", &[], &body.to_string()).await
    };
    for more in [
        json!({"models": ["maker/dear"]}),
        json!({"models": ["maker/small", "maker/dear"]}),
        json!({"models": "maker/dear"}),
        json!({"preset": "dear"}),
    ] {
        let answer = ask(more.clone()).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["param"]), (403, &json!("models")), "{more}: {error}");
    }
    assert!(provider.asked().is_empty(), "nobody was asked");
    for more in [json!({"models": ["maker/small"]}), json!({"models": []}), json!({"models": null})] {
        assert_eq!(ask(more.clone()).await.status, 200, "{more}");
        assert_eq!(provider.last().json()["models"], more["models"]);
    }
    let think = |thinking: Value| json!({"model": "fast", "max_tokens": 9_000, "thinking": thinking, "messages": [{"role": "user", "content": "x"}]});
    for (thinking, want) in [
        (json!({"type": "enabled", "budget_tokens": 2_000}), json!({"max_tokens": 2_000})),
        (json!({"type": "disabled"}), json!({"effort": "none"})),
    ] {
        assert_eq!(post(&cluster, "/v1/messages", &[], &think(thinking).to_string()).await.status, 200);
        assert_eq!(provider.last().json()["reasoning"], want);
    }
}
