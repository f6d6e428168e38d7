//! What providers know us by: signatures, tokens that end, and keys that callers bring themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tidegate_auth::outward::sigv4::{Unsigned, sign};
use tidegate_policy::{AwsKeys, Hidden};

use crate::harness::{Asked, Cluster, Provider, Says, eventually};
use crate::llm::{log, post, told};

const BEDROCK: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":6,"outputTokens":1,"totalTokens":7}}"#;
const GEMINI: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"totalTokenCount":6}}"#;
const CLAUDE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":3}}"#;
const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const ASK: &str = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
const ROUTE: &str = "routes: [{name: llm, match: {path: /*}, llm: {models: [m]}}]\n";

fn secret(cluster: &Cluster, name: &str, value: &str) -> String {
    let file = cluster.write(name, value);
    format!("  - {{name: {name}, from: \"file:{}\"}}\n", file.display())
}

/// Is a call signed with these keys, as it came?
fn is_signed(asked: &Asked, secret: &str, session: Option<&str>) -> bool {
    let keys = AwsKeys {
        access: Hidden::new("AKIDEXAMPLE".into()),
        secret: Hidden::new(secret.into()),
        session: session.map(|session| Hidden::new(session.into())),
        region: "eu-central-1".into(),
        service: "bedrock".into(),
    };
    let mut headers = asked.headers.clone();
    let sent = headers["authorization"].clone();
    let (method, path) = asked.line.split_once(' ').unwrap();
    let stamp = asked.header("x-amz-date").to_owned();
    let number = |range: std::ops::Range<usize>| stamp[range].parse::<u64>().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seconds = number(9..11) * 3_600 + number(11..13) * 60 + number(13..15);
    let day = now - now % 86_400;
    // The day may have changed since.
    [day, day - 86_400].into_iter().any(|day| {
        let unsigned = Unsigned { method: &method.parse().unwrap(), path, query: "", body: &asked.body };
        sign(&unsigned, &mut headers, &keys, day + seconds).unwrap();
        headers["authorization"] == sent
    })
}

#[tokio::test]
async fn calls_of_bedrock_are_signed_whole_or_streamed() {
    let provider = Provider::start(|_| Says::json(BEDROCK)).await;
    let cluster = Cluster::start(1).await;
    let text = format!(
        "version: 1\nsecrets:\n{}{}providers:\n  - {{name: b, kind: bedrock, url: \"{}\", aws: {{access_key_id: AKIDEXAMPLE, \
         secret_access_key: \"${{secrets.secret}}\", session_token: \"${{secrets.session}}\", region: eu-central-1}}}}\n\
         models: [{{name: m, deployments: [{{provider: b, model: \"us.claude-v1:0\"}}]}}]\n{ROUTE}{}",
        secret(&cluster, "secret", "wJalrXUtnFEMI/K7MDENG"),
        secret(&cluster, "session", "FwoG+token=="),
        provider.url(),
        log(&cluster),
    );
    cluster.apply(&text).await;
    let answer = post(&cluster, "/v1/chat/completions", &[], ASK).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let asked = provider.last();
    assert_eq!(asked.line, "POST /model/us.claude-v1%3A0/converse");
    assert!(is_signed(&asked, "wJalrXUtnFEMI/K7MDENG", Some("FwoG+token==")), "{asked:?}");
    assert!(!is_signed(&asked, "another", Some("FwoG+token==")));
    let line = asked.header("authorization");
    let names = "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token";
    assert!(line.contains("/eu-central-1/bedrock/aws4_request") && line.contains(names), "{line}");

    let streamed = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
    let _no_event_stream = post(&cluster, "/v1/chat/completions", &[], streamed).await;
    assert_eq!(provider.last().line, "POST /model/us.claude-v1%3A0/converse-stream");
    assert!(is_signed(&provider.last(), "wJalrXUtnFEMI/K7MDENG", Some("FwoG+token==")));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told_and_the_next_deployment_answers() {
    let provider = Provider::start(|_| {
        Says::error(403, r#"{"message":"Signature expired: 20200101T000000Z is now earlier than 20300101T000000Z"}"#)
            .with("x-amzn-errortype", "InvalidSignatureException")
            .with("date", "Tue, 01 Jan 2030 00:00:00 GMT")
    })
    .await;
    let other = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let text = format!(
        "version: 1\nsecrets:\n{}providers:\n  - {{name: b, kind: bedrock, url: \"{}\", aws: {{access_key_id: AKID, \
         secret_access_key: \"${{secrets.secret}}\", region: eu-central-1}}}}\n  - {{name: o, kind: vllm, url: \"{}\"}}\n\
         models: [{{name: m, deployments: [{{provider: b, priority: 1}}, {{provider: o}}]}}, {{name: only, deployments: [{{provider: b}}]}}]\n\
         routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [m, only]}}}}]\n{}",
        secret(&cluster, "secret", "s3cret"),
        provider.url(),
        other.url(),
        log(&cluster),
    );
    cluster.apply(&text).await;
    assert_eq!(post(&cluster, "/v1/chat/completions", &[], ASK).await.status, 200);
    let answer = post(&cluster, "/v1/chat/completions", &[], &ASK.replace("\"m\"", "\"only\"")).await;
    let told = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 502);
    assert!(told.contains("clock is") && told.contains("behind"), "{told}");
    assert!(!told.contains("20200101"), "AWS's own words are not the caller's to read: {told}");
}

/// A document with one provider on Vertex AI, whose account's tokens come from the same server.
fn vertex(cluster: &Cluster, provider: &Provider, kind: &str, more: &str) -> String {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----\\n",
        STANDARD.encode(AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref())
    );
    let account = format!(
        r#"{{"type":"service_account","client_email":"robot@p","private_key_id":"k","private_key":"{pem}","token_uri":"{}/token"}}"#,
        provider.url()
    );
    format!(
        "version: 1\nsecrets:\n{}providers:\n  - {{name: v, kind: {kind}, url: \"{}\", google: {{project: p-1, location: \
         europe-west4, service_account: \"${{secrets.account}}\"}}}}\n{more}{ROUTE}{}",
        secret(cluster, "account", &account),
        provider.url(),
        log(cluster),
    )
}

