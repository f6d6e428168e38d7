//! A generateContent response → [`Answer`]. Of several candidates the first.

use serde_json::Value;

use super::{error, stop, usage};
use crate::Dialect;
use crate::glance::Glance;
use crate::ids;
use crate::json::{self, At, Look as _, string_of, text_of};
use crate::meaning::{Answer, Body, Error, Media, MediaKind, Part, Source, Stop, ToolCall};
use crate::signature::Signature;

/// What Google tells of sources, beside the words.
pub(super) const BESIDE: [&str; 3] = ["groundingMetadata", "citationMetadata", "urlContextMetadata"];

pub(crate) fn parse_answer(value: &Value) -> Result<Answer, Error> {
    if value["error"].is_object() {
        return Err(error::of_value(0, &value["error"]));
    }
    let candidate = &value["candidates"][0];
    if !candidate.is_object() && !stop::blocked(value) {
        return Err(Error::bad_stream("the provider's answer has no candidates"));
    }
    let mut answer = Answer::new(Dialect::Gemini);
    answer.id = string_of(&value["responseId"]);
    answer.model = string_of(&value["modelVersion"]);
    for value in candidate["content"]["parts"].as_array().into_iter().flatten() {
        let nth = answer.parts.iter().filter(|part| matches!(part.body, Body::ToolCall(_))).count();
        answer.parts.extend(part(value, &answer.id, nth));
    }
    answer.stop = match candidate["finishReason"].as_str() {
        Some(reason) => stop::read(reason, answer.has_tool_calls()),
        None if candidate.is_object() => stop::read("STOP", answer.has_tool_calls()),
        None => Stop::ContentFilter,
    };
    answer.usage = usage::read(&value["usageMetadata"]);
    for name in ["promptFeedback", "createTime"] {
        if !value[name].is_null() {
            answer.extras.insert(name.to_owned(), value[name].clone());
        }
    }
    for name in BESIDE.into_iter().filter(|name| candidate[*name].is_object()) {
        answer.extras.insert(name.to_owned(), candidate[name].clone());
    }
    Ok(answer)
}

/// `None`: an error, or nothing at all.
pub(crate) fn glance(root: At<'_>) -> Option<Glance> {
    let candidate = root.at("candidates").first()?;
    if !root.at("error").is_null() || !candidate.is_object() {
        return None;
    }
    let parts = || candidate.at("content").at("parts").items();
    let has_calls = parts().any(|part| part.at("text").text().is_none() && part.at("functionCall").is_object());
    let stop = stop::read(candidate.at("finishReason").text().as_deref().unwrap_or("STOP"), has_calls);
    let texts = parts().filter(|part| !part.at("thought").is_true()).filter_map(|part| part.at("text").text());
    let usage = usage::read(root.at("usageMetadata"));
    Some(Glance::new(root.at("modelVersion").text(), usage, (&stop, has_calls), texts))
}

/// `nth`: the place of this call among the calls, for those without an id.
pub(super) fn part(value: &Value, answer: &str, nth: usize) -> Option<Part> {
    let signature = signature(value);
    if let Some(text) = value["text"].as_str() {
        return text_part(value, text, signature);
    }
    let body = if value["functionCall"].is_object() {
        let call = &value["functionCall"];
        let id = text_of(&call["id"]).map_or_else(|| ids::synthetic(answer, nth), str::to_owned);
        let arguments = if call["args"].is_object() { json::text(&call["args"]) } else { "{}".to_owned() };
        Body::ToolCall(ToolCall { id, name: string_of(&call["name"]), arguments, signature })
    } else if let Some(data) = value["inlineData"]["data"].as_str() {
        let media_type = string_of(&value["inlineData"]["mimeType"]);
        let kind = MediaKind::of_type(&media_type);
        let source = Source::Base64 { media_type, data: data.to_owned() };
        Body::Media(Media { kind, source, name: None, detail: None })
    } else {
        Body::Foreign { dialect: Dialect::Gemini, value: value.clone() }
    };
    Some(body.into())
}

fn text_part(value: &Value, text: &str, signature: Option<Signature>) -> Option<Part> {
    match (value["thought"] == true, text.is_empty(), signature) {
        (true, true, Some(signature)) => Some(Body::Redacted(signature).into()),
        (true, _, signature) => Some(Body::Reasoning { text: text.to_owned(), signature }.into()),
        // Signed text: Google wants it back if it can be had, and does not insist.
        (false, empty, signature) => {
            if empty && signature.is_none() {
                return None;
            }
            let mut part = Part::text(text);
            if let Some(signature) = signature {
                part.extras.insert("thoughtSignature".to_owned(), signature.value.into());
            }
            Some(part)
        }
    }
}

pub(super) fn signature(part: &Value) -> Option<Signature> {
    text_of(&part["thoughtSignature"]).map(|value| Signature::open(value, Dialect::Gemini))
}
