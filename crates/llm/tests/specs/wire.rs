//! What specs of the wire share.

use serde_json::{Value, json};
use tidegate_llm::meaning::Answer;
use tidegate_llm::{Dialect, Losses, Site, Target};

use crate::support::{check_promises, collect, decode, on_the_wire};

pub(crate) const CHAT: Dialect = Dialect::OpenAiChat;

pub(crate) fn chat_chunk(delta: Value, finish: Value) -> Value {
    json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
}

pub(crate) fn answer_of(dialect: Dialect, events: &[Value]) -> Answer {
    let events = decode(dialect, &on_the_wire(dialect, events), 11);
    check_promises(&events).expect("promises hold");
    collect(dialect, &events).expect("the stream ends").expect("without an error")
}

pub(crate) fn text(stream: &[u8]) -> String {
    String::from_utf8(stream.to_vec()).expect("text")
}

pub(crate) fn translated(from: Dialect, body: &Value, to: Dialect) -> (Value, Losses) {
    translated_for(from, body, to, &Target::guess(to, "claude-sonnet-4-5"))
}

pub(crate) fn translated_for(from: Dialect, body: &Value, to: Dialect, target: &Target) -> (Value, Losses) {
    let site = Site { model: Some("m"), stream: false };
    let call = from.parse_call(body.to_string().as_bytes(), site).expect("the call is valid");
    let mut losses = Losses::new(from);
    let out = to.render_call(&call, target, &mut losses);
    (serde_json::from_slice(&out).expect("JSON"), losses)
}

pub(crate) fn paths(losses: &Losses) -> Vec<&str> {
    losses.list().iter().map(|lost| lost.path.as_str()).collect()
}
