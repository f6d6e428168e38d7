//! Recorded traffic, and how an answer is judged after a journey through another dialect.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use serde_json::Value;
use tidegate_llm::bounds::Bounds;
use tidegate_llm::frame::{FrameKind, aws};
use tidegate_llm::meaning::{Answer, Body, Collector, Error, Event, Usage};
use tidegate_llm::{Dialect, Reply};

pub(crate) struct Case {
    pub(crate) name: String,
    /// Whose it is: a host, or the folder of a package.
    pub(crate) house: String,
    pub(crate) dialect: Dialect,
    pub(crate) request: Option<Value>,
    /// The model in the path.
    pub(crate) model: Option<String>,
    pub(crate) status: u16,
    pub(crate) stream: bool,
    pub(crate) body: Vec<u8>,
}

/// Says so, loudly, and hands out nothing if there are no recordings.
pub(crate) fn recordings(what: &str) -> Vec<Case> {
    let Some(root) = std::env::var_os("TIDEGATE_FIXTURES").map(PathBuf::from) else {
        println!("SKIPPED {what}: TIDEGATE_FIXTURES is not set, no recording was read");
        return Vec::new();
    };
    let mut cases = pairs(&root.join("llm/pydantic-ai.jsonl.gz"));
    bodies(&root.join("llm/vercel-ai"), &mut cases);
    assert!(cases.len() > 1_000, "{} holds only {} recordings", root.display(), cases.len());
    cases
}

fn pairs(path: &Path) -> Vec<Case> {
    let out = Command::new("gzip").arg("-dc").arg(path).output().expect("gzip is installed");
    assert!(out.status.success(), "{}", path.display());
    let text = String::from_utf8(out.stdout).expect("JSON lines are UTF-8");
    text.lines().filter_map(|line| pair(&serde_json::from_str(line).expect("a line is JSON"))).collect()
}

fn pair(line: &Value) -> Option<Case> {
    let path = line["path"].as_str()?.split('?').next()?;
    let dialect = dialect_of_path(path)?;
    let body = line["body"].as_str().unwrap_or_default();
    let body = match line["body_b64"].as_bool() {
        Some(true) => base64::engine::general_purpose::STANDARD.decode(body).expect("recorded as base64"),
        _ => body.as_bytes().to_vec(),
    };
    Some(Case {
        name: line["id"].as_str().unwrap_or_default().to_owned(),
        house: line["host"].as_str().unwrap_or_default().to_owned(),
        dialect,
        request: Some(line["req"].clone()).filter(Value::is_object),
        model: model_of_path(path),
        status: line["status"].as_u64()? as u16,
        stream: line["stream"] == true,
        body,
    })
}

fn dialect_of_path(path: &str) -> Option<Dialect> {
    let dialects = [
        ("/chat/completions", Dialect::OpenAiChat),
        ("/responses", Dialect::OpenAiResponses),
        ("/v2/chat", Dialect::Cohere),
        ("/v1/messages", Dialect::Anthropic),
        (":generateContent", Dialect::Gemini),
        (":streamGenerateContent", Dialect::Gemini),
        ("/converse", Dialect::Bedrock),
        ("/converse-stream", Dialect::Bedrock),
    ];
    dialects.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, dialect)| dialect)
}

fn model_of_path(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/models/").or_else(|| path.split_once("/model/"))?;
    Some(rest.split([':', '/']).next()?.to_owned())
}

fn bodies(folder: &Path, cases: &mut Vec<Case>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("recordings are there")
        .map(|entry| entry.expect("a folder can be read").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            bodies(&path, cases);
        } else {
            cases.extend(body(&path));
        }
    }
}

/// One event per line, or one JSON body.
fn body(path: &Path) -> Option<Case> {
    let text = std::fs::read_to_string(path).ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let house =
        path.ancestors().find(|folder| folder.ends_with("src"))?.parent()?.file_name()?.to_string_lossy().into_owned();
    let stream = name.ends_with(".chunks.txt");
    let lines: Vec<Value> = match stream {
        true => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
        false => vec![serde_json::from_str(&text).ok()?],
    };
    let dialect = lines.iter().find_map(dialect_of_body)?;
    let body = if stream { on_the_wire(dialect, &lines) } else { text.into_bytes() };
    Some(Case { name, house, dialect, request: None, model: None, status: 200, stream, body })
}

