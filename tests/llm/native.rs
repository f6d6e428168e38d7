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
    let headers = [
        auth,
        ("content-type", "multipart/form-data; boundary=b"),
        ("cookie", "a=b"),
        ("openai-beta", "x=1"),
        ("client-cert", ":AAAA:"),
        ("x_forwarded_for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("x-real-ip", "192.0.2.1"),
    ];
    let answer = post(&cluster, "/llm/openai/v1/files?purpose=batch", &headers, &upload).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, br#"{"id":"file-1","bytes":3}"#.as_slice()));
    assert_eq!(answer.headers["openai-version"], "2020-10-01", "its head passes too");
    let asked = provider.last();
    assert_eq!((asked.line.as_str(), asked.body.len()), ("POST /v1/files?purpose=batch", upload.len()));
    assert_eq!(asked.header("authorization"), "Bearer sk-openai");
    assert_eq!((asked.header("cookie"), asked.header("openai-beta")), ("", "x=1"));
    for claim in ["client-cert", "x_forwarded_for", "x-forwarded-for", "forwarded", "x-real-ip"] {
        assert_eq!(asked.header(claim), "", "nothing tells who calls: {claim}");
    }
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
async fn what_a_provider_says_of_our_key_is_told_to_nobody_on_its_own_paths_either() {
    let provider = Provider::start(|asked| {
        let told = format!(r#"{{"error":{{"message":"wrong: {}"}}}}"#, asked.header("authorization"));
        match asked.line.contains("files") {
            true => Says { status: 401, ..Says::json(told) }.with("www-authenticate", "Bearer realm=sk-openai"),
            false => Says { status: 400, ..Says::json(told) },
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let providers = [("openai", "openai", &provider), ("claude", "anthropic", &provider)];
    cluster.apply(&document(&cluster, &providers, REST)).await;
    let bearer = cluster.bearer("acme", "/llm/v1/models").await;
    for (path, status) in [("files", 502), ("batches", 400), ("chat/completions", 400)] {
        let path = format!("/llm/openai/v1/{path}");
        let answer = post(&cluster, &path, &[("authorization", &bearer)], r#"{"model":"x","messages":[]}"#).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(answer.json()["error"]["message"].is_string(), "{path}: {text}");
        assert!(
            !text.contains("sk-openai") && !format!("{:?}", answer.headers).contains("sk-openai"),
            "{path}: {text}"
        );
    }
}

#[tokio::test]
async fn what_passes_as_it_is_is_priced_and_logged_like_other_calls() {
    let provider = Provider::start(|asked| {
        let path = asked.line.as_str();
        match () {
            () if path.contains("images") => Says::json(r#"{"created":1,"data":[{"url":"https://x"}],"api_key":"hush-hush"}"#),
            () if path.contains("embeddings") => Says::json(
                r#"{"object":"list","data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            ),
            () if asked.body == "no json" => Says::error(400, r#"{"error":{"message":"no JSON"}}"#),
            () if path.contains("chat/completions") && asked.json()["stream"] == true => Says::events(STREAM),
            () if path.contains("deployments/ours") => Says::json(
                r#"{"id":"c","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#,
            ),
            () => Says::json(
                r#"{"id":"c","model":"x","choices":[{"index":0,"message":{"role":"assistant","content":"hello world"},"finish_reason":"stop"}]}"#,
            ),
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits:
  - {name: money, budget: {money: 1, per: day}}
  - {name: tokens, window: 1h, max: 300, per: [header:x-who], cost: {from: tokens}}
routes:
  - {name: paid, match: {path: /paid/*}, llm: {native: [openai, azure], log_bodies: {}}, limits: [money]}
  - {name: free, match: {path: /free/*}, llm: {native: [openai, azure]}}
  - {name: few, match: {path: /few/*}, llm: {native: [openai]}, limits: [tokens]}
";
    let providers = [("openai", "openai", &provider), ("azure", "azure", &provider)];
    cluster.apply(&document(&cluster, &providers, rest)).await;
    let ask = |model: &str, more: serde_json::Value| {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hello world"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body.to_string()
    };
    let of = |line: &serde_json::Value| line["llm"].clone();
    // A stream with its usage: $2.50 and $10 for a million tokens, reserved before by its length.
    let streams = ask("gpt-4o", json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = post(&cluster, "/paid/openai/v1/chat/completions", &[], &streams).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, STREAM.as_bytes()));
    assert_eq!(provider.last().body, streams, "byte for byte");
    let line = of(&told(&cluster, |line| line["llm"]["stream"] == true).await);
    assert_eq!(
        (&line["cost_nanos"], &line["deployed"]),
        (&(9 * 2_500 + 2 * 10_000).into(), &"gpt-4o".into()),
        "{line}"
    );
    let call = line["call"].as_str().unwrap();
    assert!(call.contains("hello world"), "{line}");
    let said: serde_json::Value = serde_json::from_str(line["answer"].as_str().unwrap()).unwrap();
    assert_eq!(said["choices"][0]["message"]["content"], "Hi", "a stream is logged whole");
    // Nobody told the usage: it is counted.
    post(&cluster, "/paid/openai/v1/chat/completions", &[], &ask("gpt-4o", json!({}))).await;
    let line = of(&told(&cluster, |line| line["llm"]["counted"] == "o200k_base").await);
    assert_eq!(
        (&line["input_tokens"], &line["output_tokens"], &line["cost_nanos"]),
        (&9.into(), &2.into(), &42_500.into())
    );
    assert!(line["answer"].as_str().unwrap().contains("hello world"), "{line}");
    let embed = r#"{"model":"text-embedding-3-small","input":"hello"}"#;
    post(&cluster, "/paid/openai/v1/embeddings", &[], embed).await;
    let line = of(&told(&cluster, |line| line["llm"]["deployed"] == "text-embedding-3-small").await);
    assert_eq!((&line["input_tokens"], &line["cost_nanos"]), (&8.into(), &160.into()), "{line}");
    // A name of one's own: whose model it is stands in the answer alone, too late for a limit of money.
    let azure = "/azure/openai/deployments/ours/chat/completions?api-version=2024-10-21";
    assert_eq!(post(&cluster, &format!("/paid{azure}"), &[], &ask("", json!({}))).await.status, 403);
    assert_eq!(post(&cluster, &format!("/free{azure}"), &[], &ask("", json!({}))).await.status, 200);
    let line = of(&told(&cluster, |line| line["llm"]["provider"] == "azure" && line["status"] == 200).await);
    assert_eq!((&line["cost_nanos"], &line["call"]), (&42_500.into(), &serde_json::Value::Null), "{line}");
    // Of calls that nobody knows: what they say is logged, without secrets; what they cost is not known.
    let picture = r#"{"prompt":"a tide","password":"hush-hush"}"#;
    let json = ("content-type", "application/json");
    assert_eq!(post(&cluster, "/paid/openai/v1/images/generations", &[json], picture).await.status, 403);
    let logs = rest.replace("{native: [openai, azure]}}", "{native: [openai, azure], log_bodies: {}}}");
    cluster.apply(&document(&cluster, &providers, &logs)).await;
    assert_eq!(post(&cluster, "/free/openai/v1/images/generations", &[json], picture).await.status, 200);
    let line = of(&told(&cluster, |line| line["path"] == "/free/openai/v1/images/generations").await);
    assert!(
        line["call"].as_str().unwrap().contains("a tide") && line["answer"].as_str().unwrap().contains("https://x"),
        "{line}"
    );
    assert!(!std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap().contains("hush-hush"));
    // What is no call goes on as it is: its provider says what is wrong.
    post(&cluster, "/free/openai/v1/chat/completions", &[], "no json").await;
    assert_eq!(provider.last().body, "no json");
    // Reserved is what it may come to: 200 tokens of an answer and a short prompt, not its usual length.
    let who = [("x-who", "a")];
    assert_eq!(
        post(&cluster, "/few/openai/v1/chat/completions", &who, &ask("gpt-4o", json!({"max_tokens": 200})))
            .await
            .status,
        200
    );
    let refused = [
        "chat/completions",
        "chat/completion%73",
        "chat//completions",
        "x/%2e%2e/chat/completions",
        "./chat/completions/",
    ];
    for spelling in refused.map(|spelling| format!("/few/openai/v1/{spelling}")) {
        assert_eq!(post(&cluster, &spelling, &who, &ask("gpt-4o", json!({}))).await.status, 429, "{spelling}");
    }
    for hidden in ["chat%2fcompletions", "x/..%2Fchat/completions"].map(|hidden| format!("/few/openai/v1/{hidden}")) {
        assert_eq!(post(&cluster, &hidden, &who, &ask("gpt-4o", json!({}))).await.status, 400, "{hidden}");
    }
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
