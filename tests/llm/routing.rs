//! Whom of its deployments a model asks: strategies, what a call needs, conditions, what belongs together.

use std::collections::HashSet;
use std::time::Duration;

use http::Method;

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, post};

/// Says who it is.
fn chat(text: &str) -> String {
    format!(
        "{{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}}}"
    )
}

async fn says(name: &'static str) -> Provider {
    Provider::start(move |_| Says::json(chat(name))).await
}

async fn slow(name: &'static str, thinks: u64) -> Provider {
    Provider::start(move |_| Says { thinks: Duration::from_millis(thinks), ..Says::json(chat(name)) }).await
}

fn ask(model: &str, rest: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]{rest}}}"#)
}

/// Who answered.
async fn who(cluster: &Cluster, headers: &[(&str, &str)], body: &str) -> String {
    let answer = post(cluster, "/v1/chat/completions", headers, body).await;
    let json = answer.json();
    assert_eq!(answer.status, 200, "{json}");
    json["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_strategy_orders_the_deployments_of_one_priority() {
    let (one, two, three) = (says("one").await, slow("two", 120).await, says("three").await);
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - name: ordered
    strategy: priority
    deployments: [{provider: two}, {provider: one}, {provider: three, priority: -1}]
  - name: quick
    strategy: fastest
    deployments: [{provider: one, model: q}, {provider: two, model: q}]
  - name: cheap
    strategy: cheapest
    deployments:
      - {provider: one, model: gpt-4o}
      - {provider: two, model: of-no-catalogue}
      - {provider: three, model: gpt-4o-mini}
routes: [{name: llm, match: {path: /*}, llm: {models: [ordered, quick, cheap]}}]
";
    let providers = [("one", "openai", &one), ("two", "openai", &two), ("three", "openai", &three)];
    cluster.apply(&document(&cluster, &providers, rest)).await;
    for _ in 0..5 {
        assert_eq!(who(&cluster, &[], &ask("ordered", "")).await, "two");
        assert_eq!(who(&cluster, &[], &ask("cheap", "")).await, "three");
    }
    let mut counts = [0, 0];
    for _ in 0..40 {
        let slow = who(&cluster, &[], &ask("quick", "")).await == "two";
        counts[usize::from(slow)] += 1;
    }
    assert!((1..=3).contains(&counts[1]), "one that nobody knows is tried, and then left: {counts:?}");
}

#[tokio::test]
async fn only_deployments_that_can_are_asked_and_the_caller_learns_what_is_missing() {
    let (small, large) = (says("small").await, says("large").await);
    let cluster = Cluster::start(1).await;
    let rest = "\
consumers: [{name: acme, residency: [eu]}]
models:
  - name: fast
    deployments:
      - {provider: small, priority: 1, context: 1000, can: [], region: us-east-1, tags: [batch]}
      - {provider: large, context: 8000, can: [tools, vision, json_schema], region: eu-west-1}
  - {name: tiny, deployments: [{provider: small, model: t, context: 1000, can: [tools], region: us-east-1}]}
  - {name: known, deployments: [{provider: small, model: o3-mini}]}
routes:
  - {name: open, match: {path: /open/*}, llm: {models: [fast, tiny, known]}}
  - {name: keyed, match: {path: /keyed/*}, llm: {models: [fast, tiny]}, auth: [key]}
";
    cluster.apply(&document(&cluster, &[("small", "openai", &small), ("large", "openai", &large)], rest)).await;
    let chat = "/open/v1/chat/completions";
    let image = r#","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#;
    let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
    let schema = r#","response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}}}"#;
    let long = format!(r#","messages":[{{"role":"user","content":"{}"}}]"#, "word ".repeat(2_000));
    let body = |model: &str, rest: &str| match rest.contains("messages") {
        true => format!(r#"{{"model":"{model}"{rest}}}"#),
        false => ask(model, rest),
    };
    let answered = async |headers: &[(&str, &str)], body: String| {
        let answer = post(&cluster, chat, headers, &body).await;
        let json = answer.json();
        let text = json["choices"][0]["message"]["content"].as_str();
        (answer.status.as_u16(), text.or(json["error"]["message"].as_str()).unwrap_or_default().to_owned(), json)
    };
    assert_eq!(answered(&[], body("fast", "")).await.1, "small");
    for needs in [image, tools, schema, &long] {
        assert_eq!(answered(&[], body("fast", needs)).await.1, "large", "{needs:.60}");
    }
    assert_eq!(answered(&[("x-tidegate-residency", "eu")], body("fast", "")).await.1, "large");
    assert_eq!(answered(&[("x-tidegate-residency", "us, ch")], body("fast", tools)).await.0, 400);
    assert_eq!(answered(&[("x-tidegate-tags", "batch")], body("fast", "")).await.1, "small");
    for (needs, missing) in
        [(image, "images"), (schema, "answers by a JSON schema"), (long.as_str(), "a context of about 2")]
    {
        let (status, message, json) = answered(&[], body("tiny", needs)).await;
        assert!(status == 400 && message.contains(missing), "{status} {message}");
        assert_eq!(json["error"]["type"], "invalid_request_error", "{json}");
    }
    assert_eq!(answered(&[], body("tiny", &long)).await.2["error"]["code"], "context_length_exceeded");
    let (status, message, _) = answered(&[("x-tidegate-residency", "eu")], body("tiny", "")).await;
    assert!(status == 400 && message.contains("residency in `eu`"), "{status} {message}");
    // What the catalogue knows of a model: this one sees nothing.
    assert_eq!(answered(&[], body("known", tools)).await.0, 200);
    assert_eq!(answered(&[], body("known", image)).await.0, 400);
    // In other words as well.
    let image = r#"{"model":"tiny","max_tokens":9,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x"}}]}]}"#;
    let told = post(&cluster, "/open/v1/messages", &[], image).await;
    let json = told.json();
    assert_eq!((told.status.as_u16(), &json["error"]["type"]), (400, &"invalid_request_error".into()), "{json}");
    assert!(json["error"]["message"].as_str().unwrap().contains("images"), "{json}");
    let before = small.asked().len();
    let key = cluster.bearer("acme", "/keyed/v1/models").await;
    let headers = [("authorization", key.as_str()), ("x-tidegate-residency", "us")];
    let kept = post(&cluster, "/keyed/v1/chat/completions", &headers[..1], &ask("fast", "")).await;
    assert_eq!(kept.json()["choices"][0]["message"]["content"], "large");
    let out = post(&cluster, "/keyed/v1/chat/completions", &headers, &ask("fast", "")).await;
    assert_eq!(out.status, 400, "a caller narrows where it may go, and never widens it");
    assert_eq!(small.asked().len(), before);
    assert!(large.last().headers.keys().all(|name| !name.as_str().starts_with("x-tidegate")), "ours alone");
}

#[tokio::test]
async fn conditions_look_at_caller_headers_prompt_and_tags() {
    let (one, two, three) = (says("one").await, says("two").await, says("three").await);
    let cluster = Cluster::start(1).await;
    let rest = r#"
plans: [{name: gold}]
consumers: [{name: acme, plan: gold}, {name: other}]
models:
  - name: fast
    conditions:
      - {when: 'prompt.tokens > 1000', model: long}
      - {when: '"x-tier" in headers && headers["x-tier"] == "best" && caller.plan == "gold"', tags: [best]}
      - {when: '"night" in tags || user == "nobody"', tags: [best, night]}
      - {when: 'headers["x-none"] == "fails"', tags: [best]}
    deployments:
      - {provider: one, priority: 1}
      - {provider: two, tags: [best]}
      - {provider: three, tags: [best, night], priority: -1}
  - {name: long, deployments: [{provider: three, model: long}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}, auth: [key]}]
"#;
    let providers = [("one", "openai", &one), ("two", "openai", &two), ("three", "openai", &three)];
    cluster.apply(&document(&cluster, &providers, rest)).await;
    let acme = cluster.bearer("acme", "/v1/models").await;
    let other = cluster.bearer("other", "/v1/models").await;
    let long = format!(r#"{{"model":"fast","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(1_000));
    let best = [("authorization", acme.as_str()), ("x-tier", "best")];
    for (headers, body, expected) in [
        (&best[..1], ask("fast", ""), "one"),
        (&best[..], ask("fast", ""), "two"),
        (&[("authorization", other.as_str()), ("x-tier", "best")], ask("fast", ""), "one"),
        (&best[..1], ask("fast", r#","user":"nobody""#), "three"),
        (&[("authorization", acme.as_str()), ("x-tidegate-tags", "night")], ask("fast", ""), "three"),
        (&best[..], long, "three"),
    ] {
        assert_eq!(who(&cluster, headers, &body).await, expected, "{headers:?} {body:.80}");
    }
    for (when, why) in [("prompt.tokens >", "conditions[0].when"), ("promt.tokens > 1", "nothing is named `promt`")] {
        let text = document(&cluster, &providers, &rest.replace("prompt.tokens > 1000", when));
        let path = cluster.write("bad.yaml", &text);
        let said = cluster.cli(&["check", path.to_str().unwrap()]).await.expect_err("a bad condition");
        assert!(said.contains("models[0].conditions[0].when") && said.contains(why), "{said}");
    }
}

#[tokio::test]
async fn what_belongs_together_goes_to_one_deployment_on_every_node() {
    let providers = [says("a").await, says("b").await, says("c").await];
    let cluster = Cluster::start(3).await;
    let rest = "\
models:
  - name: cached
    strategy: sticky
    deployments: [{provider: a}, {provider: b}, {provider: c}]
  - name: session
    strategy: sticky
    sticky: {by: [\"header:x-session\", user]}
    deployments: [{provider: a, model: s}, {provider: b, model: s}, {provider: c, model: s}]
routes: [{name: llm, match: {path: /*}, llm: {models: [cached, session]}}]
";
    let named = [("a", "openai", &providers[0]), ("b", "openai", &providers[1]), ("c", "openai", &providers[2])];
    cluster.apply(&document(&cluster, &named, rest)).await;
    let mut homes = HashSet::new();
    let at = async |node: usize, headers: &[(&str, &str)], body: String| {
        let url = cluster.nodes[node].url("/v1/chat/completions");
        let answer = cluster.client.send(Method::POST, &url, headers, body).await.unwrap().json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    for conversation in 0..12 {
        let turn = |more: &str| {
            format!(
                r#"{{"model":"cached","messages":[{{"role":"system","content":"be kind"}},{{"role":"user","content":"question {conversation}"}}{more}]}}"#
            )
        };
        let home = at(0, &[], turn("")).await;
        let longer = turn(r#",{"role":"assistant","content":"a"},{"role":"user","content":"and now?"}"#);
        assert_eq!(at(1, &[], longer.clone()).await, home, "a conversation stays where it was");
        assert_eq!(at(2, &[], longer).await, home, "on every node");
        homes.insert(home);
        let session = format!("s{conversation}");
        let headers = [("x-session", session.as_str())];
        let home = at(0, &headers, ask("session", "")).await;
        assert_eq!(at(1, &headers, ask("session", r#","user":"somebody""#)).await, home);
        let user = ask("session", &format!(r#","user":"u{conversation}""#));
        assert_eq!(at(0, &[], user.clone()).await, at(2, &[], user).await);
    }
    assert!(homes.len() > 1, "all conversations are at one place");
}

#[tokio::test]
async fn who_carries_more_than_its_share_is_passed_over_however_sticky_a_call_is() {
    let providers = [slow("a", 400).await, slow("b", 400).await];
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - name: fast
    strategy: sticky
    sticky: {by: [user], load: 120}
    deployments: [{provider: a}, {provider: b}]
routes: [{name: llm, match: {path: /*}, llm: {models: [fast]}}]
";
    cluster.apply(&document(&cluster, &[("a", "openai", &providers[0]), ("b", "openai", &providers[1])], rest)).await;
    let calls = (0..20).map(|_| who(&cluster, &[], r#"{"model":"fast","user":"one","messages":[]}"#));
    let homes = futures_util::future::join_all(calls).await;
    let at_a = homes.iter().filter(|home| *home == "a").count();
    assert!((6..=14).contains(&at_a), "{at_a} of 20 calls of one user at once");
    let alone = who(&cluster, &[], r#"{"model":"fast","user":"one","messages":[]}"#).await;
    for _ in 0..3 {
        assert_eq!(who(&cluster, &[], r#"{"model":"fast","user":"one","messages":[]}"#).await, alone);
    }
}

/// A first token that comes at once and slow ones after it, or late and then quickly.
async fn streams(name: &'static str, thinks: u64, pace: u64) -> Provider {
    Provider::start(move |_| {
        let chunk = |text: &str| {
            format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n")
        };
        let mut text: String = [chunk(name), chunk("a").repeat(15)].concat();
        text.push_str("data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
        text.push_str("data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":16,\"total_tokens\":19}}\n\ndata: [DONE]\n\n");
        Says { thinks: Duration::from_millis(thinks), ..Says::events(&text).paced(Duration::from_millis(pace)) }
    })
    .await
}

#[tokio::test]
async fn the_fastest_of_streams_is_who_begins_soon_and_goes_on_quickly() {
    let (late, brisk) = (streams("late", 400, 1).await, streams("brisk", 10, 1).await);
    let (slow, quick) = (streams("slow", 10, 20).await, streams("quick", 60, 1).await);
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: first, strategy: fastest, deployments: [{provider: late}, {provider: brisk}]}
  - {name: each, strategy: fastest, deployments: [{provider: slow}, {provider: quick}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [first, each]}}]
";
    let providers = [
        ("late", "openai", &late),
        ("brisk", "openai", &brisk),
        ("slow", "openai", &slow),
        ("quick", "openai", &quick),
    ];
    cluster.apply(&document(&cluster, &providers, rest)).await;
    for (model, answers) in [("first", [&late, &brisk]), ("each", [&slow, &quick])] {
        for _ in 0..16 {
            let answer =
                post(&cluster, "/v1/chat/completions", &[], &ask(model, r#","stream":true,"max_tokens":16"#)).await;
            assert_eq!(answer.status, 200);
        }
        let counts = answers.map(|provider| provider.asked().len());
        assert!(counts[0] <= 3 && counts[1] >= 13, "one that nobody knows is tried, and then left: {model} {counts:?}");
    }
}
