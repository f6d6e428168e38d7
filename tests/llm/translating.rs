//! Caller and provider speak different languages: nothing is lost that both can say.

use serde_json::{Value, json};

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, events, post, told};

const ANTHROPIC: &str = "\
event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\n\
event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
event: ping\ndata: {\"type\":\"ping\"}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Let me see.\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"weather\",\"input\":{}}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"city\\\":\"}}\n\n\
event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"Oslo\\\"}\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":30}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const OPENAI: &str = "\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Let me see.\"},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"weather\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"city\\\":\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"Oslo\\\"}\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":30,\"total_tokens\":50}}\n\n\
data: [DONE]\n\n";

const REST: &str = "\
models:
  - {name: claude, deployments: [{provider: claude, model: claude-x}]}
  - {name: gpt, deployments: [{provider: openai, model: gpt-x}]}
  - {name: lax, deployments: [{provider: claude, model: claude-x}], losses: drop}
routes: [{name: llm, match: {path: /*}, llm: {models: [claude, gpt, lax]}}]
";

async fn both() -> (Provider, Provider, Cluster) {
    let claude = Provider::start(|asked| match asked.json()["stream"].as_bool() {
        Some(true) => Says::events(ANTHROPIC),
        _ => Says::json(
            json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
            "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 4}})
            .to_string(),
        ),
    })
    .await;
    let openai = Provider::start(|_| Says::events(OPENAI)).await;
    let cluster = Cluster::start(1).await;
    let providers = [("claude", "anthropic", &claude), ("openai", "openai", &openai)];
    cluster.apply(&document(&cluster, &providers, REST)).await;
    (claude, openai, cluster)
}

#[tokio::test]
async fn openais_callers_stream_tools_from_anthropic() {
    let (claude, _, cluster) = both().await;
    let ask = json!({"model": "claude", "stream": true, "stream_options": {"include_usage": true}, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Weather in Oslo?"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
            "properties": {"city": {"type": "string"}}, "required": ["city"]}}}], "tool_choice": "required"});
    let answer = post(&cluster, "/v1/chat/completions", &[], &ask.to_string()).await;
    let asked = claude.last();
    let body = asked.json();
    assert_eq!((asked.line.as_str(), asked.header("x-api-key")), ("POST /v1/messages", "sk-claude"));
    assert_eq!((&body["model"], &body["tools"][0]["name"]), (&"claude-x".into(), &"weather".into()));
    assert_eq!(body["tool_choice"]["type"], "any");
    assert!(body["max_tokens"].as_u64().unwrap() > 0 && body["system"].to_string().contains("Be brief."), "{body}");
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
    let said = events(&answer.body);
    let deltas = said.iter().map(|chunk| &chunk["choices"][0]["delta"]);
    let text: String = deltas.clone().filter_map(|delta| delta["content"].as_str()).collect();
    let calls = deltas.flat_map(|delta| delta["tool_calls"].as_array().cloned().unwrap_or_default());
    let arguments: String =
        calls.filter_map(|call| call["function"]["arguments"].as_str().map(str::to_owned)).collect();
    assert_eq!((text.as_str(), arguments.as_str()), ("Let me see.", "{\"city\":\"Oslo\"}"));
    assert!(said.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
    assert_eq!(said.last().unwrap()["usage"]["total_tokens"], 50);
    assert!(said.iter().all(|chunk| chunk["model"] == "claude"), "the name that the caller used");
    let line = told(&cluster, |line| line["status"] == 200).await;
    let llm = &line["llm"];
    assert_eq!((&llm["dialect"], &llm["translated_to"]), (&"openai_chat".into(), &"anthropic".into()));
    assert_eq!(
        (&llm["input_tokens"], &llm["output_tokens"], &llm["finish"]),
        (&20.into(), &30.into(), &"tool_calls".into())
    );
}

#[tokio::test]
async fn anthropics_callers_stream_tools_from_openai() {
    let (_, openai, cluster) = both().await;
    let ask = json!({"model": "gpt", "stream": true, "max_tokens": 77, "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Weather in Oslo?"}]}],
        "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]});
    let answer = post(&cluster, "/v1/messages", &[("anthropic-version", "2023-06-01")], &ask.to_string()).await;
    let asked = openai.last();
    let body = asked.json();
    assert_eq!((asked.line.as_str(), asked.header("authorization")), ("POST /v1/chat/completions", "Bearer sk-openai"));
    assert_eq!(
        (&body["messages"][0]["role"], &body["stream_options"]["include_usage"]),
        (&"system".into(), &true.into())
    );
    assert_eq!(body["tools"][0]["function"]["name"], "weather");
    let said = events(&answer.body);
    let kinds: Vec<&str> = said.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("message_start", "message_stop"));
    let partial: String = said.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(partial, "{\"city\":\"Oslo\"}");
    let tool: Vec<&Value> = said.iter().filter(|event| event["content_block"]["type"] == "tool_use").collect();
    assert_eq!((tool.len(), &tool[0]["content_block"]["name"]), (1, &"weather".into()));
    let last = said.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!((&last["delta"]["stop_reason"], &last["usage"]["output_tokens"]), (&"tool_use".into(), &30.into()));
}

#[tokio::test]
async fn what_cannot_be_carried_is_refused_by_name_or_dropped_by_name() {
    let (claude, _, cluster) = both().await;
    let ask = r#"{"model":"MODEL","seed":7,"logit_bias":{"1":2},"messages":[{"role":"user","content":"hi"}]}"#;
    let refused = post(&cluster, "/v1/chat/completions", &[], &ask.replace("MODEL", "claude")).await;
    let told = refused.json();
    assert_eq!((refused.status.as_u16(), &told["error"]["type"]), (400, &"invalid_request_error".into()), "{told}");
    let param = told["error"]["param"].as_str().unwrap();
    assert!(
        ["seed", "logit_bias"].contains(&param) && told["error"]["message"].as_str().unwrap().contains(param),
        "{told}"
    );
    assert!(claude.asked().is_empty());
    let taken = post(&cluster, "/v1/chat/completions", &[], &ask.replace("MODEL", "lax")).await;
    let dropped = taken.headers["x-tidegate-dropped"].to_str().unwrap();
    assert!(taken.status == 200 && dropped.contains("seed") && dropped.contains("logit_bias"), "{dropped}");
    assert_eq!(taken.json()["choices"][0]["message"]["content"], "hi");
}

#[tokio::test]
async fn a_translated_response_says_again_what_was_asked() {
    let (_, _, cluster) = both().await;
    let tools = json!([{"type": "function", "name": "weather", "description": "d", "strict": false,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]);
    let ask = |stream: bool| {
        json!({"model": "lax", "stream": stream, "input": "Weather?", "instructions": "Be brief.", "tools": tools,
            "tool_choice": "auto", "temperature": 0.25, "top_p": 0.5, "max_output_tokens": 77, "parallel_tool_calls": false,
            "metadata": {"ticket": "7"}, "reasoning": {"effort": "low"}, "text": {"verbosity": "low"}, "user": "u1",
            "truncation": "auto", "store": true})
        .to_string()
    };
    let check = |response: &Value| {
        for (name, value) in [
            ("instructions", json!("Be brief.")),
            ("tools", tools.clone()),
            ("tool_choice", json!("auto")),
            ("temperature", json!(0.25)),
            ("top_p", json!(0.5)),
            ("max_output_tokens", json!(77)),
            ("parallel_tool_calls", json!(false)),
            ("metadata", json!({"ticket": "7"})),
            ("reasoning", json!({"effort": "low", "summary": null})),
            ("text", json!({"format": {"type": "text"}, "verbosity": "low"})),
            ("truncation", json!("auto")),
            ("user", json!("u1")),
            ("store", json!(false)),
            ("model", json!("lax")),
            ("error", Value::Null),
        ] {
            assert_eq!(response[name], value, "{name}: {response}");
        }
    };
    check(&post(&cluster, "/v1/responses", &[], &ask(false)).await.json());
    let stream = post(&cluster, "/v1/responses", &[], &ask(true)).await;
    let told = events(&stream.body);
    let responses: Vec<&Value> =
        told.iter().map(|event| &event["response"]).filter(|value| value.is_object()).collect();
    assert_eq!(responses.len(), 3, "created, in progress, completed");
    responses.into_iter().for_each(check);
    // Nothing said, nothing made up.
    let plain = post(&cluster, "/v1/responses", &[], r#"{"model":"lax","input":"x"}"#).await.json();
    let told = (&plain["temperature"], &plain["tools"], &plain["tool_choice"], &plain["metadata"]);
    assert_eq!(told, (&Value::Null, &json!([]), &json!("auto"), &json!({})), "{plain}");
}