fn dialect_of_body(value: &Value) -> Option<Dialect> {
    let kind = value["type"].as_str().unwrap_or_default();
    let has = |name: &str| value.get(name).is_some();
    // Legacy completions have choices too.
    if has("choices") && value["object"] != "text_completion" {
        Some(Dialect::OpenAiChat)
    } else if kind.starts_with("response.") || value["object"] == "response" {
        Some(Dialect::OpenAiResponses)
    } else if kind == "message_start" || kind == "message" && has("content") {
        Some(Dialect::Anthropic)
    } else if has("candidates") {
        Some(Dialect::Gemini)
    } else if kind == "message-start" || has("finish_reason") && has("message") {
        Some(Dialect::Cohere)
    } else if has("messageStart") || has("contentBlockDelta") || has("contentBlockStart") || has("stopReason") {
        Some(Dialect::Bedrock)
    } else {
        None
    }
}

/// As the provider would have sent these events.
pub(crate) fn on_the_wire(dialect: Dialect, events: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        if dialect == Dialect::Bedrock {
            for (name, payload) in event.as_object().into_iter().flatten() {
                aws::write(FrameKind::Data, name, payload.to_string().as_bytes(), &mut out);
            }
        } else {
            if let Some(kind) = event["type"].as_str() {
                out.extend_from_slice(format!("event: {kind}\n").as_bytes());
            }
            out.extend_from_slice(format!("data: {event}\n\n").as_bytes());
        }
    }
    if dialect == Dialect::OpenAiChat {
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
    out
}

pub(crate) fn decode(dialect: Dialect, bytes: &[u8], step: usize) -> Vec<Event> {
    let mut decoder = dialect.decoder(Bounds::default());
    let mut events = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        decoder.push(piece, &mut events);
    }
    decoder.finish(&mut events);
    events
}

pub(crate) fn collect(dialect: Dialect, events: &[Event]) -> Option<Result<Answer, Error>> {
    let mut collector = Collector::new(dialect);
    events.iter().for_each(|event| collector.push(event));
    collector.finish()
}

pub(crate) fn encode(dialect: Dialect, events: &[Event], sse: bool) -> Vec<u8> {
    let mut encoder = dialect.encoder(reply(sse));
    let mut out = Vec::new();
    for event in events {
        encoder.push(event.clone(), &mut out);
    }
    out
}

pub(crate) fn reply(sse: bool) -> Reply {
    Reply { id: "own".into(), now: 1_700_000_000, include_usage: true, sse, ..Reply::default() }
}

/// What must survive every journey.
#[derive(Debug, PartialEq)]
pub(crate) struct Kept {
    text: String,
    thoughts: String,
    calls: Vec<(String, String, Value)>,
    usage: Usage,
    gist: tidegate_llm::meaning::Gist,
}

pub(crate) fn kept(answer: &Answer) -> Kept {
    let mut kept = Kept {
        text: String::new(),
        thoughts: String::new(),
        calls: Vec::new(),
        usage: answer.usage.unwrap_or_default(),
        gist: answer.stop.gist(),
    };
    for part in &answer.parts {
        match &part.body {
            Body::Text(text) | Body::Refusal(text) => kept.text.push_str(text),
            Body::Reasoning { text, .. } => kept.thoughts.push_str(text),
            Body::ToolCall(call) => {
                let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
                // Truncated text has no value to compare.
                let arguments = serde_json::from_str(arguments).unwrap_or_default();
                kept.calls.push((call.id.clone(), call.name.clone(), arguments));
            }
            _ => {}
        }
    }
    kept
}

/// The promises at the top of `meaning/event.rs`.
pub(crate) fn check_promises(events: &[Event]) -> Result<(), String> {
    let mut open = Vec::new();
    let (mut next, mut stopped, mut over) = (0, false, false);
    for (i, event) in events.iter().enumerate() {
        let holds = match event {
            _ if over => false,
            Event::Start(_) => i == 0,
            Event::Error(_) => {
                over = true;
                true
            }
            _ if i == 0 => false,
            Event::Open { block, .. } => {
                open.push(*block);
                next += 1;
                *block + 1 == next && !stopped
            }
            Event::Delta { block, .. } => open.contains(block),
            Event::Close { block } => {
                let was_open = open.contains(block);
                open.retain(|open| open != block);
                was_open
            }
            Event::Stop(_) => !std::mem::replace(&mut stopped, true) && open.is_empty(),
            Event::End => {
                over = true;
                stopped
            }
            Event::Usage(_) | Event::Ping => !stopped,
        };
        if !holds {
            return Err(format!("event {i} breaks a promise: {event:?}"));
        }
    }
    if over { Ok(()) } else { Err("neither End nor Error".into()) }
}
