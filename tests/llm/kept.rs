//! What a provider keeps for a later call: the id that leads back to it names who keeps it, on every node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Asked, Cluster, Provider, Says};
use crate::llm::{document, events};

const REST: &str = "\
models:
  - {name: fast, deployments: [{provider: one}, {provider: two}]}
  - {name: lone, deployments: [{provider: two}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, lone], native: [one]}}]
";

/// Knows only what it made itself, as providers do.
async fn keeper(name: &'static str) -> Provider {
    let made = Arc::new(AtomicUsize::new(0));
    Provider::start(move |asked| answer(name, &made, asked)).await
}

fn answer(name: &str, made: &AtomicUsize, asked: &Asked) -> Says {
    if asked.line.starts_with("GET ") {
        return Says::json(json!({"line": asked.line}).to_string());
    }
    let call = asked.json();
    let before = call["previous_response_id"].as_str();
    if before.is_some_and(|id| !id.starts_with(&format!("resp_{name}_"))) {
        return Says::error(
            400,
            r#"{"error":{"message":"Previous response not found.","code":"previous_response_not_found"}}"#,
        );
    }
    let id = format!("resp_{name}_{}", made.fetch_add(1, Ordering::SeqCst));
    let body = whole(&id, before);
    if call["stream"] != true {
        return Says::json(body);
    }
    let event =
        |kind: &str, rest: &str| format!("event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",{rest}}}\n\n");
    let text = r#""item_id":"msg_1","output_index":0,"content_index":0,"delta":"\"response\":{\"id\":\"x\"}""#;
    let parts = [
        event("created", &format!("\"response\":{body}")),
        event("output_text.delta", text),
        event("completed", &format!("\"response\":{body}")),
    ];
    Says::events(&parts.concat())
}

fn whole(id: &str, before: Option<&str>) -> String {
    let before = Value::from(before);
    format!(
        r#"{{ "id" : "{id}","object":"response","created_at":1,"status":"completed","model":"m","previous_response_id":{before},"output":[{{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{{"type":"output_text","text":"h\u00e9","annotations":[]}}]}}],"usage":{{"input_tokens":3,"output_tokens":2,"total_tokens":5}},"odd":1.0 }}"#
    )
}

async fn ask(cluster: &Cluster, node: usize, body: &Value) -> Answer {
    let url = cluster.nodes[node].url("/v1/responses");
    cluster.client.send(Method::POST, &url, &[], body.to_string()).await.unwrap()
}

/// The id that the answer goes by, and how its provider calls it.
fn ids(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let json = match answer.headers["content-type"].to_str().unwrap() {
        "text/event-stream" => {
            let events = events(&answer.body);
            assert_eq!(events[0]["response"]["id"], events[2]["response"]["id"], "{events:?}");
            assert_eq!(events[1]["delta"], r#""response":{"id":"x"}"#);
            events[2]["response"].clone()
        }
        _ => answer.json(),
    };
    let id = json["id"].as_str().unwrap();
    let (tag, own) = id.split_once('_').unwrap();
    assert!(tag.starts_with("tg") && own.starts_with("resp_"), "{id}");
    (id.to_owned(), own.to_owned())
}

async fn cluster(nodes: usize) -> (Cluster, Provider, Provider) {
    let (one, two) = (keeper("one").await, keeper("two").await);
    let cluster = Cluster::start(nodes).await;
    let providers = [("one", "openai", &one), ("two", "openai", &two)];
    cluster.apply(&document(&cluster, &providers, REST)).await;
    (cluster, one, two)
}

#[tokio::test]
async fn what_goes_on_from_an_answer_reaches_its_maker_over_whichever_node() {
    let (cluster, one, two) = cluster(3).await;
    let mut makers = [0, 0];
    for turn in 0..20 {
        let stream = turn % 2 == 0;
        let first = json!({"model": "fast", "input": "hi", "stream": stream});
        let (id, own) = ids(&ask(&cluster, turn % 3, &first).await);
        let maker = usize::from(own.starts_with("resp_two"));
        makers[maker] += 1;
        let next = json!({"model": "fast", "input": "go on", "previous_response_id": id, "stream": !stream});
        let answer = ask(&cluster, (turn + 1) % 3, &next).await;
        let (next_id, theirs) = ids(&answer);
        assert_eq!(theirs.split('_').nth(1), own.split('_').nth(1), "turn {turn}");
        let asked = [&one, &two][maker].last();
        assert_eq!(asked.body, next.to_string().replace(&id, &own), "turn {turn}: nothing else changes");
        if stream {
            let wanted = whole(&next_id, Some(&id));
            assert_eq!(answer.body, wanted, "turn {turn}: nothing else of the answer changes");
        }
    }
    assert!(makers.iter().all(|made| *made > 0), "both were asked: {makers:?}");
}

/// Seals its thoughts, and can open its own alone.
fn thinker(name: &'static str, asked: &Asked) -> Says {
    let call = asked.json();
    let thoughts = call["input"].as_array().into_iter().flatten().filter_map(|item| item["encrypted_content"].as_str());
    for sealed in thoughts {
        if sealed != format!("gAAA{name}") {
            let message = format!("The encrypted content {sealed} could not be verified.");
            let error = json!({"error": {"message": message, "type": "invalid_request_error", "code": "invalid_encrypted_content"}});
            return Says { status: 400, ..Says::json(error.to_string()) };
        }
    }
    let item = json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": format!("gAAA{name}")});
    let text = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": name, "annotations": []}]});
    let body = json!({"id": format!("resp_{name}"), "object": "response", "created_at": 1, "status": "completed",
        "model": "m", "output": [item, text], "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}});
    if call["stream"] != true {
        return Says::json(body.to_string());
    }
    let event = |kind: &str, field: &str, value: &Value, at: u8| {
        format!("event: {kind}\ndata: {}\n\n", json!({"type": kind, "output_index": at, field: value}))
    };
    let created = json!({"id": format!("resp_{name}"), "status": "in_progress", "model": "m", "output": []});
    let parts = [
        event("response.created", "response", &created, 0),
        event("response.output_item.done", "item", &item, 0),
        event("response.output_item.done", "item", &text, 1),
        event("response.completed", "response", &body, 0),
    ];
    Says::events(&parts.concat())
}

#[tokio::test]
async fn sealed_thoughts_go_back_to_who_can_open_them() {
    let one = Provider::start(|asked| thinker("one", asked)).await;
    let two = Provider::start(|asked| thinker("two", asked)).await;
    let chat = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
        "message": {"role": "assistant", "content": "plain"}, "finish_reason": "stop"}]});
    let plain = Provider::start(move |_| Says::json(chat.to_string())).await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: fast, deployments: [{provider: one}, {provider: two}]}
  - {name: plain, deployments: [{provider: plain}], losses: drop}
