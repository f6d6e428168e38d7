//! Caller and provider speak the same: nothing changes but what has to.

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, post, told};

const ANSWER: &str = r#"{ "id":"chatcmpl-1","object":"chat.completion","created":1,"model":"real-1","choices":[{"index":0,"message":{"role":"assistant","content":"h\u00e9"},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":4}},"x_unknown":[1.0, 2e3] }"#;

const STREAM: &str = "\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null}\n\n\
: keep-alive\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n\
data: [DONE]\n\n";

const REST: &str = "\
consumers: [{name: acme}]
models:
  - {name: fast, deployments: [{provider: one, model: real-1}]}
  - {name: \"any/*\", deployments: [{provider: one, model: \"*\"}]}
routes:
  - {name: keyed, match: {path: /keyed/*}, llm: {models: [fast]}, auth: [key]}
  - {name: open, match: {path: /*}, llm: {models: [fast, \"any/*\"]}}
";

#[tokio::test]
async fn openais_chat_passes_byte_for_byte_but_for_the_models_name() {
    let provider = Provider::start(|_| Says::json(ANSWER)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
    let key = cluster.bearer("acme", "/keyed/v1/models").await;
    let body = r#"{ "messages":[{"role":"user","content":"h\u00e9llo"}], "model" : "fast","temperature":0.70,"odd":{"a":[]} }"#;
    let headers = [
        ("authorization", key.as_str()),
        ("content-type", "application/json"),
        ("openai-organization", "org-1"),
        ("openai-beta", "b=1"),
        ("cookie", "private=1"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let answer = post(&cluster, "/keyed/v1/chat/completions", &headers, body).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, ANSWER.as_bytes()));
    let asked = provider.last();
    assert_eq!(asked.line, "POST /v1/chat/completions");
    assert_eq!(asked.body, body.replace("\"fast\"", "\"real-1\""));
    assert_eq!(asked.header("authorization"), "Bearer sk-one", "the provider's key, never the caller's");
    assert_eq!(asked.header("host"), provider.address.to_string());
    assert_eq!((asked.header("openai-organization"), asked.header("openai-beta")), ("", "b=1"), "our key, our account");
    assert_eq!((asked.header("cookie"), asked.header("x-forwarded-for")), ("", ""), "nothing tells who calls");
    let line = told(&cluster, |line| line["route"] == "keyed").await;
    let llm = &line["llm"];
    assert_eq!((&llm["model"], &llm["provider"], &llm["deployed"]), (&"fast".into(), &"one".into(), &"real-1".into()));
    assert_eq!(
        (&llm["input_tokens"], &llm["cache_read_tokens"], &llm["output_tokens"]),
        (&7.into(), &4.into(), &7.into())
    );
    assert_eq!((&line["upstream"], &llm["finish"]), (&"one".into(), &"stop".into()));
}

#[tokio::test]
async fn a_streams_usage_is_always_asked_for_and_shown_only_to_who_asked() {
    let provider = Provider::start(|_| Says::events(STREAM)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
    let plain = r#"{"model":"fast","stream":true,"messages":[]}"#;
    let answer = post(&cluster, "/v1/chat/completions", &[], plain).await;
    let usage_chunk = STREAM.split_inclusive("\n\n").nth(4).unwrap();
    let shown = STREAM.replace(usage_chunk, "");
    assert_eq!(String::from_utf8_lossy(&answer.body), shown);
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert_eq!(provider.last().json()["stream_options"]["include_usage"], true);
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&9.into(), &2.into()));
    assert!(line["llm"]["first_token_ms"].is_number() && line["llm"]["estimated"].is_null(), "{line}");

    let asking = r#"{"model":"fast","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let answer = post(&cluster, "/v1/chat/completions", &[], asking).await;
    assert_eq!(answer.body, STREAM, "whoever asks gets every byte");
    let page = cluster.client.get(&cluster.nodes[0].admin("/metrics"), &[]).await.unwrap();
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("tidegate_llm_tokens_total{model=\"fast\",class=\"input\"} 18"), "{page}");
    assert!(page.contains("tidegate_llm_first_token_seconds_count{model=\"fast\"} 2"), "{page}");
}

#[tokio::test]
async fn every_dialect_passes_through_to_its_own_kind_of_provider() {
    const ANTHROPIC: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hi","odd":1}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":3,"cache_read_input_tokens":2}}"#;
    const GEMINI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"totalTokenCount":6}}"#;
    const BEDROCK: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":6,"outputTokens":1,"totalTokens":7},"metrics":{"latencyMs":1}}"#;
    const EMBEDDED: &str = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.1]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    const COUNTED: &str = r#"{"input_tokens":14}"#;
    let provider = Provider::start(|asked| {
        let path = asked.line.as_str();
        Says::json(match () {
            () if path.ends_with("/messages") => ANTHROPIC,
            () if path.ends_with("/count_tokens") => COUNTED,
            () if path.contains(":generateContent") => GEMINI,
            () if path.ends_with("/converse") => BEDROCK,
            () => EMBEDDED,
        })
    })
    .await;
    let cluster = Cluster::start(1).await;
    let providers = [
        ("openai", "openai", &provider),
        ("claude", "anthropic", &provider),
        ("gemini", "gemini", &provider),
        ("bedrock", "bedrock", &provider),
    ];
    let rest = "\
consumers: [{name: acme}]
models:
  - {name: \"claude-*\", deployments: [{provider: claude}]}
  - {name: g, deployments: [{provider: gemini, model: gemini-2.5-flash}]}
  - {name: b, deployments: [{provider: bedrock, model: \"us.claude-v1:0\"}]}
  - {name: e, deployments: [{provider: openai, model: embed-3}]}
routes:
  - {name: all, match: {path: /*}, llm: {models: [\"claude-*\", g, b, e]}, auth: [key]}
";
    cluster.apply(&document(&cluster, &providers, rest)).await;
    let bearer = cluster.bearer("acme", "/v1/models").await;
    let key = bearer.strip_prefix("Bearer ").unwrap();
    let cases = [
        (
            "/v1/messages",
            ("x-api-key", key),
            r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#,
            ANTHROPIC,
            "/v1/messages",
            ("x-api-key", "sk-claude"),
            (3, 5 + 2),
        ),
        (
            "/v1/messages/count_tokens?beta=true",
            ("x-api-key", key),
            r#"{"model":"claude-x","messages":[]}"#,
            COUNTED,
            "/v1/messages/count_tokens",
            ("anthropic-version", "2023-06-01"),
            (0, 0),
        ),
        (
            "/v1beta/models/g:generateContent",
            ("x-goog-api-key", key),
            r#"{"contents":[]}"#,
            GEMINI,
            "/v1beta/models/gemini-2.5-flash:generateContent",
            ("x-goog-api-key", "sk-gemini"),
            (2, 4),
        ),
        (
            "/model/b/converse",
            ("authorization", bearer.as_str()),
            r#"{"messages":[]}"#,
            BEDROCK,
            "/model/us.claude-v1%3A0/converse",
            ("authorization", "Bearer sk-bedrock"),
            (1, 6),
        ),
        (
            "/v1/embeddings",
            ("api-key", key),
            r#"{"model":"e","input":"x"}"#,
            EMBEDDED,
            "/v1/embeddings",
            ("authorization", "Bearer sk-openai"),
            (0, 8),
        ),
    ];
    for (path, header, body, says, asked_path, (name, value), (out, prompt)) in cases {
        let answer = post(&cluster, path, &[header], body).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, says.as_bytes()), "{path}");
        let asked = provider.last();
        assert_eq!(asked.line, format!("POST {asked_path}"), "{path}");
        assert_eq!(asked.header(name), value, "{path}");
        assert!(!format!("{:?}", asked.headers).contains(key), "{path}: the caller's key went on");
        let line = told(&cluster, |line| {
            line["path"].as_str().is_some_and(|p| p == path.split('?').next().unwrap() || p == path)
        })
        .await;
        let llm = &line["llm"];
        let tokens = |name: &str| llm[name].as_u64().unwrap();
        assert_eq!(
            (tokens("output_tokens"), tokens("input_tokens") + tokens("cache_read_tokens")),
            (out, prompt),
            "{line}"
        );
    }
    // The key in the query, as Google's old clients send it: it goes no further and is told to nobody.
    let answer =
        post(&cluster, &format!("/v1beta/models/g:generateContent?key={key}"), &[], r#"{"contents":[]}"#).await;
    assert_eq!(answer.status, 200);
    assert!(!provider.last().line.contains("key="), "{}", provider.last().line);
    let log = std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap();
    assert!(!log.contains(key), "the log tells a key");
}

#[tokio::test]
async fn models_are_listed_as_each_sdk_reads_them() {
    let provider = Provider::start(|_| Says::json(ANSWER)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], REST)).await;
    let list = async |path: &str, headers: &[(&str, &str)]| {
        cluster.client.get(&cluster.nodes[0].url(path), headers).await.unwrap()
    };
    let openai = list("/v1/models", &[]).await.json();
    assert_eq!((&openai["object"], &openai["data"][0]["id"]), (&"list".into(), &"fast".into()));
    let anthropic = list("/v1/models", &[("anthropic-version", "2023-06-01")]).await.json();
    assert_eq!((&anthropic["data"][0]["type"], &anthropic["last_id"]), (&"model".into(), &"fast".into()));
    assert_eq!(list("/v1beta/models", &[]).await.json()["models"][0]["name"], "models/fast");
    assert_eq!(list("/v1/models/fast", &[]).await.json()["id"], "fast");
    assert_eq!(openai["data"].as_array().unwrap().len(), 1, "nobody can ask for a pattern");
    assert_eq!(list("/v1/models/slow", &[]).await.status, 404);
    assert!(provider.asked().is_empty(), "nobody was asked");
}
