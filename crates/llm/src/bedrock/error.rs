//! `{"message"}` with `x-amzn-errortype`, and exceptions inside the event stream.

use serde_json::Value;

use crate::dialect::Headers;
use crate::json::{Object, text_of};
use crate::meaning::{Error, Kind};
use crate::retry;

/// Exceptions and what they mean; the first one of a kind is what we write.
const NAMES: [(&str, Kind); 12] = [
    ("ValidationException", Kind::BadRequest),
    ("AccessDeniedException", Kind::Forbidden),
    ("UnrecognizedClientException", Kind::Unauthenticated),
    ("ExpiredTokenException", Kind::Unauthenticated),
    ("ResourceNotFoundException", Kind::NotFound),
    ("ThrottlingException", Kind::RateLimited),
    ("ServiceQuotaExceededException", Kind::Billing),
    ("ModelTimeoutException", Kind::Timeout),
    ("ServiceUnavailableException", Kind::Overloaded),
    ("ModelNotReadyException", Kind::Overloaded),
    ("InternalServerException", Kind::Server),
    ("ModelErrorException", Kind::Server),
];

pub(crate) fn parse_error(status: u16, headers: Headers<'_>, body: &[u8]) -> Error {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    // `ThrottlingException:http://internal.amazon.com/…`
    let name = headers("x-amzn-errortype").or_else(|| value["__type"].as_str()).unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    let mut error = named(name, &value, status);
    if error.message.is_empty() {
        error.message = crate::openai_chat::excerpt(body);
    }
    error.retry_after = retry::after(headers);
    error
}

/// In a stream names start with a small letter: `throttlingException`.
pub(super) fn named(name: &str, value: &Value, status: u16) -> Error {
    let message = ["message", "Message", "originalMessage"].into_iter().find_map(|key| text_of(&value[key]));
    let message = message.unwrap_or_default().to_owned();
    let told = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind);
    let kind = told.unwrap_or_else(|| Kind::of_status(status)).refined(name, &message.to_ascii_lowercase());
    Error { kind, status, message, code: (!name.is_empty()).then(|| name.to_owned()), param: None, retry_after: None }
}

/// The exception to name in `x-amzn-errortype`, or in a frame.
pub(crate) fn name(kind: Kind) -> &'static str {
    let kind = match kind {
        Kind::ContextExceeded | Kind::ContentFiltered | Kind::TooLarge => Kind::BadRequest,
        Kind::BadStream => Kind::Server,
        kind => kind,
    };
    NAMES.iter().find(|(_, told)| *told == kind).map_or("InternalServerException", |(name, _)| *name)
}

pub(crate) fn render_error(error: &Error) -> Vec<u8> {
    Object::new().with("__type", name(error.kind)).with("message", error.message.as_str()).bytes()
}
