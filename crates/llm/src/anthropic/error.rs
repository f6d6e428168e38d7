//! `{"type":"error","error":{"type","message"},"request_id"}`.

use serde_json::{Value, json};

use crate::dialect::Headers;
use crate::json::{Object, string_of, text_of};
use crate::meaning::{Error, Kind};
use crate::{openai_chat, retry};

/// Anthropic's types and what they mean; the first one of a kind is what we write.
const TYPES: [(&str, Kind); 11] = [
    ("invalid_request_error", Kind::BadRequest),
    ("authentication_error", Kind::Unauthenticated),
    ("billing_error", Kind::Billing),
    ("permission_error", Kind::Forbidden),
    ("not_found_error", Kind::NotFound),
    ("request_too_large", Kind::TooLarge),
    ("rate_limit_error", Kind::RateLimited),
    ("timeout_error", Kind::Timeout),
    ("overloaded_error", Kind::Overloaded),
    ("api_error", Kind::Server),
    ("server_error", Kind::Server),
];

pub(crate) fn parse_error(status: u16, headers: Headers<'_>, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut error = match value["error"].is_object() {
        true => of_value(status, &value["error"]),
        // A proxy in between.
        false => openai_chat::parse_error(status, headers, body),
    };
    error.retry_after = retry::after(headers);
    error
}

/// The inner object, also of an error event.
pub(super) fn of_value(status: u16, error: &Value) -> Error {
    let code = string_of(&error["type"]);
    let message = text_of(&error["message"]).unwrap_or("the provider sent no explanation").to_owned();
    let told = TYPES.iter().find(|(name, _)| *name == code).map(|(_, kind)| *kind);
    let kind = told.unwrap_or_else(|| Kind::of_status(status)).refined(&code, &message);
    Error { kind, status, message, code: (!code.is_empty()).then_some(code), param: None, retry_after: None }
}

pub(crate) fn render_error(error: &Error) -> Vec<u8> {
    let kind = match error.kind {
        Kind::ContextExceeded | Kind::ContentFiltered => Kind::BadRequest,
        Kind::BadStream => Kind::Server,
        kind => kind,
    };
    let name = TYPES.iter().find(|(_, told)| *told == kind).map_or("api_error", |(name, _)| *name);
    Object::new().with("type", "error").with("error", json!({"type": name, "message": error.message})).bytes()
}
