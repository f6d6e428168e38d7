//! How streams begin and end, and what comes instead of one: whatever providers send, their callers get what they asked for,
//! or an error in their own words.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_llm::Dialect;
use tidegate_llm::bounds::Bounds;
use tidegate_llm::frame::{FrameKind, aws};
use tidegate_llm::meaning::{BlockKind, Delta, Error, Event, Stop};

use crate::harness::{Answer, Cluster, Provider, Says, eventually};
use crate::llm::{document, events, post, told};

const WHOLE: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"all of it"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":20,"total_tokens":27}}"#;
const CLAUDE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"all of it"},{"type":"tool_use","id":"toolu_1","name":"look","input":{"at":[1]}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":7,"output_tokens":20}}"#;
const REST: &str = "\
models:
  - {name: \"gpt-*\", deployments: [{provider: gpt, model: \"*\"}]}
  - {name: \"claude-*\", deployments: [{provider: claude, model: \"*\"}]}
  - {name: safe, deployments: [{provider: gpt, model: gpt-x, priority: 1}, {provider: other, model: y}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [\"gpt-*\", \"claude-*\", safe]}}]
";

/// `delta`: JSON.
fn chunk_of(delta: &str, more: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta}{more}}}]}}\n\n"
    )
}

fn chunk(text: &str) -> String {
    chunk_of(&format!("{{\"content\":\"{text}\"}}"), "")
}

fn finish() -> String {
    chunk_of("{}", ",\"finish_reason\":\"stop\"")
}

const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":20,\"total_tokens\":27}}\n\n";

/// Of a caller who asks for a stream: where, and what.
fn asks(caller: &str, model: &str) -> (String, String) {
    let turn = json!([{"role": "user", "content": "hi"}]);
    let (path, body) = match caller {
        "chat" => ("/v1/chat/completions", json!({"model": model, "stream": true, "messages": turn})),
        "cohere" => ("/v2/chat", json!({"model": model, "stream": true, "messages": turn})),
        "messages" => ("/v1/messages", json!({"model": model, "stream": true, "max_tokens": 99, "messages": turn})),
        "responses" => ("/v1/responses", json!({"model": model, "stream": true, "input": "hi"})),
        "gemini" => {
            let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
            return (format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"), body.to_string());
        }
        _ => {
            let body = json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]});
            return (format!("/model/{model}/converse-stream"), body.to_string());
        }
    };
    (path.to_owned(), body.to_string())
}

fn dialect(caller: &str) -> Dialect {
    match caller {
        "chat" => Dialect::OpenAiChat,
        "cohere" => Dialect::Cohere,
        "messages" => Dialect::Anthropic,
        "responses" => Dialect::OpenAiResponses,
        "gemini" => Dialect::Gemini,
        _ => Dialect::Bedrock,
    }
}

async fn ask(cluster: &Cluster, caller: &str, model: &str) -> Answer {
    let (path, body) = asks(caller, model);
    post(cluster, &path, &[], &body).await
}

/// The text of a stream, the name of its only call, and how it ended.
fn read(caller: &str, answer: &Answer) -> (String, Option<String>, Result<Stop, Error>) {
    let (mut decoder, mut events) = (dialect(caller).decoder(Bounds::default()), Vec::new());
    decoder.push(&answer.body, &mut events);
    decoder.finish(&mut events);
    let (mut text, mut call, mut stop) = (String::new(), None, None);
    for event in &events {
        match event {
            Event::Delta { delta: Delta::Text(more), .. } => text.push_str(more),
            Event::Open { kind: BlockKind::ToolCall { name, .. }, .. } => call = Some(name.clone()),
            Event::Stop(told) => stop = Some(told.clone()),
            _ => {}
        }
    }
    let end = match events.last() {
        Some(Event::Error(error)) => Err(error.clone()),
        Some(Event::End) => Ok(stop.expect("a reason")),
        other => panic!("{caller}: {other:?} at the end of {:?}", answer.body),
    };
    (text, call, end)
}

