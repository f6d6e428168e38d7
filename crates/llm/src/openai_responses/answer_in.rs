//! A response → [`Answer`].

use serde_json::Value;

use super::{stop, thoughts, usage};
use crate::Dialect;
use crate::glance::Glance;
use crate::json::{At, Look as _, string_of, text_of, whole};
use crate::meaning::{Answer, Body, Error, Media, MediaKind, Part, Source, ToolCall};
use crate::openai_chat;

pub(crate) fn parse_answer(value: &Value) -> Result<Answer, Error> {
    if value["error"].is_object() {
        return Err(openai_chat::error_of_value(0, &value["error"]));
    }
    let Some(items) = value["output"].as_array() else {
        return Err(Error::bad_stream("the provider's answer has no output"));
    };
    let mut answer = Answer::new(Dialect::OpenAiResponses);
    answer.id = string_of(&value["id"]);
    answer.model = string_of(&value["model"]);
    answer.created = whole(&value["created_at"]);
    answer.parts = items.iter().flat_map(item).collect();
    answer.stop = stop::read(value, &answer.parts);
    answer.usage = usage::read(&value["usage"]).map(|usage| usage.at(&value["service_tier"]));
    Ok(answer)
}

/// `None`: an error or a refusal.
pub(crate) fn glance(root: At<'_>) -> Option<Glance> {
    let output = root.at("output");
    let is = move |kind: &'static str| output.items().filter(move |item| item.at("type").says(kind));
    let parts = || is("message").flat_map(|item| item.at("content").items());
    if !root.at("error").is_null() || !output.is_list() || parts().any(|part| part.at("type").says("refusal")) {
        return None;
    }
    let has_calls = is("function_call").next().is_some();
    let stop = stop::of(root, has_calls, false);
    let usage = usage::read(root.at("usage")).map(|usage| usage.at(root.at("service_tier")));
    let texts = parts().filter(|part| part.at("type").says("output_text")).filter_map(|part| part.at("text").text());
    Some(Glance::new(root.at("model").text(), usage, (&stop, has_calls), texts))
}

fn item(item: &Value) -> Vec<Part> {
    match item["type"].as_str() {
        Some("message") => item["content"].as_array().into_iter().flatten().map(part).collect(),
        Some("reasoning") => thoughts::read(item).into_iter().collect(),
        Some("function_call") => vec![
            Body::ToolCall(ToolCall {
                id: call_id(item),
                name: string_of(&item["name"]),
                arguments: string_of(&item["arguments"]),
                signature: None,
            })
            .into(),
        ],
        _ => vec![foreign(item).into()],
    }
}

/// What only this dialect has; a picture that its tool made is a picture.
pub(super) fn foreign(item: &Value) -> Body {
    let made = text_of(&item["result"]).filter(|_| item["type"] == "image_generation_call");
    let Some(data) = made else { return Body::Foreign { dialect: Dialect::OpenAiResponses, value: item.clone() } };
    let media_type = format!("image/{}", text_of(&item["output_format"]).unwrap_or("png"));
    let source = Source::Base64 { media_type, data: data.to_owned() };
    Body::Media(Media { kind: MediaKind::Image, source, name: None, detail: None })
}

pub(super) fn call_id(item: &Value) -> String {
    text_of(&item["call_id"]).or_else(|| text_of(&item["id"])).unwrap_or_default().to_owned()
}

fn part(part: &Value) -> Part {
    let body = match part["type"].as_str() {
        Some("output_text") => Body::Text(string_of(&part["text"])),
        Some("refusal") => Body::Refusal(string_of(&part["refusal"])),
        _ => return Body::Foreign { dialect: Dialect::OpenAiResponses, value: part.clone() }.into(),
    };
    let mut read = Part::from(body);
    if part["annotations"].as_array().is_some_and(|list| !list.is_empty()) {
        read.extras.insert("annotations".to_owned(), part["annotations"].clone());
    }
    read
}
