//! A chat completion → [`Answer`]. Of several choices the first.

use serde_json::{Map, Value, json};

use super::request_in::content::source_of_url;
use super::{calls_in, error, stop, thoughts, usage};
use crate::Dialect;
use crate::glance::Glance;
use crate::ids;
use crate::json::{At, Fields, Look as _, string_of, text_of, whole};
use crate::meaning::{Answer, Body, Error, Media, MediaKind, Part, ToolCall};

pub(crate) fn parse_answer(value: &Value) -> Result<Answer, Error> {
    if let Some(error) = error::inside(value, "").filter(|_| value["choices"].is_null()) {
        return Err(error);
    }
    let choice = &value["choices"][0];
    let message = &choice["message"];
    if !message.is_object() {
        return Err(Error::bad_stream("the provider's answer has no message"));
    }
    let mut answer = Answer::new(Dialect::OpenAiChat);
    answer.id = string_of(&value["id"]);
    answer.model = string_of(&value["model"]);
    answer.created = whole(&value["created"]);
    answer.parts = parts(message, &answer.id);
    answer.stop = stop::read(choice["finish_reason"].as_str());
    answer.stop = stop::settle(answer.stop, &answer.parts);
    answer.usage = usage::parse_usage(&value["usage"]).map(|usage| usage.at(&value["service_tier"]));
    answer.extras = extras(value);
    Ok(answer)
}

/// The usual answer: one text, or calls. `None`: it has more.
pub(crate) fn glance(root: At<'_>) -> Option<Glance> {
    let [choices, error, model, usage, tier] = root.each(["choices", "error", "model", "usage", "service_tier"]);
    let [message, finish] = choices.first()?.each(["message", "finish_reason"]);
    let [content, calls, more @ ..] = message.each(["content", "tool_calls", "refusal", "audio", "images"]);
    if !error.is_null() || !message.is_object() || !more.iter().all(|more| more.is_null()) || content.is_list() {
        return None;
    }
    let has_calls = calls.items().any(|call| !call.at("type").says("custom"));
    let stop = stop::read(finish.text().as_deref());
    let usage = usage::parse_usage(usage).map(|usage| usage.at(tier));
    Some(Glance::new(model.text(), usage, (&stop, has_calls), content.text().into_iter()))
}

/// Nothing but text. `None`: it is read the long way.
pub(crate) fn plain_answer(root: At<'_>) -> Option<Answer> {
    const MORE: [&str; 7] =
        ["refusal", "audio", "images", "tool_calls", "reasoning", "reasoning_content", "reasoning_details"];
    let quotes = |message: At<'_>| message.at("annotations").first().is_some();
    let choice = root.at("choices").first()?;
    let message = choice.at("message");
    let content = message.at("content");
    let more = quotes(message) || MORE.into_iter().any(|name| !message.at(name).is_null());
    if !root.at("error").is_null() || !message.is_object() || more || content.is_list() {
        return None;
    }
    let mut answer = Answer::new(Dialect::OpenAiChat);
    for name in EXTRAS {
        match (root.at(name).text(), root.at(name).is_null()) {
            (Some(text), _) => drop(answer.extras.insert(name.to_owned(), text.into())),
            (None, true) => {}
            (None, false) => return None,
        }
    }
    answer.id = root.at("id").text().unwrap_or_default().into_owned();
    answer.model = root.at("model").text().unwrap_or_default().into_owned();
    answer.created = root.at("created").whole();
    answer.parts.extend(content.text().filter(|text| !text.is_empty()).map(Part::text));
    answer.stop = stop::read(choice.at("finish_reason").text().as_deref());
    answer.usage = usage::parse_usage(root.at("usage")).map(|usage| usage.at(root.at("service_tier")));
    Some(answer)
}

fn parts(message: &Value, id: &str) -> Vec<Part> {
    let mut fields = Fields::of(message.clone()).unwrap_or_default();
    let mut parts = thoughts::of_message(&mut fields);
    parts.extend(content(&message["content"]));
    let quotes = &message["annotations"];
    if let (Some(last), false) = (parts.last_mut(), quotes.as_array().is_none_or(Vec::is_empty)) {
        last.extras.insert("annotations".to_owned(), quotes.clone());
    }
    if let Some(refusal) = text_of(&message["refusal"]) {
        parts.push(Body::Refusal(refusal.to_owned()).into());
    }
    parts.extend(images(&message["images"]).map(|media| Body::Media(media).into()));
    // Speech comes with its words.
    if let Some(words) = text_of(&message["audio"]["transcript"]) {
        parts.push(Part::text(words));
    }
    if message["audio"]["data"].is_string() {
        // Nobody else says it so: it is named as lost.
        parts.push(Body::Foreign { dialect: Dialect::OpenAiChat, value: json!({"type": "audio"}) }.into());
    }
    for (i, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        parts.push(tool_call(call, id, i));
    }
    parts
}

/// OpenRouter's pictures.
pub(super) fn images(list: &Value) -> impl Iterator<Item = Media> {
    let urls = list.as_array().into_iter().flatten().filter_map(|image| text_of(&image["image_url"]["url"]));
    urls.map(|url| Media { kind: MediaKind::Image, source: source_of_url(url.to_owned()), name: None, detail: None })
}

/// Text, or (Mistral) a list of texts and thoughts.
pub(super) fn content(content: &Value) -> Vec<Part> {
    match content {
        Value::String(text) if !text.is_empty() => vec![Part::text(text.as_str())],
        Value::Array(list) => list.iter().filter_map(piece).collect(),
        _ => Vec::new(),
    }
}

fn piece(piece: &Value) -> Option<Part> {
    match piece["type"].as_str() {
        Some("text") => Some(Part::text(text_of(&piece["text"])?)),
        Some("thinking") => {
            let text = super::request_in::content::flat_text(&piece["thinking"]);
            Some(Body::Reasoning { text, signature: None }.into())
        }
        _ => Some(Body::Foreign { dialect: Dialect::OpenAiChat, value: piece.clone() }.into()),
    }
}

fn tool_call(value: &Value, answer: &str, i: usize) -> Part {
    if value["type"] == "custom" {
        return Body::Foreign { dialect: Dialect::OpenAiChat, value: value.clone() }.into();
    }
    let function = &value["function"];
    let id = text_of(&value["id"]).map_or_else(|| ids::synthetic(answer, i), str::to_owned);
    let arguments = calls_in::arguments(&function["arguments"]);
    let signature = calls_in::signature(value);
    Body::ToolCall(ToolCall { id, name: string_of(&function["name"]), arguments, signature }).into()
}

/// What chat callers may look at besides the answer.
const EXTRAS: [&str; 4] = ["system_fingerprint", "service_tier", "citations", "provider"];

fn extras(value: &Value) -> Map<String, Value> {
    let mut extras = Map::new();
    for name in EXTRAS {
        if !value[name].is_null() {
            extras.insert(name.to_owned(), value[name].clone());
        }
    }
    extras
}
