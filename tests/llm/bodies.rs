//! What is asked and answered is logged where the document says so, and secrets are not.

use crate::harness::{Cluster, Provider, Says};
use crate::llm::{document, post, told};

const PLANTED: [&str; 6] = [
    "sk-proj-plantedplantedplanted1",
    "AIzaPlantedPlantedPlantedPlantedPlanted1",
    "tg_plantedplantedplantedplanted",
    "555-12-9876",
    "swordfish-in-a-member",
    "iVBORw0KGgoPlanted",
];

fn rest(logs: &str) -> String {
    format!(
        "models: [{{name: fast, deployments: [{{provider: one}}]}}]\nroutes: [{{name: llm, match: {{path: /*}}, llm: {{models: [fast]{logs}}}}}]\n"
    )
}

#[tokio::test]
async fn bodies_are_logged_only_where_that_is_switched_on_and_planted_secrets_never() {
    let echo = |text: &str| {
        let text = serde_json::Value::from(text);
        format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":{text}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}}}"#
        )
    };
    let one = Provider::start(move |asked| {
        let said = format!("the answer repeats {} and {}", PLANTED[0], PLANTED[3]);
        if asked.json()["stream"] == true {
            // A secret that no piece holds whole.
            let pieces = said.as_bytes().chunks(7).map(|piece| {
                let delta = serde_json::json!({"choices": [{"index": 0, "delta": {"content": String::from_utf8_lossy(piece)}, "finish_reason": null}]});
                format!("data: {delta}\n\n")
            });
            let all: String = pieces.collect();
            let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
            return Says::events(&(all + end));
        }
        Says::json(echo(&said))
    })
    .await;
    let cluster = Cluster::start(1).await;
    let ask = |streams: bool| {
        let image = format!("data:image/png;base64,{}", PLANTED[5].repeat(30));
        serde_json::json!({
            "model": "fast", "stream": streams, "safety_identifier": PLANTED[4],
            "messages": [
                {"role": "user", "content": format!("ordinary words and {} and {}", PLANTED[0], PLANTED[1])},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image}}]},
                {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": format!("{{\"k\":\"{}\"}}", PLANTED[2])}}]},
                {"role": "user", "content": format!("my number is {}", PLANTED[3])},
            ],
        })
        .to_string()
    };
    let with = |logs: &str| document(&cluster, &[("one", "openai", &one)], &rest(logs));
    cluster.apply(&with("")).await;
    post(&cluster, "/v1/chat/completions", &[], &ask(false)).await;
    let line = told(&cluster, |line| line["status"] == 200).await;
    assert!(line["llm"]["call"].is_null() && line["llm"]["answer"].is_null(), "{line}");

    cluster
        .apply(&with(
            ", log_bodies: {max: 8KiB, without: [safety_identifier], patterns: ['[0-9]{3}-[0-9]{2}-[0-9]{4}']}",
        ))
        .await;
    for streams in [false, true] {
        post(&cluster, "/v1/chat/completions", &[], &ask(streams)).await;
        let line =
            told(&cluster, |line| line["llm"]["stream"] == streams || (!streams && line["llm"]["answer"].is_string()))
                .await;
        let (call, answer) = (line["llm"]["call"].as_str().unwrap(), line["llm"]["answer"].as_str().unwrap());
        assert!(call.contains("ordinary words") && call.contains("[image/png, "), "{call}");
        assert!(answer.contains("the answer repeats"), "{answer}");
        assert!(serde_json::from_str::<serde_json::Value>(call).is_ok(), "{call}");
    }
    let log = std::fs::read_to_string(cluster.nodes[0].folder.join("access.log")).unwrap();
    for secret in PLANTED {
        assert!(!log.contains(secret), "{secret} is in the log");
    }

    cluster.apply(&with(", log_bodies: {max: 100B, answers: false}")).await;
    post(&cluster, "/v1/chat/completions", &[], &ask(false)).await;
    let line = told(&cluster, |line| line["llm"]["call"].as_str().is_some_and(|call| call.len() < 200)).await;
    assert!(line["llm"]["call"].as_str().unwrap().ends_with("bytes)") && line["llm"]["answer"].is_null(), "{line}");
}
