//! Providers that fail: before the first byte somebody else is asked, after it the stream ends in order.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt;

use crate::harness::{Cluster, Provider, Says, eventually};
use crate::llm::{document, events, open, post, told};

const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"from two"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;
const THROTTLED: &str =
    r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#;

fn chunk(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

const REST: &str = "\
models:
  - name: fast
    deployments: [{provider: one, priority: 1}, {provider: two}]
  - {name: alone, deployments: [{provider: one}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, alone]}}]
";

const ASK: &str = r#"{"model":"fast","messages":[{"role":"user","content":"hello"}]}"#;

#[tokio::test]
async fn what_a_provider_says_of_our_account_or_key_is_told_to_nobody() {
    const ARN: &str =
        r#"{"message":"User: arn:aws:iam::123456789012:user/gate is not authorized to perform: bedrock:InvokeModel"}"#;
    const ECHO: &str =
        r#"{"error":{"message":"the key sk-proj-abcdefghijklmnop1234 is not for this","type":"server_error"}}"#;
    let aws = Provider::start(|_| Says::error(403, ARN).with("x-amzn-errortype", "AccessDeniedException")).await;
    let openai = Provider::start(|_| Says::error(500, ECHO)).await;
    let created = Provider::start(|_| Says { status: 201, ..Says::json(CHAT) }).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: claude, deployments: [{provider: aws, model: claude-x}]}
  - {name: fast, deployments: [{provider: openai, model: real}]}
  - {name: new, deployments: [{provider: created, model: real}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [claude, fast, new]}}]
";
    let providers = [("aws", "bedrock", &aws), ("openai", "openai", &openai), ("created", "openai", &created)];
    cluster.apply(&document(&cluster, &providers, rest)).await;
    let converse = r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#;
    for (path, body, status) in [
        ("/model/claude/converse", converse.to_owned(), 502),
        ("/v1/chat/completions", ASK.replace("fast", "claude"), 502),
        ("/v1/chat/completions", ASK.to_owned(), 500),
        (
            "/v1/messages",
            r#"{"model":"fast","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#.to_owned(),
            500,
        ),
    ] {
        let answer = post(&cluster, path, &[], &body).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, status, "{path}: {text}");
        assert!(!text.contains("123456789012") && !text.contains("abcdefghijklmnop"), "{path}: {text}");
    }
    // Any success is one, and is paid for.
    let answer = post(&cluster, "/v1/chat/completions", &[], &ASK.replace("fast", "new")).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, CHAT.as_bytes()));
    let line = told(&cluster, |line| line["llm"]["model"] == "new").await;
    assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["output_tokens"]), (&3.into(), &2.into()), "{line}");
    let log = std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap();
    assert!(!log.contains("123456789012") && !log.contains("abcdefghijklmnop"), "{log}");
}