routes: [{name: llm, match: {path: /*}, llm: {models: [fast, plain]}}]
";
    let providers = [("one", "openai", &one), ("two", "openai", &two), ("plain", "groq", &plain)];
    cluster.apply(&document(&cluster, &providers, rest)).await;
    let mut makers = [0, 0];
    for turn in 0..16 {
        let stream = turn % 2 == 0;
        let mut input = vec![json!({"role": "user", "content": "hi"})];
        let ask_of = |model: &str, input: &[Value], stream: bool| json!({"model": model, "store": false, "include": ["reasoning.encrypted_content"], "input": input, "stream": stream});
        let answer = ask(&cluster, 0, &ask_of("fast", &input, stream)).await;
        let output = if stream {
            let events = events(&answer.body);
            let (done, whole) = (&events[1]["item"], events.last().unwrap()["response"]["output"].clone());
            assert_eq!(done, &whole[0], "turn {turn}: both say the same");
            whole
        } else {
            answer.json()["output"].clone()
        };
        let sealed = output[0]["encrypted_content"].as_str().unwrap();
        let (tag, own) = sealed.split_once('_').unwrap();
        assert!(tag.starts_with("tg") && own.starts_with("gAAA"), "{sealed}");
        makers[usize::from(own == "gAAAtwo")] += 1;
        input.extend(output.as_array().unwrap().iter().cloned());
        input.push(json!({"role": "user", "content": "go on"}));
        let next = ask(&cluster, 0, &ask_of("fast", &input, !stream)).await;
        assert_eq!(next.status, 200, "turn {turn}: {:?}", next.body);
        let asked = [&one, &two][usize::from(own == "gAAAtwo")].last();
        assert_eq!(asked.json()["input"][1]["encrypted_content"], own, "turn {turn}");
        // Others go on without them.
        let next = ask(&cluster, 0, &ask_of("plain", &input, false)).await;
        assert_eq!(next.status, 200, "turn {turn}: {:?}", next.body);
        assert!(!String::from_utf8_lossy(&plain.last().body).contains("gAAA"), "{:?}", plain.last().body);
    }
    assert!(makers.iter().all(|made| *made > 0), "both were asked: {makers:?}");
}

#[tokio::test]
async fn what_nobody_keeps_any_more_is_said_and_strangers_ids_go_on_as_they_are() {
    let (cluster, one, two) = cluster(1).await;
    let (id, own) = loop {
        let found = ids(&ask(&cluster, 0, &json!({"model": "fast", "input": "hi"})).await);
        if found.1.starts_with("resp_one") {
            break found;
        }
    };
    let before = (one.asked().len(), two.asked().len());
    let answer = ask(&cluster, 0, &json!({"model": "lone", "input": "x", "previous_response_id": id})).await;
    let json = answer.json();
    assert_eq!((answer.status.as_u16(), &json["error"]["param"]), (400, &"previous_response_id".into()), "{json}");
    assert!(json["error"]["message"].as_str().unwrap().contains("`lone`"), "{json}");
    assert_eq!((one.asked().len(), two.asked().len()), before, "nobody else is asked");

    let other = ids(&ask(&cluster, 0, &json!({"model": "lone", "input": "hi"})).await).0;
    let two_of_them = json!({"model": "fast", "input": "x", "previous_response_id": id, "conversation": other});
    let answer = ask(&cluster, 0, &two_of_them).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["param"]), (400, &"conversation".into()));

    let answer = ask(&cluster, 0, &json!({"model": "lone", "input": "x", "previous_response_id": "resp_two_9"})).await;
    ids(&answer);
    assert_eq!(two.last().json()["previous_response_id"], "resp_two_9");

    // By a provider's own path it is asked for by its provider's own id.
    let url = cluster.nodes[0].url(&format!("/one/v1/responses/{id}/input_items?limit=1"));
    let answer = cluster.client.get(&url, &[]).await.unwrap();
    assert_eq!(answer.json()["line"], format!("GET /v1/responses/{own}/input_items?limit=1"));
}
