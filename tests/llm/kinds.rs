//! Calls that are no chat, and providers with words of their own: Cohere's chat, embeddings, counts of tokens.

use serde_json::{Value, json};

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, events, post, told};

const COHERE: &str = include_str!("../../crates/llm/tests/golden/streams/plan.cohere.txt");

fn rest(models: &str, names: &str) -> String {
    format!("models:\n{models}routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [{names}]}}}}]\n")
}

#[tokio::test]
async fn cohere_is_spoken_to_in_its_own_words_and_long_names_of_tools_come_back() {
    let provider = Provider::start(|asked| {
        let asked = asked.json();
        if asked["stream"] == true {
            return Says::events(COHERE);
        }
        let name = &asked["tools"][0]["function"]["name"];
        Says::json(
            json!({"id": "1", "finish_reason": "TOOL_CALL", "message": {"role": "assistant", "tool_plan": "I will.",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": name, "arguments": "null"}}]},
                "usage": {"billed_units": {"input_tokens": 12, "output_tokens": 7}, "tokens": {"input_tokens": 507}}})
            .to_string(),
        )
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = rest("  - {name: c, deployments: [{provider: cohere, model: command-a-03-2025}]}\n", "c");
    cluster.apply(&document(&cluster, &[("cohere", "cohere", &provider)], &rest)).await;
    let long = "mcp__a.server__".to_owned() + &"x".repeat(80);
    let ask = json!({"model": "c", "top_p": 0.5, "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": long, "parameters": {"type": "object", "properties": {}}}}]});
    let answer = post(&cluster, "/v1/chat/completions", &[], &ask.to_string()).await;
    let asked = provider.last();
    assert_eq!((asked.line.as_str(), asked.header("authorization")), ("POST /v2/chat", "Bearer sk-cohere"));
    let sent = asked.json()["tools"][0]["function"]["name"].as_str().unwrap().to_owned();
    assert!(sent.len() <= 64 && sent.starts_with("mcp__a_server__x"), "{sent}");
    assert_eq!(asked.json()["p"], 0.5);
    let call = &answer.json()["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!((&call["name"], &call["arguments"]), (&long.as_str().into(), &"{}".into()));
    assert_eq!(answer.json()["usage"]["prompt_tokens"], 12, "what is billed");

    let streamed = json!({"model": "c", "stream": true, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let answer = post(&cluster, "/v1/chat/completions", &[], &streamed).await;
    let said = events(&answer.body);
    let text: String = said.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "It is 4.");
    // And whoever brings Cohere's own SDK.
    let own = post(&cluster, "/v2/chat", &[], &streamed).await;
    assert_eq!(own.body, COHERE, "byte for byte");
    let line = told(&cluster, |line| line["path"] == "/v2/chat").await;
    assert_eq!((&line["llm"]["dialect"], &line["llm"]["output_tokens"]), (&"cohere".into(), &7.into()));
}

#[tokio::test]
async fn what_an_answer_could_not_say_is_named_in_its_header_its_stream_and_the_log() {
    let provider = Provider::start(|asked| match asked.line.contains("stream") {
        true => Says::events(
            "data: {\"responseId\":\"r\",\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Here\"},{\"executableCode\":{\"code\":\"1+1\"}},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"aGk=\"}}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":1}}\n\n",
        ),
        false => Says::json(
            json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Here"}, {"executableCode": {"code": "1"}},
                {"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}, "finishReason": "STOP"}]})
            .to_string(),
        ),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = rest("  - {name: g, deployments: [{provider: gemini, model: gemini-2.5-flash}]}\n", "g");
    cluster.apply(&document(&cluster, &[("gemini", "gemini", &provider)], &rest)).await;
    let ask = |stream: bool| {
        json!({"model": "g", "max_tokens": 9, "stream": stream, "messages": [{"role": "user", "content": "hi"}]})
            .to_string()
    };
    let whole = post(&cluster, "/v1/messages", &[], &ask(false)).await;
    assert_eq!(whole.headers["x-tidegate-dropped"], "answer.executableCode, answer.image");
    let chat = post(&cluster, "/v1/chat/completions", &[], &ask(false)).await;
    assert_eq!(chat.headers["x-tidegate-dropped"], "answer.executableCode", "a picture is shown there");
    assert_eq!(chat.json()["choices"][0]["message"]["images"][0]["image_url"]["url"], "data:image/png;base64,aGk=");
    let streamed = post(&cluster, "/v1/messages", &[], &ask(true)).await;
    let text = String::from_utf8_lossy(&streamed.body).into_owned();
    assert!(
        text.contains("\n\n: x-tidegate-dropped: answer.executableCode\n\n: x-tidegate-dropped: answer.image\n\n"),
        "{text}"
    );
    let line = told(&cluster, |line| line["llm"]["stream"] == true).await;
    assert_eq!(line["llm"]["dropped"], "answer.executableCode, answer.image");
}

#[tokio::test]
async fn openais_embeddings_come_from_whoever_has_them() {
    let provider = Provider::start(|asked| {
        let path = asked.line.as_str();
        Says::json(
            match () {
                () if path.ends_with("/embed") => {
                    json!({"embeddings": {"float": [[0.5], [1.5]]}, "meta": {"billed_units": {"input_tokens": 6}}})
                }
                () if path.ends_with(":batchEmbedContents") => {
                    json!({"embeddings": [{"values": [0.5]}, {"values": [1.5]}]})
                }
                () => json!({"embedding": [0.5], "inputTextTokenCount": 3}),
            }
            .to_string(),
        )
    })
    .await;
    let cluster = Cluster::start(1).await;
    let models = "  - {name: c, deployments: [{provider: cohere, model: embed-v4.0}]}
  - {name: g, deployments: [{provider: gemini, model: gemini-embedding-001}]}
  - {name: t, deployments: [{provider: bedrock, model: \"amazon.titan-embed-text-v2:0\"}]}
  - {name: a, deployments: [{provider: claude}]}\n";
    let providers = [
        ("cohere", "cohere", &provider),
        ("gemini", "gemini", &provider),
        ("bedrock", "bedrock", &provider),
        ("claude", "anthropic", &provider),
    ];
    cluster.apply(&document(&cluster, &providers, &rest(models, "c, g, t, a"))).await;
    let ask = async |model: &str, input: Value, more: Value| {
        let mut body = json!({"model": model, "input": input});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(&cluster, "/v1/embeddings", &[], &body.to_string()).await
    };
    for (model, path) in [("c", "POST /v2/embed"), ("g", "POST /v1beta/models/gemini-embedding-001:batchEmbedContents")]
    {
        let answer = ask(model, json!(["one", "two"]), json!({"dimensions": 1})).await.json();
        assert_eq!((&answer["data"][1]["embedding"], &answer["model"]), (&json!([1.5]), &model.into()), "{answer}");
        assert_eq!(provider.last().line, path);
    }
    let line = told(&cluster, |line| line["llm"]["model"] == "c").await;
    assert_eq!((&line["llm"]["input_tokens"], &line["llm"]["estimated"]), (&6.into(), &Value::Null), "{line}");
    let line = told(&cluster, |line| line["llm"]["model"] == "g").await;
    assert_eq!(line["llm"]["estimated"], true, "Gemini does not say: {line}");
    let answer = ask("t", json!("one"), json!({"encoding_format": "base64"})).await;
    assert_eq!(answer.json()["data"][0]["embedding"], "AAAAPw==");
    assert_eq!(provider.last().line, "POST /model/amazon.titan-embed-text-v2%3A0/invoke");
    // A call for each of several texts, and one answer.
    let before = provider.asked().len();
    let answer = ask("t", json!(["one", "two", "three"]), json!({})).await.json();
    assert_eq!((answer["data"].as_array().map(Vec::len), &answer["usage"]["prompt_tokens"]), (Some(3), &9.into()));
    let texts: Vec<Value> = provider.asked()[before..].iter().map(|asked| asked.json()["inputText"].clone()).collect();
    assert!(texts.len() == 3 && ["one", "two", "three"].iter().all(|text| texts.contains(&json!(text))), "{texts:?}");
    let line = told(&cluster, |line| line["llm"]["input_tokens"] == 9).await;
    assert_eq!(line["llm"]["model"], "t");
    for (model, input, status) in [("g", json!([1, 2]), 400), ("a", json!("x"), 400)] {
        assert_eq!(ask(model, input, json!({})).await.status, status, "{model}");
    }
}

#[tokio::test]
async fn tokens_are_counted_by_whoever_answers_or_estimated_and_marked() {
    let provider = Provider::start(|asked| {
        let path = asked.line.as_str();
        match () {
            () if path.ends_with(":countTokens") => Says::json(r#"{"totalTokens":14}"#),
            () if path.ends_with("/count_tokens") => Says::json(r#"{"input_tokens":15}"#),
            () if path.ends_with("/input_tokens") => {
                Says::json(r#"{"object":"response.input_tokens","input_tokens":16}"#)
            }
            () => Says::error(400, r#"{"message":"The provided model doesn't support counting tokens."}"#),
        }
    })
    .await;
    let cluster = Cluster::start(1).await;
    let models = "  - {name: g, deployments: [{provider: gemini, model: gemini-2.5-flash}]}
  - {name: a, deployments: [{provider: claude}]}
  - {name: o, deployments: [{provider: openai}]}
  - {name: b, deployments: [{provider: bedrock}]}
  - {name: v, deployments: [{provider: vllm}]}\n";
    let providers = [
        ("gemini", "gemini", &provider),
        ("claude", "anthropic", &provider),
        ("openai", "openai", &provider),
        ("bedrock", "bedrock", &provider),
        ("vllm", "vllm", &provider),
    ];
    cluster.apply(&document(&cluster, &providers, &rest(models, "g, a, o, b, v"))).await;
    let count = async |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "How many are these?"}]});
        post(&cluster, "/v1/messages/count_tokens", &[], &body.to_string()).await
    };
    for (model, tokens) in [("g", 14), ("a", 15), ("o", 16)] {
        let answer = count(model).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["input_tokens"]), (200, &tokens.into()), "{model}");
        assert!(!answer.headers.contains_key("x-tidegate-estimated"));
    }
    // Gemini's callers, whichever of its two forms they write.
    let contents = json!([{"role": "user", "parts": [{"text": "How many are these?"}]}]);
    for body in
        [json!({"contents": contents}), json!({"generateContentRequest": {"model": "models/a", "contents": contents}})]
    {
        let answer = post(&cluster, "/v1beta/models/a:countTokens", &[], &body.to_string()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["totalTokens"]), (200, &15.into()), "{:?}", answer.body);
        assert!(provider.last().body.windows(19).any(|piece| piece == b"How many are these?"));
    }
    for model in ["b", "v"] {
        let answer = count(model).await;
        assert_eq!((answer.status.as_u16(), &answer.headers["x-tidegate-estimated"]), (200, &"true".parse().unwrap()));
        assert!((3..20).contains(&answer.json()["input_tokens"].as_u64().unwrap()), "{:?}", answer.body);
    }
    assert!(!provider.asked().iter().any(|asked| asked.line.contains("chat/completions")), "nobody was asked to chat");
}