#[tokio::test]
async fn an_accounts_token_is_fetched_once_kept_and_renewed_before_it_ends() {
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    let provider = Provider::start(move |asked| {
        if asked.line != "POST /token" {
            return Says::json(GEMINI);
        }
        let n = count.fetch_add(1, Ordering::SeqCst);
        // The first ends soon: 15 s less the margin of 10, renewed when 3 s are left of it.
        let body = format!(
            r#"{{"access_token":"ya29.{n}","expires_in":{},"token_type":"Bearer"}}"#,
            if n == 0 { 15 } else { 3600 }
        );
        Says { thinks: Duration::from_millis(100), ..Says::json(body) }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let models = "models: [{name: m, deployments: [{provider: v, model: gemini-2.5-flash}]}]\n";
    cluster.apply(&vertex(&cluster, &provider, "vertex", models)).await;
    let calls = (0..20).map(|_| post(&cluster, "/v1/chat/completions", &[], ASK));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 200, "{:?}", answer.body);
    }
    assert_eq!(fetched.load(Ordering::SeqCst), 1, "one fetch for all who wait");
    let asked = provider.asked();
    let form = String::from_utf8_lossy(&asked[0].body).into_owned();
    assert!(
        form.starts_with("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Ajwt%2Dbearer&assertion="),
        "{form}"
    );
    assert_eq!(asked[0].header("content-type"), "application/x-www-form-urlencoded");
    let path = "POST /v1/projects/p-1/locations/europe-west4/publishers/google/models/gemini-2.5-flash:generateContent";
    assert!(asked[1..].iter().all(|asked| asked.line == path && asked.header("authorization") == "Bearer ya29.0"));
    eventually("the next token is used", Duration::from_secs(10), async || {
        assert_eq!(post(&cluster, "/v1/chat/completions", &[], ASK).await.status, 200);
        provider.last().header("authorization") == "Bearer ya29.1"
    })
    .await;
    assert_eq!(fetched.load(Ordering::SeqCst), 2);
    let log = std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap();
    assert!(!log.contains("ya29"), "the log tells a token");
}

