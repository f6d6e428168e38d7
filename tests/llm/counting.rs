//! Tokens that nobody tells are counted, where it is known how a model counts: what was used, what a limit reserves, what fits
//! into a context, what is asked for.

use serde_json::{Value, json};

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, open, post, told};

/// `hello world` and so on: o200k_base makes a token of each word.
fn words(count: usize) -> String {
    ["hello"].into_iter().chain(std::iter::repeat_n(" hello", count - 1)).collect()
}

fn chat(text: &str) -> Value {
    json!({"id": "c", "object": "chat.completion", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
}

fn chunk(text: &str) -> String {
    let delta = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]});
    format!("data: {delta}\n\n")
}

const END: &str =
    "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

fn ask(model: &str, text: &str, more: &Value) -> String {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

#[tokio::test]
async fn what_no_provider_tells_is_counted_as_its_model_counts_and_priced() {
    let provider = Provider::start(|asked| {
        let call = asked.json();
        // Eleven tokens in three pieces, the last two of them in one.
        let pieces = [words(8), " \"quoted\"".to_owned(), "\n".to_owned()];
        let all: String = pieces.iter().map(|piece| chunk(piece)).collect();
        match (call["stream"] == true, call["messages"][0]["content"] == "hang") {
            (true, true) => Says { stalls: true, ..Says::events(&all) },
            (true, false) => Says::events(&(all + END)),
            _ => Says::json(chat(&pieces.concat()).to_string()),
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: fast, deployments: [{provider: one, model: gpt-4o}]}
  - {name: other, deployments: [{provider: one, model: of-unknown-make, price: {input: 1, output: 1}}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, other]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    let answer = 11;
    let check = |line: &Value, tokens: u64| {
        let of = &line["llm"];
        // Three around the message, one for its role, three that begin the answer; $2.50 and $10 for a million.
        let cost = (7 + 2) * 2_500 + tokens * 10_000;
        let told = (&of["input_tokens"], &of["output_tokens"], &of["counted"], &of["cost_nanos"]);
        assert_eq!(told, (&(7 + 2).into(), &tokens.into(), &"o200k_base".into(), &cost.into()), "{line}");
        assert!(of["estimated"].is_null(), "{line}");
    };
    post(&cluster, "/v1/chat/completions", &[], &ask("fast", "hello world", &json!({}))).await;
    check(&told(&cluster, |line| line["llm"]["stream"].is_null()).await, answer);
    post(&cluster, "/v1/chat/completions", &[], &ask("fast", "hello world", &json!({"stream": true}))).await;
    check(&told(&cluster, |line| line["llm"]["stream"] == true).await, answer);
    // In another dialect, where nothing is passed over.
    let anthropic = ask("fast", "hello world", &json!({"stream": true, "max_tokens": 99}));
    post(&cluster, "/v1/messages", &[], &anthropic).await;
    check(&told(&cluster, |line| line["llm"]["dialect"] == "anthropic").await, answer);
    // Who hangs up pays for what was said until then.
    let (_, stream) =
        open(&cluster, "/v1/chat/completions", &ask("fast", "hang", &json!({"stream": true, "user": "u"}))).await;
    drop(stream);
    let line = told(&cluster, |line| line["llm"]["counted"] == "o200k_base" && line["llm"]["finish"].is_null()).await;
    assert_eq!(line["llm"]["input_tokens"], 8, "{line}");
    assert!((1..=answer).contains(&line["llm"]["output_tokens"].as_u64().unwrap()), "{line}");
    // Of a model that nobody knows it is an estimate.
    post(&cluster, "/v1/chat/completions", &[], &ask("other", "hello world", &json!({}))).await;
    let line = told(&cluster, |line| line["llm"]["model"] == "other").await;
    assert_eq!((&line["llm"]["estimated"], &line["llm"]["counted"]), (&true.into(), &Value::Null), "{line}");
}

#[tokio::test]
async fn a_limit_that_the_bytes_would_pass_and_the_tokens_do_not_lets_the_call_through() {
    let provider = Provider::start(|_| {
        let mut answer = chat("hello");
        answer["usage"] = json!({"prompt_tokens": 507, "completion_tokens": 1, "total_tokens": 508});
        Says::json(answer.to_string())
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
limits:
  - {name: tokens, window: 1h, max: 1500, per: [model], cost: {from: tokens}}
  - {name: money, window: 1h, max: 6000000, per: [model], cost: {from: money, unpriced: free}}
models:
  - {name: known, deployments: [{provider: one, model: gpt-4o}]}
  - {name: dear, deployments: [{provider: one, model: gpt-4o}]}
  - {name: unknown, deployments: [{provider: one, model: of-unknown-make}]}
routes:
  - {name: llm, match: {path: /*}, llm: {models: [known, unknown]}, limits: [tokens]}
  - {name: paid, match: {path: /paid/*}, llm: {models: [dear]}, limits: [money]}
";
    cluster.apply(&document(&cluster, &[("one", "openai", &provider)], rest)).await;
    let more = json!({"max_tokens": 100});
    let status = async |path: &str, model: &str, words_: usize| {
        post(&cluster, path, &[], &ask(model, &words(words_), &more)).await.status.as_u16()
    };
    let chat = "/v1/chat/completions";
    // 3,000 bytes and 500 tokens of 1,500.
    assert_eq!(status(chat, "unknown", 500).await, 429, "nobody knows how it counts: its bytes are too much");
    assert_eq!(status(chat, "known", 500).await, 200);
    assert_eq!(status(chat, "known", 500).await, 200, "what was used is settled: 1,016 of 1,500");
    assert_eq!(status(chat, "known", 500).await, 429, "now they are not there");
    assert_eq!(status(chat, "known", 2_000).await, 429, "and this is too much, however it is counted");
    // Dollars as well: by its bytes it is $0.0087, by its tokens $0.0026, and the limit has $0.006.
    assert_eq!(status("/paid/v1/chat/completions", "dear", 500).await, 200);
}

#[tokio::test]
async fn a_prompt_near_to_what_a_model_takes_is_counted_before_somebody_is_chosen() {
    let says = |name: &'static str| async move {
        Provider::start(move |_| {
            let mut answer = chat(name);
            answer["usage"] = json!({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4});
            Says::json(answer.to_string())
        })
        .await
    };
    let (small, large) = (says("small").await, says("large").await);
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - name: fast
    deployments:
      - {provider: small, model: gpt-4o, priority: 1, context: 1000}
      - {provider: large, model: gpt-4.1, context: 100000}
  - {name: tiny, deployments: [{provider: small, model: gpt-4o, context: 1000}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, tiny]}}]
";
    cluster.apply(&document(&cluster, &[("small", "openai", &small), ("large", "openai", &large)], rest)).await;
    let asked = async |model: &str, text: &str| {
        let answer = post(&cluster, "/v1/chat/completions", &[], &ask(model, text, &json!({}))).await;
        let json = answer.json();
        let said = json["choices"][0]["message"]["content"].as_str().or(json["error"]["message"].as_str());
        (answer.status.as_u16(), said.unwrap_or_default().to_owned())
    };
    // Five bytes a token: by its length it would not surely fit.
    assert_eq!(asked("fast", &words(900)).await, (200, "small".to_owned()));
    assert_eq!(asked("fast", &words(1_100)).await, (200, "large".to_owned()));
    // Two tokens for each of these: by their length they would surely fit.
    let dense = "\u{12000}".repeat(800);
    assert_eq!(asked("fast", &dense).await.1, "large");
    let (status, message) = asked("tiny", &words(1_100)).await;
    assert!(status == 400 && message.contains("a context of about 1107 tokens"), "{status} {message}");
}

#[tokio::test]
async fn tokens_are_counted_for_who_asks_where_nobody_upstream_counts() {
    let provider = Provider::start(|_| Says::error(404, "{}")).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: known, deployments: [{provider: one, model: openai/gpt-4.1}]}
  - {name: named, deployments: [{provider: one, model: our-deployment, like: openai/gpt-4o}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [known, named]}}]
";
    cluster.apply(&document(&cluster, &[("one", "vllm", &provider)], rest)).await;
    for model in ["known", "named"] {
        let answer = post(&cluster, "/v1/messages/count_tokens", &[], &ask(model, "hello world", &json!({}))).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["input_tokens"]), (200, &9.into()), "{:?}", answer.body);
        assert_eq!(answer.headers["x-tidegate-counted"], "o200k_base");
        assert!(!answer.headers.contains_key("x-tidegate-estimated"));
    }
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hello world"}]}]});
    let answer = post(&cluster, "/v1beta/models/known:countTokens", &[], &contents.to_string()).await;
    assert_eq!(
        (&answer.json()["totalTokens"], &answer.headers["x-tidegate-counted"]),
        (&9.into(), &"o200k_base".parse().unwrap())
    );
    assert!(provider.asked().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn what_no_provider_tells_is_told_to_callers_of_other_dialects_as_it_is_charged() {
    let provider = Provider::start(|asked| match asked.json()["stream"] == true {
        true => Says::events(&(chunk(&words(8)) + &chunk(&words(3)) + END)),
        false => Says::json(chat(&words(11)).to_string()),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: known, deployments: [{provider: one, model: gpt-4o}]}
  - {name: guessed, deployments: [{provider: one, model: of-unknown-make}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [known, guessed]}}]
";
    cluster.apply(&document(&cluster, &[("one", "groq", &provider)], rest)).await;
    let messages = json!([{"role": "user", "content": "hello world"}]);
    for (nth, model) in ["known", "guessed"].into_iter().enumerate() {
        let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hello world"}]}]});
        let converse = json!({"messages": [{"role": "user", "content": [{"text": "hello world"}]}]});
        let anthropic =
            |stream: bool| json!({"model": model, "max_tokens": 99, "stream": stream, "messages": messages});
        let responses = |stream: bool| json!({"model": model, "stream": stream, "input": "hello world"});
        let cohere = |stream: bool| json!({"model": model, "stream": stream, "messages": messages});
        let calls = [
            ("/v1/messages".to_owned(), anthropic(false), "/usage/input_tokens", "/usage/output_tokens"),
            ("/v1/messages".to_owned(), anthropic(true), "/usage/input_tokens", "/usage/output_tokens"),
            ("/v1/responses".to_owned(), responses(false), "/usage/input_tokens", "/usage/output_tokens"),
            (
                "/v1/responses".to_owned(),
                responses(true),
                "/response/usage/input_tokens",
                "/response/usage/output_tokens",
            ),
            ("/v2/chat".to_owned(), cohere(false), "/usage/tokens/input_tokens", "/usage/tokens/output_tokens"),
            (
                "/v2/chat".to_owned(),
                cohere(true),
                "/delta/usage/tokens/input_tokens",
                "/delta/usage/tokens/output_tokens",
            ),
            (
                format!("/v1beta/models/{model}:generateContent"),
                contents.clone(),
                "/usageMetadata/promptTokenCount",
                "/usageMetadata/candidatesTokenCount",
            ),
            (
                format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
                contents,
                "/usageMetadata/promptTokenCount",
                "/usageMetadata/candidatesTokenCount",
            ),
            (format!("/model/{model}/converse"), converse, "/usage/inputTokens", "/usage/outputTokens"),
        ];
        for (at, (path, body, prompt, answer)) in calls.into_iter().enumerate() {
            let who = format!("{nth}-{at}");
            let query = if path.contains('?') { "&" } else { "?" };
            // Told by its query: lines of the log have no other mark.
            let told_to = post(&cluster, &format!("{path}{query}who={who}"), &[], &body.to_string()).await;
            let text = String::from_utf8_lossy(&told_to.body).replace("\r\n", "\n");
            assert_eq!(told_to.status, 200, "{path}: {text}");
            let seen = match text.starts_with('{') {
                true => serde_json::from_str::<Value>(&text).unwrap(),
                false => {
                    let mut all = crate::llm::events(text.as_bytes());
                    all.retain(|event| event.pointer(answer).is_some_and(|tokens| tokens != 0));
                    all.pop().unwrap_or_else(|| panic!("{path}: nothing told: {text}"))
                }
            };
            let line = told(&cluster, |line| line.to_string().contains(&format!("who={who}"))).await;
            let of = &line["llm"];
            assert_eq!(
                (seen.pointer(prompt), seen.pointer(answer)),
                (Some(&of["input_tokens"]), Some(&of["output_tokens"])),
                "{path}: {line}"
            );
            assert!(of["output_tokens"] != 0 && of["input_tokens"] != 0, "{line}");
            match model {
                "known" => {
                    assert_eq!((&of["counted"], &of["output_tokens"]), (&"o200k_base".into(), &11.into()), "{line}")
                }
                _ => assert_eq!((&of["counted"], &of["estimated"]), (&Value::Null, &true.into()), "{line}"),
            }
        }
    }
}
