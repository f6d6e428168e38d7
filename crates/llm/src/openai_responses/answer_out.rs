//! [`Answer`] → a response.

use serde_json::{Value, json};

use super::echo::Echo;
use super::{stop, thoughts, usage};
use crate::dialect::{Dialect, Reply};
use crate::ids;
use crate::json::Object;
use crate::meaning::{Answer, Body, Gist, Media, MediaKind, Part, Source, Usage};

pub(crate) fn render_answer(answer: &Answer, reply: &Reply) -> Vec<u8> {
    let id = reply.id(&answer.id, "resp_");
    let refused = answer.parts.iter().any(|part| matches!(part.body, Body::Refusal(_)));
    let (status, details) = stop::write(&answer.stop, refused);
    let own = answer.dialect == Dialect::OpenAiResponses;
    let parts = answer.parts.iter().enumerate();
    let mut output: Vec<Value> = parts.filter_map(|(n, part)| item(part, &item_id(&id, part, n), own)).collect();
    // What the answer ends in the middle of.
    if let (Gist::Length, Some(last)) = (answer.stop.gist(), output.last_mut())
        && last["status"] == "completed"
    {
        last["status"] = status.into();
    }
    let response = Response {
        id: &id,
        created: answer.created.unwrap_or(reply.now),
        model: reply.model(&answer.model),
        status,
        details,
        echo: reply.echo.as_deref(),
    };
    response.with(output, answer.usage.as_ref()).bytes()
}

/// What every event that holds a response shares.
pub(super) struct Response<'a> {
    pub(super) id: &'a str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) status: &'static str,
    pub(super) details: Value,
    pub(super) echo: Option<&'a Echo>,
}

impl Response<'_> {
    pub(super) fn with(self, output: Vec<Value>, usage: Option<&Usage>) -> Object {
        let mut object = Object::new()
            .with("id", self.id)
            .with("object", "response")
            .with("created_at", self.created)
            .with("status", self.status)
            .with("error", Value::Null)
            .with("incomplete_details", self.details)
            .with("model", self.model)
            .with("output", output)
            .with("previous_response_id", Value::Null)
            .with("usage", usage.map_or(Value::Null, usage::write));
        Echo::put(self.echo, &mut object);
        object
    }
}

/// The same for an answer and its stream, and for the item when it is added and when it is done.
pub(super) fn numbered(response: &str, prefix: &str, n: usize) -> String {
    let tail: String = response.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("{prefix}_{tail}_{n}")
}

fn item_id(response: &str, part: &Part, n: usize) -> String {
    let prefix = match part.body {
        Body::ToolCall(_) => "fc",
        Body::Reasoning { .. } | Body::Redacted(_) => "rs",
        Body::Media(_) => "ig",
        _ => "msg",
    };
    numbered(response, prefix, n)
}

fn item(part: &Part, id: &str, own: bool) -> Option<Value> {
    Some(match &part.body {
        Body::Text(text) => {
            let annotations = part.extras.get("annotations").filter(|_| own).cloned();
            message(id, output_text(text, annotations))
        }
        Body::Refusal(text) => message(id, json!({"type": "refusal", "refusal": text})),
        Body::Reasoning { text, signature } => thoughts::write(text, signature.as_ref(), id),
        Body::Redacted(signature) => thoughts::write("", Some(signature), id),
        Body::ToolCall(call) => {
            let call_id = ids::call_id(&call.id, call.signature.as_ref(), Dialect::OpenAiResponses);
            function_call(id, &call_id, &call.name, &call.arguments, "completed")
        }
        Body::Foreign { dialect: Dialect::OpenAiResponses, value } => value.clone(),
        Body::Media(media) => return picture(media, id),
        Body::ToolResult(_) | Body::Foreign { .. } => return None,
    })
}

/// As the dialect's own tool for pictures gives them; `None`: it is none.
pub(super) fn picture(media: &Media, id: &str) -> Option<Value> {
    let Media { kind: MediaKind::Image, source: Source::Base64 { media_type, data }, .. } = media else { return None };
    let format = media_type.strip_prefix("image/").unwrap_or("png");
    Some(
        json!({"id": id, "type": "image_generation_call", "status": "completed", "output_format": format, "result": data}),
    )
}

pub(super) fn output_text(text: &str, annotations: Option<Value>) -> Value {
    json!({"type": "output_text", "text": text, "annotations": annotations.unwrap_or_else(|| json!([]))})
}

pub(super) fn message(id: &str, part: Value) -> Value {
    json!({"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part]})
}

pub(super) fn function_call(id: &str, call_id: &str, name: &str, arguments: &str, status: &str) -> Value {
    let arguments = if arguments.trim().is_empty() && status == "completed" { "{}" } else { arguments };
    json!({
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    })
}
