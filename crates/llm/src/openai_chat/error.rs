//! `{"error":{"message","type","param","code"}}`, which Responses share; and what imitations make of it: a code that is a
//! number, `{"message"}` or `{"detail"}` alone, plain text.

use serde_json::Value;

use crate::dialect::Headers;
use crate::json::{Object, string_of, text_of};
use crate::meaning::{Error, Kind};
use crate::retry;

pub(crate) fn parse_error(status: u16, headers: Headers<'_>, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // Gemini's imitation of this dialect wraps its errors in a list.
    let value = if value.is_array() { &value[0] } else { &value };
    let mut error = match told(status, &value["error"]) {
        Some(error) => error,
        None if value.is_object() => of_value(status, value),
        None => Error { status, ..Error::new(Kind::of_status(status), excerpt(body)) },
    };
    error.retry_after = retry::after(headers);
    error
}

/// An object, or (Ollama, Hugging Face) its message alone.
fn told(status: u16, error: &Value) -> Option<Error> {
    match error {
        Value::Object(_) => Some(of_value(status, error)),
        Value::String(message) if !message.is_empty() => {
            Some(of_value(status, &Object::new().with("message", message.as_str()).done()))
        }
        _ => None,
    }
}

/// Where an answer or a chunk of one was expected: as everybody says it, or (vLLM) an object that is one.
pub(crate) fn inside(value: &Value, event: &str) -> Option<Error> {
    let bare = event == "error" || value["object"] == "error";
    told(0, &value["error"]).or_else(|| bare.then(|| of_value(0, value)))
}

/// The inner object; status 0 for an error inside a stream or inside a 200.
pub(crate) fn of_value(status: u16, error: &Value) -> Error {
    let message = [&error["message"], &error["detail"], &error["detail"][0]["msg"]].into_iter().find_map(text_of);
    let message = message.map_or_else(|| excerpt(error.to_string().as_bytes()), str::to_owned);
    let code = text_of(&error["code"]).or_else(|| text_of(&error["type"])).unwrap_or_default().to_owned();
    let kind_word = string_of(&error["type"]);
    // OpenRouter and others put the status into the code.
    let status = match error["code"].as_u64() {
        Some(code @ 400..=599) if status == 0 => code as u16,
        _ => status,
    };
    let kind = if status == 0 { of_word(&kind_word, &code) } else { Kind::of_status(status) };
    let kind = kind.refined(&code, &message).refined(&kind_word, "");
    Error {
        kind,
        status,
        message,
        code: (!code.is_empty()).then_some(code),
        param: text_of(&error["param"]).map(str::to_owned),
        retry_after: None,
    }
}

fn of_word(kind: &str, code: &str) -> Kind {
    let has = |word: &str| kind.contains(word) || code.contains(word);
    match () {
        () if has("insufficient_quota") => Kind::Billing,
        () if has("rate_limit") => Kind::RateLimited,
        () if has("overloaded") || has("unavailable") => Kind::Overloaded,
        () if has("authentication") || has("invalid_api_key") => Kind::Unauthenticated,
        () if has("permission") => Kind::Forbidden,
        () if has("not_found") => Kind::NotFound,
        () if has("timeout") => Kind::Timeout,
        () if has("invalid_request") || has("context_length") || has("content_filter") => Kind::BadRequest,
        () => Kind::Server,
    }
}

pub(crate) fn render_error(error: &Error) -> Vec<u8> {
    Object::new().with("error", to_value(error)).bytes()
}

pub(crate) fn to_value(error: &Error) -> Value {
    let (kind, code) = words(error.kind);
    Object::new()
        .with("message", error.message.as_str())
        .with("type", kind)
        .with("param", error.param.clone().map_or(Value::Null, Value::String))
        .with("code", code.map_or(Value::Null, Value::from))
        .done()
}

/// What OpenAI's SDKs know.
fn words(kind: Kind) -> (&'static str, Option<&'static str>) {
    match kind {
        Kind::BadRequest => ("invalid_request_error", None),
        Kind::Unauthenticated => ("authentication_error", Some("invalid_api_key")),
        Kind::Billing => ("insufficient_quota", Some("insufficient_quota")),
        Kind::Forbidden => ("permission_error", Some("permission_denied")),
        Kind::NotFound => ("invalid_request_error", Some("model_not_found")),
        Kind::TooLarge => ("invalid_request_error", Some("request_too_large")),
        Kind::ContextExceeded => ("invalid_request_error", Some("context_length_exceeded")),
        Kind::ContentFiltered => ("invalid_request_error", Some("content_filter")),
        Kind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
        Kind::Timeout => ("timeout_error", Some("timeout")),
        Kind::Overloaded => ("overloaded_error", Some("overloaded")),
        Kind::Server => ("server_error", Some("server_error")),
        Kind::BadStream => ("server_error", Some("bad_upstream_stream")),
    }
}

/// The beginning of a body that is no JSON: enough to see which proxy sent its HTML.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
    let text = text.trim();
    if text.is_empty() { "the provider sent no explanation".to_owned() } else { text.to_owned() }
}
