//! What goes wrong, in the words of the caller's SDK.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use tidegate_llm::meaning::{Error, Kind};
use tidegate_llm::{Dialect, Malformed};
use tidegate_policy::{Action, Route};

use super::door;
use crate::ratelimit;
use crate::refusal::Refusal;
use crate::reply::Reply;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// OpenAI's and Anthropic's SDKs try a 429 again unless they are told not to.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// A "no" with a text of its own: it names the field that was wrong.
#[derive(Debug)]
pub(super) struct No {
    pub(super) refusal: Refusal,
    pub(super) error: Option<Box<Error>>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, error: None }
    }
}

impl No {
    pub(super) fn told(refusal: Refusal, message: String, param: Option<String>) -> Self {
        let error = Error { message, param, ..of(&refusal) };
        Self { refusal, error: Some(Box::new(error)) }
    }

    pub(super) fn malformed(why: &Malformed) -> Self {
        let param = (!why.path.is_empty()).then(|| why.path.clone());
        Self::told(Refusal::CallInvalid, why.to_string(), param)
    }
}

/// A refusal of ours, in the caller's words if its route is one of models.
pub(crate) fn in_dialect(
    response: Response<Reply>,
    refusal: &Refusal,
    route: Option<&Route>,
    parts: &Parts,
) -> Response<Reply> {
    match route {
        Some(route) if matches!(route.action, Action::Llm(_)) => dressed(response, refusal, &of(refusal), parts),
        _ => response,
    }
}

/// The refusal as it would be told, with the error's words instead.
pub(super) fn dressed(
    mut response: Response<Reply>,
    refusal: &Refusal,
    error: &Error,
    parts: &Parts,
) -> Response<Reply> {
    let dialect = door::dialect(parts);
    *response.body_mut() = Reply::full(dialect.render_error(error));
    if matches!(refusal, Refusal::TooCostly | Refusal::Blocked) {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    mark(&mut response, dialect, error);
    response
}

/// A provider's error, or one that we made of what it did.
pub(super) fn failed(error: &Error, dialect: Dialect) -> Response<Reply> {
    let mut response = Response::new(Reply::full(dialect.render_error(error)));
    *response.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(millis) = error.retry_after {
        let seconds = ratelimit::seconds(Duration::from_millis(millis));
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    mark(&mut response, dialect, error);
    response
}

/// Bedrock's SDKs look for the kind of an error in a header.
fn mark(response: &mut Response<Reply>, dialect: Dialect, error: &Error) {
    if dialect != Dialect::Bedrock {
        return;
    }
    let name = match error.kind {
        Kind::BadRequest | Kind::ContextExceeded | Kind::ContentFiltered | Kind::TooLarge => "ValidationException",
        Kind::Unauthenticated => "UnrecognizedClientException",
        Kind::Forbidden => "AccessDeniedException",
        Kind::NotFound => "ResourceNotFoundException",
        Kind::RateLimited => "ThrottlingException",
        Kind::Billing => "ServiceQuotaExceededException",
        Kind::Timeout => "ModelTimeoutException",
        Kind::Overloaded => "ServiceUnavailableException",
        Kind::Server | Kind::BadStream => "InternalServerException",
    };
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(name));
}

fn of(refusal: &Refusal) -> Error {
    let line = refusal.line();
    let kind = match refusal {
        Refusal::TooCostly => Kind::RateLimited,
        Refusal::UpstreamTimeout => Kind::Timeout,
        _ => Kind::of_status(line.status.as_u16()),
    };
    let message = format!("{} {}", line.message, line.hint);
    Error { status: line.status.as_u16(), code: Some(line.code.to_owned()), ..Error::new(kind, message) }
}