#[tokio::test]
async fn another_deployment_is_asked_before_the_first_byte_whatever_the_first_one_does() {
    let one = Provider::start(|asked| {
        let odd = asked.json()["model"].as_str().unwrap_or_default().to_owned();
        match odd.trim_start_matches("odd-").trim_end_matches("-stream") {
            "429" => Says::error(429, THROTTLED).with("retry-after", "0"),
            "500" => Says::error(500, "<html>oops</html>"),
            "529" => Says::error(529, "{}"),
            "401" => Says::error(401, r#"{"error":{"message":"wrong key sk-one","code":"invalid_api_key"}}"#),
            "garbage" => Says::json("no json"),
            "silent" => Says { pieces: vec![], ..Says::events("") },
            "in-band" => {
                Says::events("data: {\"error\":{\"message\":\"overloaded\",\"type\":\"overloaded_error\"}}\n\n")
            }
            "late" => Says { thinks: Duration::from_secs(30), ..Says::events("data: [DONE]\n\n") },
            _ => Says { breaks: true, pieces: vec![], ..Says::json("") },
        }
    })
    .await;
    let two = Provider::start(|asked| match asked.json()["stream"].as_bool() {
        Some(true) => Says::events(
            &(chunk("from two")
                + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"),
        ),
        _ => Says::json(CHAT),
    })
    .await;
    let cluster = Cluster::start(1).await;
    // Each kind has a deployment of its own: who fails in a row is asked last.
    let rest = "\
models: [{name: \"odd-*\", deployments: [{provider: one, priority: 1}, {provider: two}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [\"odd-*\"]}}]
";
    let text = document(&cluster, &[("one", "openai", &one), ("two", "groq", &two)], rest);
    cluster.apply(&text.replace("kind: openai,", "kind: openai, first_event: 1s,")).await;
    for (odd, stream) in [
        ("429", false),
        ("500", false),
        ("529", false),
        ("401", false),
        ("garbage", false),
        ("break", false),
        ("429", true),
        ("500", true),
        ("silent", true),
        ("in-band", true),
        ("late", true),
        ("break", true),
    ] {
        let name = format!("odd-{odd}{}", if stream { "-stream" } else { "" });
        let ask = format!(r#"{{"model":"{name}","stream":{stream},"messages":[]}}"#);
        let answer = post(&cluster, "/v1/chat/completions", &[], &ask).await;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && text.contains("from two"), "{odd} {stream}: {} {text}", answer.status);
        assert!(!text.contains("overloaded"), "{odd}: answers of two providers are mixed: {text}");
        assert_eq!(one.last().json()["model"], name.as_str(), "it was not asked first");
    }
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert_eq!((&line["llm"]["fallbacks"], &line["upstream"]), (&1.into(), &"two".into()), "{line}");
}

#[tokio::test]
async fn a_provider_that_throttles_is_asked_last_until_it_said_that_it_is_over() {
    let one = Provider::start(|_| Says::error(429, THROTTLED).with("retry-after", "2")).await;
    let two = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], REST)).await;
    let began = tokio::time::Instant::now();
    let mut asked = 0;
    while began.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(post(&cluster, "/v1/chat/completions", &[], ASK).await.status, 200);
        asked += 1;
    }
    assert!(one.asked().len() == 1 && asked > 5, "{} of {asked} calls met the throttle", one.asked().len());
    eventually("it is asked again", Duration::from_secs(5), async || {
        post(&cluster, "/v1/chat/completions", &[], ASK).await;
        one.asked().len() > 1
    })
    .await;
}

#[tokio::test]
async fn what_the_provider_says_is_told_in_the_callers_words_when_nobody_else_is_left() {
    let one = Provider::start(|asked| match asked.json()["model"].as_str() {
        Some("alone") if asked.line.contains("chat") => Says::error(429, THROTTLED).with("retry-after", "7"),
        _ => Says::error(
            400,
            r#"{"error":{"message":"no such field","type":"invalid_request_error","param":"x","code":null}}"#,
        ),
    })
    .await;
    let two = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], REST)).await;
    let answer = post(&cluster, "/v1/chat/completions", &[], &ASK.replace("fast", "alone")).await;
    assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(answer.body, THROTTLED, "as the provider told it");
    let ask = r#"{"model":"alone","max_tokens":5,"messages":[{"role":"user","content":"hello"}]}"#;
    let answer = post(&cluster, "/v1/messages", &[], ask).await;
    assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()), (429, "7"));
    let told = answer.json();
    assert_eq!((&told["type"], &told["error"]["type"]), (&"error".into(), &"rate_limit_error".into()), "{told}");
    // The caller's own mistake is nobody else's business.
    let answer = post(&cluster, "/v1/chat/completions", &[], ASK).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].clone()), (400, "x".into()));
    assert!(two.asked().is_empty(), "a bad call was sent to everybody");
}