fn text_of(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Tokens of the last call by this path of a provider.
async fn paid(cluster: &Cluster, caller: &str, provider: &str) -> (Value, Value, Value) {
    let path = asks(caller, "").0;
    let end = path.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let line = told(cluster, |line| {
        let path = line["path"].as_str().and_then(|path| path.split('?').next());
        line["upstream"] == provider && path.is_some_and(|path| path.ends_with(&end))
    })
    .await;
    (line["llm"]["input_tokens"].clone(), line["llm"]["output_tokens"].clone(), line["cut"].clone())
}

async fn cluster(gpt: &Provider, claude: &Provider, other: &Provider) -> Cluster {
    let cluster = Cluster::start(1).await;
    let providers = [("gpt", "openai", gpt), ("claude", "anthropic", claude), ("other", "groq", other)];
    cluster.apply(&document(&cluster, &providers, REST)).await;
    cluster
}

/// As its provider would have it: no head says what comes.
fn bare(pieces: &[&str]) -> Says {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece.as_bytes())).collect();
    Says { headers: vec![], pieces, ..Says::json("") }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_answer_is_told_as_broken_and_behind_a_whole_event() {
    let claude = |end: &str| {
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"x\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"half\"}}\n\n"
            .to_owned()
            + end
    };
    let half = "event: content_block_delta\ndata: {\"type\":\"content_bl";
    let done = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    // What was said is on its way before it breaks.
    let breaks = |text: &str| {
        let mut says = Says { breaks: true, ..Says::events(text).paced(Duration::from_millis(30)) };
        says.pieces.push(Bytes::new());
        says
    };
    let one = Provider::start(move |asked| match asked.json()["model"].as_str() {
        Some("done") => Says::events(&(chunk("all") + done)),
        Some("half") if asked.line.contains("messages") => breaks(&claude(half)),
        Some("cut") if asked.line.contains("messages") => Says::events(&claude(half)),
        _ if asked.line.contains("messages") => Says::events(&claude("")),
        Some("half") => breaks(&(chunk("a") + "data: {\"id\":\"c\",\"cho")),
        Some("cut") => Says::events(&(chunk("a") + "data: {\"id\":\"c\",\"cho")),
        _ => Says::events(&chunk("a")),
    })
    .await;
    let cluster = Cluster::start(1).await;
    let rest = "\
models:
  - {name: \"gpt-*\", deployments: [{provider: one, model: \"*\"}]}
  - {name: \"claude-*\", deployments: [{provider: two, model: \"*\"}]}
routes: [{name: llm, match: {path: /*}, llm: {models: [\"gpt-*\", \"claude-*\"]}}]
";
    cluster.apply(&document(&cluster, &[("one", "openai", &one), ("two", "anthropic", &one)], rest)).await;
    for how in ["end", "half", "cut"] {
        for (path, name, usage) in [
            ("/v1/chat/completions", "gpt", ""),
            ("/v1/chat/completions", "gpt", r#""stream_options":{"include_usage":true},"#),
            ("/v1/messages", "claude", ""),
        ] {
            let ask = format!(
                r#"{{"model":"{name}-{how}","stream":true,{usage}"max_tokens":9,"messages":[{{"role":"user","content":"x"}}]}}"#
            );
            let answer = post(&cluster, path, &[], &ask).await;
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                !text.contains("\"cho\n") && !text.contains("content_bl\n") && !text.contains("_blevent"),
                "{text}"
            );
            let said = events(&answer.body);
            let last = said.last().unwrap();
            assert!(said.len() > 1 && last["error"]["message"].is_string(), "{path} {how}: {text}");
        }
    }
    // Some never say more than why they stopped: that is all there is to say.
    let answer = post(&cluster, "/v1/chat/completions", &[], &asks("chat", "gpt-done").1).await;
    assert_eq!(String::from_utf8_lossy(&answer.body), chunk("all") + done);
}

#[tokio::test]
async fn a_whole_answer_where_a_stream_was_asked_for_is_told_as_one() {
    let gpt = Provider::start(|asked| {
        let (front, back) = WHOLE.split_at(90);
        match asked.json()["model"].as_str() {
            Some("length") => Says::json(WHOLE),
            Some("blank") => bare(&["\n", " \n", front, back]).paced(Duration::from_millis(5)),
            Some("bom") => bare(&["\u{feff}", WHOLE]).paced(Duration::from_millis(5)),
            Some("broken") => Says { breaks: true, ..bare(&[front]).paced(Duration::from_millis(5)) },
            Some("error") => Says::json(r#"{"error":{"message":"it broke","type":"server_error"}}"#),
            _ => Says { headers: vec![("content-type", "text/event-stream".into())], ..bare(&[front, back]) },
        }
    })
    .await;
    let claude = Provider::start(|_| Says::json(CLAUDE)).await;
    let cluster = cluster(&gpt, &claude, &gpt).await;
    for caller in ["chat", "messages", "cohere", "bedrock", "gemini"] {
        for model in ["gpt-length", "gpt-blank", "gpt-bom", "gpt-called-a-stream", "claude-x"] {
            let answer = ask(&cluster, caller, model).await;
            let kind = answer.headers["content-type"].to_str().unwrap();
            assert_eq!((answer.status.as_u16(), kind), (200, dialect(caller).stream_content_type(true)), "{model}");
            let (text, call, end) = read(caller, &answer);
            let calls = model == "claude-x";
            assert_eq!((&*text, call.as_deref()), ("all of it", calls.then_some("look")), "{caller} {model}");
            assert_eq!(end.unwrap(), if calls { Stop::ToolUse } else { Stop::EndTurn }, "{caller} {model}");
            let provider = if calls { "claude" } else { "gpt" };
            assert_eq!(paid(&cluster, caller, provider).await, (7.into(), 20.into(), Value::Null), "{caller} {model}");
        }
        for model in ["gpt-broken", "gpt-error"] {
            let answer = ask(&cluster, caller, model).await;
            assert!(answer.status.is_server_error(), "{caller} {model}: {} {}", answer.status, text_of(&answer));
        }
    }
    // The usage is shown as it is of streams: if it was asked for.
    assert!(!text_of(&ask(&cluster, "chat", "gpt-length").await).contains("prompt_tokens"));
    let body = asks("chat", "gpt-length").1.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
    let answer = post(&cluster, "/v1/chat/completions", &[], &body).await;
    assert_eq!(events(&answer.body).last().unwrap()["usage"]["total_tokens"], 27);
}

#[tokio::test]
async fn a_stream_where_none_was_asked_for_is_told_whole() {
    let stream = chunk("all ") + &chunk("of it") + &finish() + USAGE + "data: [DONE]\n\n";
    let early = chunk("all ");
    let gpt = Provider::start(move |asked| match asked.json()["model"].as_str() {
        Some("early") => Says::events(&early),
        Some("error") => Says::events("data: {\"error\":{\"message\":\"it broke\",\"type\":\"server_error\"}}\n\n"),
        Some("text") => bare(&["not at all"]),
        _ => Says::events(&stream),
    })
    .await;
    let claude = Provider::start(|_| {
        Says::events(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"x\",\"usage\":{\"input_tokens\":7,\"output_tokens\":1}}}\n\n\
             event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"all of it\"}}\n\n\
             event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
             event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":20}}\n\n\
             event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        )
    })
    .await;
    let other = Provider::start(|_| Says::json(WHOLE.replace("all of it", "other"))).await;
    let cluster = cluster(&gpt, &claude, &other).await;
    for (caller, place) in [("chat", "/choices/0/message/content"), ("messages", "/content/0/text")] {
        let (path, body) = asks(caller, "MODEL");
        let body = body.replace("\"stream\":true", "\"stream\":false");
        for model in ["gpt-x", "claude-x"] {
            let answer = post(&cluster, &path, &[], &body.replace("MODEL", model)).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.headers["content-type"]),
                (200, &"application/json".parse().unwrap())
            );
            assert_eq!(
                answer.json().pointer(place),
                Some(&"all of it".into()),
                "{caller} {model}: {}",
                text_of(&answer)
            );
            let provider = if model == "gpt-x" { "gpt" } else { "claude" };
            assert_eq!(paid(&cluster, caller, provider).await, (7.into(), 20.into(), Value::Null), "{caller} {model}");
        }
        for model in ["gpt-early", "gpt-error", "gpt-text"] {
            let answer = post(&cluster, &path, &[], &body.replace("MODEL", model)).await;
            assert!(answer.status.is_server_error(), "{caller} {model}: {} {}", answer.status, text_of(&answer));
            assert!(answer.json()["error"]["message"].is_string(), "{caller} {model}: {}", text_of(&answer));
        }
    }
}

#[tokio::test]
async fn a_stream_is_one_whatever_its_head_says() {
    let stream = chunk("all ") + &chunk("of it") + &finish() + "data: [DONE]\n\n";
    let sent = stream.clone();
    let gpt = Provider::start(move |asked| {
        let kind = match asked.json()["model"].as_str() {
            Some("text") => "text/plain; charset=utf-8",
            Some("json") => "application/json",
            Some("odd") => "x",
            _ => return Says { headers: vec![], ..Says::events(&sent) },
        };
        Says { headers: vec![("content-type", kind.into())], ..Says::events(&sent) }
    })
    .await;
    let cluster = cluster(&gpt, &gpt, &gpt).await;
    for model in ["gpt-text", "gpt-json", "gpt-odd", "gpt-none"] {
        let answer = ask(&cluster, "chat", model).await;
        assert_eq!(
            (&answer.headers["content-type"], text_of(&answer)),
            (&"text/event-stream".parse().unwrap(), stream.clone()),
            "{model}"
        );
        let answer = ask(&cluster, "messages", model).await;
        assert_eq!(answer.headers["content-type"], "text/event-stream", "{model}");
        let (text, _, end) = read("messages", &answer);
        assert_eq!((&*text, end.unwrap()), ("all of it", Stop::EndTurn), "{model}");
    }
}

#[tokio::test]
async fn streams_are_read_as_the_standard_says_and_pass_as_they_are() {
    let odd = |end: &str| {
        let twice = finish().repeat(2);
        let stream =
            format!("\u{feff}: hi\n\n{}: ping\n{}data:\n\nid: 7\nretry: 10\n{twice}", chunk("all "), chunk("of it"));
        (stream.replace("data: ", "data:") + USAGE + "data:[DONE]\n\n").replace('\n', end)
    };
    let ends = [("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")];
    let gpt = Provider::start(move |asked| {
        let model = asked.json()["model"].as_str().unwrap().to_owned();
        let mut parts = model.split('-');
        let (name, step) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
        let stream = odd(ends.iter().find(|(known, _)| *known == name).unwrap().1);
        let pieces: Vec<&[u8]> = stream.as_bytes().chunks(step).collect();
        let pieces = pieces.into_iter().map(Bytes::copy_from_slice).collect();
        Says { pieces, ..Says::events("") }
    })
    .await;
    let cluster = cluster(&gpt, &gpt, &gpt).await;
    for (name, end) in ends {
        for step in [1, 7, 100_000] {
            let model = format!("gpt-{name}-{step}");
            let body = asks("chat", &model).1;
            let with = body.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
            let answer = post(&cluster, "/v1/chat/completions", &[], &with).await;
            assert_eq!(text_of(&answer), odd(end), "{model}");
            let answer = post(&cluster, "/v1/chat/completions", &[], &body).await;
            assert_eq!(text_of(&answer), odd(end).replace(&USAGE.replace('\n', end), ""), "{model}");
            for caller in ["messages", "gemini", "bedrock"] {
                let answer = ask(&cluster, caller, &model).await;
                let (text, _, stop) = read(caller, &answer);
                assert_eq!((&*text, stop.unwrap()), ("all of it", Stop::EndTurn), "{caller} {model}");
                if caller == "messages" {
                    for once in ["event: message_start\n", "event: message_delta\n", "event: message_stop\n"] {
                        assert_eq!(text_of(&answer).matches(once).count(), 1, "{model} {once}");
                    }
                }
            }
        }
    }
    assert_eq!(paid(&cluster, "messages", "gpt").await, (7.into(), 20.into(), Value::Null));
}

#[tokio::test]
async fn a_stream_that_says_that_it_is_done_is_whole_and_one_that_says_nothing_is_none() {
    let gpt = Provider::start(|asked| match asked.json()["model"].as_str() {
        Some("done") => Says::events(&(chunk("all of it") + "data: [DONE]\n\n")),
        Some("only-done") => Says::events("data: [DONE]\n\n"),
        Some("pings") => Says::events(": ping\n\n: ping\n\n"),
        Some("blank") => bare(&["\n", "\n"]),
        _ => bare(&[]),
    })
    .await;
    let whole = chunk("other") + &finish() + "data: [DONE]\n\n";
    let other = Provider::start(move |asked| match asked.json()["stream"].as_bool() {
        Some(true) => Says::events(&whole),
        _ => Says::json(WHOLE.replace("all of it", "other")),
    })
    .await;
    let claude = Provider::start(|_| {
        Says::events(
            "data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[{\"type\":\"text\",\"text\":\"all of it\"}],\"model\":\"x\",\"usage\":{\"input_tokens\":7,\"output_tokens\":20}}}\n\n\
             data: [DONE]\n\n",
        )
    })
    .await;
    let cluster = cluster(&gpt, &claude, &other).await;
    for caller in ["chat", "messages", "responses", "gemini", "bedrock", "cohere"] {
        // Providers of OpenAI's have a stream of their own for Responses.
        for model in ["gpt-done", "claude-x"].into_iter().filter(|model| caller != "responses" || *model != "gpt-done")
        {
            let answer = ask(&cluster, caller, model).await;
            let (text, _, end) = read(caller, &answer);
            assert_eq!((&*text, end.unwrap()), ("all of it", Stop::EndTurn), "{caller} {model}");
        }
        for model in ["gpt-only-done", "gpt-pings", "gpt-blank", "gpt-empty"] {
            let answer = ask(&cluster, caller, model).await;
            assert_eq!(answer.status, 502, "{caller} {model}: {}", text_of(&answer));
            let json = answer.json();
            assert!(json["error"]["message"].is_string() || json["message"].is_string(), "{caller} {model}: {json}");
        }
    }
    // Before the first byte somebody else can be asked.
    for caller in ["chat", "messages"] {
        let (path, body) = asks(caller, "safe");
        for body in [body.clone(), body.replace("\"stream\":true", "\"stream\":false")] {
            let answer = post(&cluster, &path, &[], &body).await;
            assert!(
                answer.status == 200 && text_of(&answer).contains("other"),
                "{caller} {body}: {}",
                text_of(&answer)
            );
        }
    }
}

/// Streams of each dialect that tell half of an answer, seven and twenty tokens, and then an error.
fn failing(asked: &str) -> Says {
    if asked.contains("/responses") {
        return Says::events(
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"m\",\"created_at\":1,\"status\":\"in_progress\",\"output\":[]}}\n\n\
             event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"half\"}\n\n\
             event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"resp_1\",\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"it broke\"},\"usage\":{\"input_tokens\":7,\"output_tokens\":20,\"total_tokens\":27}}}\n\n",
        );
    }
    if asked.contains("/chat/completions") {
        return Says::events(
            &(chunk("half")
                + "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"error\"}],\"error\":{\"code\":502,\"message\":\"it broke\"},\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":20,\"total_tokens\":27}}\n\n"),
        );
    }
    if asked.contains("/messages") {
        return Says::events(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"x\",\"usage\":{\"input_tokens\":7,\"output_tokens\":20}}}\n\n\
             event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
             event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"half\"}}\n\n\
             event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"it broke\"}}\n\n",
        );
    }
    if asked.contains("GenerateContent") {
        return Says::events(
            "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"half\"}]}}],\"usageMetadata\":{\"promptTokenCount\":7,\"totalTokenCount\":7}}\r\n\r\n\
             data: {\"error\":{\"code\":500,\"message\":\"it broke\",\"status\":\"INTERNAL\"},\"usageMetadata\":{\"promptTokenCount\":7,\"candidatesTokenCount\":20,\"totalTokenCount\":27}}\r\n\r\n",
        );
    }
    if asked.contains("/chat") {
        return Says::events(
            "event: message-start\ndata: {\"type\":\"message-start\",\"id\":\"m\",\"delta\":{\"message\":{\"role\":\"assistant\"}}}\n\n\
             event: content-start\ndata: {\"type\":\"content-start\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n\n\
             event: content-delta\ndata: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"half\"}}}}\n\n\
             event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"ERROR\",\"error\":\"it broke\",\"usage\":{\"billed_units\":{\"input_tokens\":7,\"output_tokens\":20}}}}\n\n",
        );
    }
    let mut body = Vec::new();
    for (name, payload) in [
        ("messageStart", r#"{"role":"assistant"}"#),
        ("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"half"}}"#),
        ("metadata", r#"{"usage":{"inputTokens":7,"outputTokens":20,"totalTokens":27}}"#),
    ] {
        aws::write(FrameKind::Data, name, payload.as_bytes(), &mut body);
    }
    let error = br#"{"message":"it broke"}"#;
    aws::write(FrameKind::Exception, "internalServerException", error, &mut body);
    let kind = Dialect::Bedrock.stream_content_type(true);
    Says { headers: vec![("content-type", kind.into())], pieces: vec![body.into()], ..Says::json("") }
}

#[tokio::test]
async fn an_error_in_the_middle_of_any_stream_is_told_in_the_callers_words_and_what_was_used_is_paid() {
    let provider = Provider::start(|asked| failing(&asked.line)).await;
    let cluster = Cluster::start(1).await;
    let kinds = ["openai", "groq", "anthropic", "gemini", "bedrock", "cohere"];
    let providers: Vec<_> = kinds.iter().map(|kind| (*kind, *kind, &provider)).collect();
    let mut rest = String::from("models:\n");
    for kind in kinds {
        rest.push_str(&format!("  - {{name: of-{kind}, deployments: [{{provider: {kind}, model: x}}]}}\n"));
    }
    let names: Vec<String> = kinds.iter().map(|kind| format!("of-{kind}")).collect();
    rest.push_str(&format!("routes: [{{name: llm, match: {{path: /*}}, llm: {{models: [{}]}}}}]\n", names.join(", ")));
    cluster.apply(&document(&cluster, &providers, &rest)).await;
    for caller in ["chat", "responses", "messages", "gemini", "bedrock", "cohere"] {
        for kind in kinds {
            let answer = ask(&cluster, caller, &format!("of-{kind}")).await;
            assert_eq!(answer.status, 200, "{caller} of {kind}: {}", text_of(&answer));
            let (text, _, end) = read(caller, &answer);
            let error = end.expect_err("an error");
            assert_eq!((&*text, &*error.message), ("half", "it broke"), "{caller} of {kind}: {}", text_of(&answer));
            let paid = paid(&cluster, caller, kind).await;
            assert_eq!(paid, (7.into(), 20.into(), "upstream".into()), "{caller} of {kind}");
        }
    }
}

#[tokio::test]
async fn a_caller_does_not_wait_for_a_provider_that_said_all_and_does_not_close() {
    let gpt = Provider::start(|_| Says {
        stalls: true,
        ..Says::events(&(chunk("all of it") + &finish() + USAGE + "data: [DONE]\n\n"))
    })
    .await;
    let cluster = cluster(&gpt, &gpt, &gpt).await;
    for caller in ["chat", "messages"] {
        let began = Instant::now();
        let answer = ask(&cluster, caller, "gpt-x").await;
        let (text, _, end) = read(caller, &answer);
        assert_eq!((&*text, end.unwrap()), ("all of it", Stop::EndTurn), "{caller}");
        assert!(began.elapsed() < Duration::from_secs(5), "{caller}: {:?}", began.elapsed());
        assert_eq!(paid(&cluster, caller, "gpt").await, (7.into(), 20.into(), Value::Null), "{caller}");
    }
    eventually("it is left alone", Duration::from_secs(5), async || gpt.running.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_provider_that_leads_elsewhere_has_failed() {
    let gpt =
        Provider::start(|_| Says { status: 302, ..Says::json("moved") }.with("location", "http://127.0.0.1:1/")).await;
    let other = Provider::start(|_| Says::json(WHOLE)).await;
    let cluster = cluster(&gpt, &gpt, &other).await;
    let answer = ask(&cluster, "chat", "gpt-x").await;
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(answer.status == 502 && message.contains("302"), "{}", text_of(&answer));
    assert_eq!(ask(&cluster, "chat", "safe").await.status, 200);
}

#[tokio::test]
async fn a_comment_goes_out_before_its_stream_says_more() {
    let text = format!("{}: still here\n", chunk("a"));
    let gpt = Provider::start(move |_| Says { stalls: true, ..Says::events(&text) }).await;
    let cluster = cluster(&gpt, &gpt, &gpt).await;
    let body = asks("chat", "gpt-x").1.replacen('{', "{\"stream_options\":{\"include_usage\":true},", 1);
    let (first, mut stream) = crate::llm::open(&cluster, "/v1/chat/completions", &body).await;
    let mut seen = first.to_vec();
    while !seen.ends_with(b": still here\n") {
        let frame = tokio::time::timeout(Duration::from_secs(5), http_body_util::BodyExt::frame(&mut stream)).await;
        let frame = frame.expect("in time").expect("more").unwrap();
        seen.extend_from_slice(&frame.into_data().unwrap());
    }
    assert!(seen.starts_with(b"data: "), "{seen:?}");
}
