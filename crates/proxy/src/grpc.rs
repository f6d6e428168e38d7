//! gRPC as far as a gateway has to do with it: refusals that its clients understand, deadlines, and gRPC-Web for browsers
//! (`web`). Messages pass as they are. Sources: grpc/doc/PROTOCOL-HTTP2.md, PROTOCOL-WEB.md, http-grpc-status-mapping.md.

pub(crate) mod web;

use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::refusal::Refusal;
use crate::reply::Reply;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// `grpc-message` is percent-encoded outside of what can be printed in ASCII.
const MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// How a caller speaks it, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    Plain,
    /// A browser: trailers come as the last message.
    Web,
    /// The same in base64.
    WebText,
}

impl Speech {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let rest = headers.get(CONTENT_TYPE)?.as_bytes().strip_prefix(b"application/grpc")?;
        let ends = |rest: &[u8]| matches!(rest.first(), None | Some(b'+' | b';' | b' '));
        if ends(rest) {
            return Some(Self::Plain);
        }
        let rest = rest.strip_prefix(b"-web")?;
        if ends(rest) {
            return Some(Self::Web);
        }
        rest.strip_prefix(b"-text").filter(|rest| ends(rest)).map(|_| Self::WebText)
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "application/grpc",
            Self::Web => "application/grpc-web",
            Self::WebText => "application/grpc-web-text",
        }
    }
}

/// How long the caller waits for the whole call: up to eight digits and a unit.
pub(crate) fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3_600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// A refusal as a call's end: 200, no message, and why in its status.
pub(crate) fn refused(mut told: Response<Reply>, refusal: &Refusal, speech: Speech) -> Response<Reply> {
    let line = refusal.line();
    let message = format!("{}: {} {}", line.code, line.message, line.hint);
    *told.status_mut() = StatusCode::OK;
    *told.body_mut() = Reply::empty();
    let headers = told.headers_mut();
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(speech.prefix()));
    headers.insert(GRPC_STATUS, HeaderValue::from(status(refusal, line.status)));
    if let Ok(message) = HeaderValue::try_from(utf8_percent_encode(&message, MESSAGE).to_string()) {
        headers.insert(GRPC_MESSAGE, message);
    }
    told
}

/// As clients map HTTP's statuses themselves, and closer where the gateway knows better.
fn status(refusal: &Refusal, status: StatusCode) -> u16 {
    match (refusal, status.as_u16()) {
        (Refusal::UpstreamTimeout, _) => 4, // DEADLINE_EXCEEDED
        (Refusal::BodyBroken, _) => 1,      // CANCELLED
        (_, 401) => 16,                     // UNAUTHENTICATED
        (_, 403) => 7,                      // PERMISSION_DENIED
        (_, 404 | 405) => 12,               // UNIMPLEMENTED
        (_, 413 | 414 | 429 | 431) => 8,    // RESOURCE_EXHAUSTED
        (_, 408 | 421 | 502..=504) => 14,   // UNAVAILABLE
        (_, 400 | 500 | 508) => 13,         // INTERNAL
        _ => 2,                             // UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("ASCII"))])
    }

    #[test]
    fn content_types_tell_who_speaks() {
        let of = |kind| Speech::of(&with(CONTENT_TYPE, kind));
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc; x=y"] {
            assert_eq!(of(kind), Some(Speech::Plain), "{kind}");
        }
        assert_eq!(of("application/grpc-web+proto"), Some(Speech::Web));
        assert_eq!(of("application/grpc-web-text"), Some(Speech::WebText));
        for kind in ["application/json", "application/grpcx", "application/grpc-weber", "application/grpc-web-texts"] {
            assert_eq!(of(kind), None, "{kind}");
        }
    }

    #[test]
    fn deadlines_have_up_to_eight_digits_and_a_unit() {
        let of = |text| deadline(&with(GRPC_TIMEOUT, text));
        assert_eq!(of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(of("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("7u"), Some(Duration::from_micros(7)));
        for text in ["", "S", "2", "2s", "+2S", "123456789S", "2.5S", " 2S", "-1S"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