#[tokio::test]
async fn our_own_refusals_speak_the_callers_language() {
    let one = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
consumers: [{name: acme}]
models: [{name: fast, deployments: [{provider: one}]}]
limits: [{name: one, window: 1h, max: 1, per: [key]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}, auth: [key], limits: [one]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one)], rest)).await;
    let key = cluster.key("acme").await;
    let bearer = format!("Bearer {key}");
    let known = [("authorization", bearer.as_str())];
    eventually("the key is known", Duration::from_secs(5), async || {
        post(&cluster, "/v1/chat/completions", &known, "{}").await.status != 401
    })
    .await;
    let openai = post(&cluster, "/v1/chat/completions", &[], ASK).await;
    assert_eq!((openai.status.as_u16(), openai.json()["error"]["code"].clone()), (401, "invalid_api_key".into()));
    let anthropic = post(&cluster, "/v1/messages", &[], ASK).await;
    assert_eq!(anthropic.json()["error"]["type"], "authentication_error");
    let gemini = post(&cluster, "/v1beta/models/fast:generateContent", &[], "{}").await;
    assert_eq!((gemini.status.as_u16(), gemini.json()["error"]["status"].clone()), (401, "UNAUTHENTICATED".into()));
    let bedrock = post(&cluster, "/model/fast/converse", &[], "{}").await;
    assert_eq!(bedrock.headers["x-amzn-errortype"], "UnrecognizedClientException");
    let unknown = post(&cluster, "/v1/chat/completions", &known, &ASK.replace("fast", "slow")).await;
    assert_eq!((unknown.status.as_u16(), unknown.json()["error"]["code"].clone()), (404, "model_not_found".into()));
    let unknown = post(&cluster, "/v1/messages", &known, &ASK.replace("fast", "slow")).await;
    assert_eq!(unknown.json()["error"]["type"], "not_found_error");
    let torn = post(&cluster, "/v1/chat/completions", &known, r#"{"model":"fast","model":"slow"}"#).await;
    assert_eq!((torn.status.as_u16(), torn.json()["error"]["type"].clone()), (400, "invalid_request_error".into()));
    assert_eq!(post(&cluster, "/v1/chat/completions", &known, ASK).await.status, 200);
    for (path, kind) in [("/v1/chat/completions", "rate_limit_error"), ("/v1/messages", "rate_limit_error")] {
        let ask = r#"{"model":"fast","max_tokens":4,"messages":[{"role":"user","content":"hello"}]}"#;
        let limited = post(&cluster, path, &known, ask).await;
        assert_eq!((limited.status.as_u16(), limited.json()["error"]["type"].clone()), (429, kind.into()), "{path}");
        assert!(limited.headers.contains_key("retry-after"), "{path}");
        assert_eq!(limited.headers["x-ratelimit-limit-requests"], "1", "{path}");
        assert_eq!(limited.headers["x-ratelimit-remaining-requests"], "0", "{path}");
    }
    assert_eq!(one.asked().len(), 1, "refused calls go nowhere");
}

#[tokio::test]
async fn a_stream_that_breaks_after_its_first_byte_ends_with_an_error_inside_it() {
    let one = Provider::start(|_| Says {
        breaks: true,
        ..Says::events(&(chunk("a") + &chunk("b"))).paced(Duration::from_millis(30))
    })
    .await;
    let two = Provider::start(|_| Says::events(&chunk("from two"))).await;
    let cluster = Cluster::start(1).await;
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], REST)).await;
    let ask = r#"{"model":"fast","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hello"}]}"#;
    let answer = post(&cluster, "/v1/chat/completions", &[], ask).await;
    let said = events(&answer.body);
    assert_eq!(said[0]["choices"][0]["delta"]["content"], "a");
    assert!(said.last().unwrap()["error"]["message"].as_str().unwrap().contains("broke off"), "{said:?}");
    let answer = post(&cluster, "/v1/messages", &[], ask).await;
    let said = events(&answer.body);
    assert_eq!(
        (&said[0]["type"], &said.last().unwrap()["type"]),
        (&"message_start".into(), &"error".into()),
        "{said:?}"
    );
    assert!(two.asked().is_empty(), "never two answers in one");
    let line = told(&cluster, |line| line["cut"] == "upstream").await;
    assert_eq!(line["llm"]["estimated"], true);
}

#[tokio::test]
async fn a_caller_who_hangs_up_cancels_the_provider_at_once() {
    let one = Provider::start(|_| {
        let text: String = (0..200).map(|_| chunk("word ")).collect();
        Says::events(&text).paced(Duration::from_millis(50))
    })
    .await;
    let cluster = Cluster::start(1).await;
    cluster
        .apply(&document(
            &cluster,
            &[("one", "openai", &one)],
            "\
models: [{name: fast, deployments: [{provider: one}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}}]
",
        ))
        .await;
    let (_, mut stream) =
        open(&cluster, "/v1/chat/completions", r#"{"model":"fast","stream":true,"messages":[]}"#).await;
    for _ in 0..3 {
        stream.frame().await.unwrap().unwrap();
    }
    drop(stream);
    eventually("the provider is left alone", Duration::from_secs(2), async || {
        one.cancelled.load(Ordering::SeqCst) == 1
    })
    .await;
    let line = told(&cluster, |line| line["cut"] == "client").await;
    let paid = line["llm"]["output_tokens"].as_u64().unwrap();
    assert!((4..20).contains(&paid), "four words were seen: {line}");
}

#[tokio::test]
async fn a_stream_whose_caller_hangs_up_is_heard_to_its_end_where_that_is_chosen() {
    let text: String = (0..8).map(|n| chunk(&format!("piece {n} "))).collect();
    let end = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":70,\"completion_tokens\":30,\"total_tokens\":100}}\n\n\
        data: [DONE]\n\n";
    let text = text + end;
    let one = Provider::start(move |_| Says::events(&text).paced(Duration::from_millis(40))).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: tokens, window: 1h, max: 10000, cost: {from: tokens}}]
