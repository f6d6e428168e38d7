//! [`Answer`] → a chat completion.

use serde_json::{Value, json};

use super::request_out::content::data_url;
use super::{stop, thoughts, usage};
use crate::dialect::{Dialect, Reply};
use crate::ids;
use crate::json::{Object, Tree};
use crate::meaning::{Answer, Body, Media, MediaKind, Part, Source, ToolCall};

pub(crate) fn render_answer(answer: &Answer, reply: &Reply) -> Vec<u8> {
    let choice = Object::new()
        .with("index", 0)
        .with("message", message(answer))
        .with("logprobs", Value::Null)
        .with("finish_reason", stop::write(&answer.stop));
    let mut body = Object::new()
        .with("id", reply.id(&answer.id, "chatcmpl-"))
        .with("object", "chat.completion")
        .with("created", answer.created.unwrap_or(reply.now))
        .with("model", reply.model(&answer.model))
        .with("choices", Tree::List(vec![choice.into()]))
        .maybe("usage", answer.usage.as_ref().map(usage::written));
    if answer.dialect == Dialect::OpenAiChat {
        body.extend(&answer.extras);
    }
    body.bytes()
}

fn message(answer: &Answer) -> Object {
    let mut said = Said::default();
    for part in &answer.parts {
        said.add(part);
    }
    let silent = said.text.is_empty() && (!said.calls.is_empty() || said.refusal.is_some());
    let mut message = Object::new()
        .with("role", "assistant")
        .with("content", if silent { Value::Null } else { said.text.into() })
        .with("refusal", said.refusal.map_or(Value::Null, Value::String));
    if !said.thoughts.is_empty() {
        message.put("reasoning_content", said.thoughts);
    }
    for (name, list) in [("reasoning_details", said.details), ("images", said.images), ("tool_calls", said.calls)] {
        if !list.is_empty() {
            message.put(name, list);
        }
    }
    message
}

#[derive(Default)]
struct Said {
    text: String,
    refusal: Option<String>,
    thoughts: String,
    details: Vec<Value>,
    images: Vec<Value>,
    calls: Vec<Value>,
}

impl Said {
    fn add(&mut self, part: &Part) {
        match &part.body {
            Body::Text(text) => self.text.push_str(text),
            Body::Refusal(text) => self.refusal.get_or_insert_default().push_str(text),
            Body::Reasoning { text, signature } => {
                self.thoughts.push_str(text);
                if let Some(signature) = signature {
                    self.details.push(thoughts::to_detail(Some(text), signature, self.details.len()));
                }
            }
            Body::Redacted(signature) => {
                self.details.push(thoughts::to_detail(None, signature, self.details.len()));
            }
            Body::ToolCall(call) => self.calls.push(tool_call(call)),
            Body::Media(media) => self.images.extend(image(media)),
            Body::Foreign { dialect: Dialect::OpenAiChat, value } if value["type"] == "custom" => {
                self.calls.push(value.clone());
            }
            // What a provider's own tools did on the way: `unsaid` names it.
            Body::ToolResult(_) | Body::Foreign { .. } => {}
        }
    }
}

/// `None`: no picture, or one that is somewhere else.
pub(super) fn image(media: &Media) -> Option<Value> {
    let Media { kind: MediaKind::Image, source: Source::Base64 { media_type, data }, .. } = media else { return None };
    Some(json!({"type": "image_url", "image_url": {"url": data_url(media_type, data)}}))
}

/// The signature goes along twice: beside the call for those who keep unknown fields, in its id for all others.
pub(super) fn tool_call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    Object::new()
        .with("id", ids::call_id(&call.id, call.signature.as_ref(), Dialect::OpenAiChat))
        .with("type", "function")
        .with("function", json!({"name": call.name, "arguments": arguments}))
        .maybe("extra_content", call.signature.as_ref().map(extra_content))
        .done()
}

pub(super) fn extra_content(signature: &crate::signature::Signature) -> Value {
    json!({"google": {"thought_signature": signature.seal(Dialect::Gemini)}})
}