#[tokio::test]
async fn without_a_token_the_next_deployment_answers() {
    let google =
        Provider::start(|_| Says::error(400, r#"{"error":"invalid_grant","error_description":"Invalid JWT"}"#)).await;
    let other = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let models = format!(
        "  - {{name: o, kind: vllm, url: \"{}\"}}\n\
         models: [{{name: m, deployments: [{{provider: v, priority: 1}}, {{provider: o}}]}}]\n",
        other.url()
    );
    cluster.apply(&vertex(&cluster, &google, "vertex", &models)).await;
    for _ in 0..5 {
        assert_eq!(post(&cluster, "/v1/chat/completions", &[], ASK).await.status, 200);
    }
    assert!(google.asked().iter().all(|asked| asked.line == "POST /token"), "the model was asked without a token");
    assert!(google.asked().len() <= 2, "a token's endpoint that fails is left alone for a while");
    let line = told(&cluster, |line| line["llm"]["fallbacks"] == 1).await;
    assert_eq!((&line["llm"]["provider"], &line["llm"]["fallbacks"]), (&"o".into(), &1.into()), "{line}");
}

#[tokio::test]
async fn claude_on_vertex_gets_its_version_in_the_body_and_its_model_in_the_path() {
    let provider = Provider::start(|asked| match asked.line.contains("/token") {
        true => Says::json(r#"{"access_token":"ya29.m","expires_in":3600}"#),
        false if asked.line.contains("count-tokens") => Says::json(r#"{"input_tokens":14}"#),
        false => Says::json(CLAUDE),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let text = format!(
        "version: 1\nproviders:\n  - {{name: v, kind: vertex_anthropic, url: \"{0}\", google: {{project: p-1, metadata: \"{0}\"}}}}\n\
         models: [{{name: m, deployments: [{{provider: v, model: claude-sonnet-4-5@20250929}}]}}]\n{ROUTE}{1}",
        provider.url(),
        log(&cluster),
    );
    cluster.apply(&text).await;
    let base = "POST /v1/projects/p-1/locations/global/publishers/anthropic/models";
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(post(&cluster, "/v1/messages", &[], body).await.body, CLAUDE);
    let asked = provider.last();
    assert_eq!(asked.line, format!("{base}/claude-sonnet-4-5@20250929:rawPredict"));
    assert_eq!(asked.header("authorization"), "Bearer ya29.m");
    let want =
        r#"{"max_tokens":9,"messages":[{"role":"user","content":"hi"}],"anthropic_version":"vertex-2023-10-16"}"#;
    assert_eq!(asked.body, want, "nothing else changes");
    assert_eq!(provider.asked()[0].header("metadata-flavor"), "Google");

    assert_eq!(post(&cluster, "/v1/chat/completions", &[], ASK).await.status, 200);
    let asked = provider.last().json();
    assert_eq!((&asked["model"], &asked["anthropic_version"]), (&serde_json::Value::Null, &"vertex-2023-10-16".into()));
    let streamed = body.replacen('{', r#"{"stream":true,"#, 1);
    let _no_stream = post(&cluster, "/v1/messages", &[], &streamed).await;
    assert_eq!(provider.last().line, format!("{base}/claude-sonnet-4-5@20250929:streamRawPredict"));

    let counted = post(&cluster, "/v1/messages/count_tokens", &[], r#"{"model":"m","messages":[]}"#).await;
    assert_eq!(counted.json()["input_tokens"], 14);
    assert_eq!(provider.last().line, format!("{base}/count-tokens:rawPredict"));
    assert_eq!(provider.last().json()["model"], "claude-sonnet-4-5@20250929");
}

#[tokio::test]
async fn azure_is_found_by_its_older_paths_too_and_takes_a_token() {
    let provider = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let text = format!(
        "version: 1\nsecrets:\n{}providers:\n  - {{name: z, kind: azure, url: \"{}\", api_version: 2024-10-21, token: \"${{secrets.entra}}\"}}\n\
         models: [{{name: m, deployments: [{{provider: z, model: my-gpt}}]}}]\n{ROUTE}",
        secret(&cluster, "entra", "eyJ.x.y"),
        provider.url(),
    );
    cluster.apply(&text).await;
    assert_eq!(post(&cluster, "/v1/chat/completions", &[], ASK).await.status, 200);
    let asked = provider.last();
    assert_eq!(asked.line, "POST /openai/deployments/my-gpt/chat/completions?api-version=2024-10-21");
    assert_eq!((asked.header("authorization"), asked.header("api-key")), ("Bearer eyJ.x.y", ""));
    let _embedded = post(&cluster, "/v1/embeddings", &[], r#"{"model":"m","input":"x"}"#).await;
    assert_eq!(provider.last().line, "POST /openai/deployments/my-gpt/embeddings?api-version=2024-10-21");
}

#[tokio::test]
async fn a_callers_own_key_goes_to_its_provider_alone_and_never_into_a_log() {
    let one = Provider::start(|asked| match asked.header("authorization") {
        "Bearer sk-wrong" => Says::error(401, r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#),
        "Bearer sk-late" => Says::error(500, "{}"),
        _ => Says::json(CHAT),
    })
    .await;
    let two = Provider::start(|_| Says::json(CLAUDE)).await;
    let cluster = Cluster::start(1).await;
    let text = format!(
        "version: 1\nsecrets:\n{}providers:\n  - {{name: one, kind: openai, url: \"{}\", key: \"${{secrets.ours}}\", caller_keys: may}}\n  \
         - {{name: two, kind: anthropic, url: \"{}\", key: \"${{secrets.ours}}\", caller_keys: may}}\n  \
         - {{name: strict, kind: openai, url: \"{}\", caller_keys: must}}\n\
         consumers: [{{name: acme}}]\n\
         models:\n  - {{name: m, deployments: [{{provider: one, priority: 1}}, {{provider: two}}]}}\n  - {{name: s, deployments: [{{provider: strict}}]}}\n\
         routes:\n  - {{name: keyed, match: {{path: /keyed/*}}, llm: {{models: [m, s]}}, auth: [key]}}\n  - {{name: open, match: {{path: /*}}, llm: {{models: [s]}}}}\n{}",
        secret(&cluster, "ours", "sk-ours"),
        one.url(),
        two.url(),
        one.url(),
        log(&cluster),
    );
    cluster.apply(&text).await;
    let bearer = cluster.bearer("acme", "/keyed/v1/models").await;
    let ask = async |own: &str, body: &str| {
        let headers = [("authorization", bearer.as_str()), ("x-tidegate-provider-key", own)];
        let headers = if own.is_empty() { &headers[..1] } else { &headers[..] };
        post(&cluster, "/keyed/v1/chat/completions", headers, body).await
    };
    assert_eq!(ask("", ASK).await.status, 200);
    assert_eq!(one.last().header("authorization"), "Bearer sk-ours");
    assert_eq!(ask("one=sk-mine", ASK).await.status, 200);
    let asked = one.last();
    assert_eq!((asked.header("authorization"), asked.header("x-tidegate-provider-key")), ("Bearer sk-mine", ""));

    // His key does not help: he is told so himself, and ours never pays for him.
    let before = two.asked().len();
    let answer = ask("one=sk-wrong", ASK).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));
    assert_eq!(ask("one=sk-late", ASK).await.status, 500);
    assert_eq!(two.asked().len(), before, "another provider was asked with our key");
    assert_eq!(ask("one=sk-late, two=sk-ant-mine", ASK).await.status, 200);
    assert_eq!(two.last().header("x-api-key"), "sk-ant-mine");
    assert_eq!(ask("sk-whose", ASK).await.status, 400, "two providers take keys: it has to say whose it is");

    // Where a key of the caller's is a must, there is no other.
    let strict = ASK.replace("\"m\"", "\"s\"");
    assert_eq!(ask("", &strict).await.status, 400);
    assert_eq!(ask("sk-bare", &strict).await.status, 200);
    assert_eq!(one.last().header("authorization"), "Bearer sk-bare");
    // An open route: as his SDK sends it.
    assert_eq!(
        post(&cluster, "/v1/chat/completions", &[("authorization", "Bearer sk-sdk")], &strict).await.status,
        200
    );
    assert_eq!(one.last().header("authorization"), "Bearer sk-sdk");
    assert_eq!(post(&cluster, "/v1/chat/completions?key=sk-query", &[], &strict).await.status, 200);
    assert_eq!(
        (one.last().header("authorization"), &*one.last().line),
        ("Bearer sk-query", "POST /v1/chat/completions")
    );
    let _written = told(&cluster, |line| line["route"] == "open").await;
    let log = std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap();
    for key in ["sk-mine", "sk-wrong", "sk-late", "sk-bare", "sk-sdk", "sk-query", "sk-ant"] {
        assert!(!log.contains(key), "the log tells {key}");
    }
}