models: [{name: fast, deployments: [{provider: one}]}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast], hang_up: drain, cache: {ttl: 1h}}, limits: [tokens]}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one)], rest)).await;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let ask = ASK.replace("\"fast\",", "\"fast\",\"stream\":true,\"max_tokens\":99,");
        let (_, stream) = open(&cluster, path, &ask).await;
        drop(stream);
        let line = told(&cluster, |line| line["path"] == path).await;
        let of = &line["llm"];
        // All that the provider counted, though nobody was there any more.
        let told = (&of["input_tokens"], &of["output_tokens"], &of["estimated"], &of["finish"]);
        assert_eq!(told, (&70.into(), &30.into(), &serde_json::Value::Null, &"stop".into()), "{line}");
        // And whoever asks again has the answer.
        let before = one.asked().len();
        let again = post(&cluster, path, &[], &ask).await;
        assert!(String::from_utf8_lossy(&again.body).contains("piece 7"), "{again:?}");
        assert_eq!(one.asked().len(), before, "nobody was asked");
    }
    assert_eq!(one.cancelled.load(Ordering::SeqCst), 0);
    eventually("both are paid, and once", Duration::from_secs(5), async || {
        cluster.cli(&["quota", "get", "tokens"]).await.expect("a counter")["spent"] == 200
    })
    .await;
}

#[tokio::test]
async fn a_whole_answer_whose_caller_hangs_up_is_heard_to_its_end_where_that_is_chosen() {
    let late = Duration::from_millis(700);
    let one = Provider::start(move |asked| match asked.json()["model"].as_str() {
        Some("bad") => Says { thinks: late, ..Says::error(500, "{}") },
        _ => Says { thinks: late, ..Says::json(CHAT) },
    })
    .await;
    let two = Provider::start(|_| Says::json(CHAT)).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits: [{name: tokens, window: 1h, max: 10000, cost: {from: tokens}}]
models:
  - {name: fast, deployments: [{provider: one}]}
  - {name: falls, deployments: [{provider: one, model: bad, priority: 1}, {provider: two}]}
routes:
  - {name: cut, match: {path: /cut/*}, llm: {models: [fast]}}
  - {name: llm, match: {path: /*}, llm: {models: [fast, falls], hang_up: drain, cache: {ttl: 1h}}, limits: [tokens]}
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "openai", &two)], rest)).await;
    let hang_up = async |path: &str, ask: &str| {
        let before = one.asked().len();
        let call = post(&cluster, path, &[], ask);
        let asked = eventually("it is asked", Duration::from_secs(5), async || one.asked().len() > before);
        tokio::select! {
            answer = call => panic!("{}", answer.status),
            () = asked => {}
        }
    };
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let ask = ASK.replace("\"fast\",", "\"fast\",\"max_tokens\":99,");
        hang_up(path, &ask).await;
        let line = told(&cluster, |line| line["path"] == path).await;
        let of = &line["llm"];
        let told = (&of["input_tokens"], &of["output_tokens"], &of["estimated"], &line["cut"]);
        assert_eq!(told, (&3.into(), &2.into(), &serde_json::Value::Null, &"client".into()), "{line}");
        // And whoever asks again has the answer.
        let before = one.asked().len();
        let again = post(&cluster, path, &[], &ask).await;
        assert!(String::from_utf8_lossy(&again.body).contains("from two"), "{again:?}");
        assert_eq!(one.asked().len(), before, "nobody was asked");
    }
    eventually("both are paid, and once", Duration::from_secs(5), async || {
        cluster.cli(&["quota", "get", "tokens"]).await.expect("a counter")["spent"] == 10
    })
    .await;
    // For who left nobody else is asked.
    hang_up("/v1/chat/completions", &ASK.replace("fast", "falls")).await;
    let line = told(&cluster, |line| line["llm"]["model"] == "falls").await;
    assert_eq!((&line["cut"], two.asked().len()), (&"client".into(), 0), "{line}");
    // Elsewhere it is cancelled at once.
    hang_up("/cut/v1/chat/completions", ASK).await;
    let line = told(&cluster, |line| line["route"] == "cut").await;
    assert_eq!((&line["cut"], &line["llm"]["estimated"]), (&"client".into(), &true.into()), "{line}");
}
