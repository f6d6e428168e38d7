//! A provider's own paths, as they are: only who proves himself changes. And names of models with their house before them.

use serde_json::json;

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, post, told};

const STREAM: &str = "\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n\
data: [DONE]\n\n";

const REST: &str = "\
consumers:
  - {name: acme}
  - {name: few, models: [\"openai/*\"]}
models:
  - {name: \"openai/*\", deployments: [{provider: openai, model: \"*\"}]}
limits: [{name: tokens, budget: {tokens: 1000000, per: day}, per: [consumer], cost: {from: tokens}}]
routes:
  - {name: llm, match: {path: /llm/*}, llm: {models: [\"openai/*\"], native: [openai, claude]}, auth: [key], limits: [tokens], max_body: 32MiB}
";

#[tokio::test]
async fn any_path_of_a_provider_passes_with_our_proof_instead_of_the_callers() {
    let provider = Provider::start(|asked| {
        let path = asked.line.as_str();
        match () {
            () if path.contains("chat/completions") && asked.json()["stream"] == true => Says::events(STREAM),
            () if path.contains("/messages") => Says::json(
                json!({"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}],
                    "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 3}})
                .to_string(),
            ),
            () if path.contains("missing") => Says::error(404, r#"{"error":{"message":"no such file"}}"#),
            () => Says::json(r#"{"id":"file-1","bytes":3}"#).with("openai-version", "2020-10-01"),
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let providers = [("openai", "openai", &provider), ("claude", "anthropic", &provider)];
    cluster.apply(&document(&cluster, &providers, REST)).await;
    let bearer = cluster.bearer("acme", "/llm/v1/models").await;
    let auth = ("authorization", bearer.as_str());

    // Twelve megabytes: more than any call that is read, and not gathered.
    let upload = "x".repeat(12 << 20);
    let headers =
        [auth, ("content-type", "multipart/form-data; boundary=b"), ("cookie", "a=b"), ("openai-beta", "x=1")];
    let answer = post(&cluster, "/llm/openai/v1/files?purpose=batch", &headers, &upload).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, br#"{"id":"file-1","bytes":3}"#.as_slice()));
    assert_eq!(answer.headers["openai-version"], "2020-10-01", "its head passes too");
    let asked = provider.last();
    assert_eq!((asked.line.as_str(), asked.body.len()), ("POST /v1/files?purpose=batch", upload.len()));
    assert_eq!(asked.header("authorization"), "Bearer sk-openai");
    assert_eq!((asked.header("cookie"), asked.header("openai-beta")), ("", "x=1"));
    assert_eq!(asked.header("content-type"), "multipart/form-data; boundary=b");
    assert_eq!(asked.header("host"), provider.address.to_string());
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert_eq!((&line["llm"]["provider"], &line["llm"]["dialect"]), (&"openai".into(), &"native".into()), "{line}");

    // Other methods, a key in the query, an error: all as they are.
    let key = bearer.strip_prefix("Bearer ").unwrap();
    let url = cluster.nodes[0].url(&format!("/llm/openai/v1/files/missing?key={key}&after=x"));
    let answer = cluster.client.get(&url, &[]).await.unwrap();
    assert_eq!((answer.status.as_u16(), provider.last().line.as_str()), (404, "GET /v1/files/missing?after=x"));
    assert!(!std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap().contains(key));

    // What is known of calls is counted, byte for byte as it passes.
    let ask = r#"{"model":"gpt-5","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let answer = post(&cluster, "/llm/openai/v1/chat/completions", &[auth], ask).await;
    assert_eq!(answer.body, STREAM);
    let line = told(&cluster, |line| line["llm"]["dialect"] == "openai_chat").await;
    assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&9.into(), &2.into()), "{line}");
    let answer =
        post(&cluster, "/llm/claude/v1/messages", &[auth], r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#)
            .await;
    assert_eq!(answer.status, 200);
    assert_eq!(provider.last().header("x-api-key"), "sk-claude");
    let line = told(&cluster, |line| line["llm"]["dialect"] == "anthropic").await;
    assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&5.into(), &3.into()), "{line}");
    let left = answer.headers["x-ratelimit-remaining-tokens"].to_str().unwrap().parse::<u64>().unwrap();
    assert!(left <= 1_000_000 - 11 - 8, "{left}");

    // Who may use some models only may not go round them, and nobody comes here without a key.
    let few = cluster.bearer("few", "/llm/v1/models").await;
    let answer = post(&cluster, "/llm/openai/v1/chat/completions", &[("authorization", &few)], ask).await;
    assert_eq!(answer.status, 403);
    assert_eq!(post(&cluster, "/llm/openai/v1/files", &[], "x").await.status, 401);
    assert_eq!(post(&cluster, "/llm/other/v1/files", &[auth], "x").await.status, 404);
}

#[tokio::test]
async fn a_name_with_its_house_before_it_leads_to_the_model_without_it() {
    let provider = Provider::start(|_| Says::json(r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#)).await;
    let cluster = Cluster::start(1).await;
    let providers = [("openai", "openai", &provider), ("claude", "anthropic", &provider)];
    cluster.apply(&document(&cluster, &providers, REST)).await;
    let bearer = cluster.bearer("few", "/llm/v1/models").await;
    let ask = r#"{"model":"openai/gpt-5","messages":[]}"#;
    let answer = post(&cluster, "/llm/v1/chat/completions", &[("authorization", &bearer)], ask).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(provider.last().json()["model"], "gpt-5");
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert_eq!((&line["llm"]["asked"], &line["llm"]["deployed"]), (&"openai/gpt-5".into(), &"gpt-5".into()));
}
