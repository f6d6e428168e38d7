//! `{"error":{"code","message","status","details":[…RetryInfo…]}}`.

use serde_json::{Value, json};

use crate::dialect::Headers;
use crate::json::{Object, string_of, text_of};
use crate::meaning::{Error, Kind};
use crate::{openai_chat, retry};

/// Google's words and what they mean; the first one of a kind is what we write.
const WORDS: [(&str, Kind); 13] = [
    ("INVALID_ARGUMENT", Kind::BadRequest),
    ("FAILED_PRECONDITION", Kind::BadRequest),
    ("OUT_OF_RANGE", Kind::BadRequest),
    ("UNAUTHENTICATED", Kind::Unauthenticated),
    ("PERMISSION_DENIED", Kind::Forbidden),
    ("NOT_FOUND", Kind::NotFound),
    ("RESOURCE_EXHAUSTED", Kind::RateLimited),
    ("INTERNAL", Kind::Server),
    ("UNKNOWN", Kind::Server),
    ("UNAVAILABLE", Kind::Overloaded),
    ("DEADLINE_EXCEEDED", Kind::Timeout),
    ("ABORTED", Kind::Overloaded),
    ("CANCELLED", Kind::Timeout),
];

pub(crate) fn parse_error(status: u16, headers: Headers<'_>, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // A stream without `alt=sse` wraps its errors in a list.
    let value = if value.is_array() { &value[0] } else { &value };
    let mut error = match value["error"].is_object() {
        true => of_value(status, &value["error"]),
        false => openai_chat::parse_error(status, headers, body),
    };
    error.retry_after = retry::after(headers).or(error.retry_after);
    error
}

/// The inner object, also inside a stream.
pub(super) fn of_value(status: u16, error: &Value) -> Error {
    let code = string_of(&error["status"]);
    let message = text_of(&error["message"]).unwrap_or("the provider sent no explanation").to_owned();
    let told = error["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    let status = if status == 0 { told.unwrap_or(0) } else { status };
    let word = WORDS.iter().find(|(name, _)| *name == code).map(|(_, kind)| *kind);
    let kind = match word {
        // A wrong key is INVALID_ARGUMENT with a reason.
        Some(Kind::BadRequest) if reason(error) == Some("API_KEY_INVALID") => Kind::Unauthenticated,
        Some(kind) => kind,
        None => Kind::of_status(status),
    };
    Error {
        kind: kind.refined(&code, &message),
        status,
        message,
        code: (!code.is_empty()).then_some(code),
        param: None,
        retry_after: retry_info(error),
    }
}

fn details(error: &Value) -> impl Iterator<Item = &Value> {
    error["details"].as_array().into_iter().flatten()
}

fn reason(error: &Value) -> Option<&str> {
    details(error).find_map(|detail| detail["reason"].as_str())
}

fn retry_info(error: &Value) -> Option<u64> {
    details(error).find_map(|detail| retry::span(detail["retryDelay"].as_str()?))
}

pub(crate) fn render_error(error: &Error) -> Vec<u8> {
    Object::new().with("error", to_value(error)).bytes()
}

pub(super) fn to_value(error: &Error) -> Value {
    let kind = match error.kind {
        Kind::ContextExceeded | Kind::ContentFiltered | Kind::TooLarge => Kind::BadRequest,
        Kind::Billing => Kind::RateLimited,
        Kind::BadStream => Kind::Server,
        kind => kind,
    };
    let word = WORDS.iter().find(|(_, told)| *told == kind).map_or("INTERNAL", |(name, _)| *name);
    let retry = error.retry_after.map(|millis| {
        let delay = format!("{}.{:03}s", millis / 1_000, millis % 1_000);
        json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}])
    });
    Object::new()
        .with("code", error.status())
        .with("message", error.message.as_str())
        .with("status", word)
        .maybe("details", retry)
        .done()
}
