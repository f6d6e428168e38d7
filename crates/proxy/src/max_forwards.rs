//! How many gateways more may pass on an OPTIONS (RFC 9110 § 7.6.2); TRACE, which has it too, is not served at all. Called by
//! `request`, once it is known who asks.

use http::header::MAX_FORWARDS;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::reply::Reply;

/// What is beyond our numbers is the largest of them: there is no end to it either way.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits =
        value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The answer, where it ends here; else one gateway less goes on. What is no number is passed on as it is.
pub(crate) fn count(parts: &mut Parts) -> Option<Response<Reply>> {
    if parts.method != Method::OPTIONS {
        return None;
    }
    // The least of them, should somebody say it twice.
    let left = parts.headers.get_all(MAX_FORWARDS).iter().filter_map(number).min()?;
    let Some(fewer) = left.checked_sub(1) else {
        let mut response = Response::new(Reply::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Some(response);
    };
    parts.headers.insert(MAX_FORWARDS, HeaderValue::from(fewer));
    None
}
