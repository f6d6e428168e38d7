//! How many gateways more may pass on an OPTIONS (RFC 9110 § 7.6.2); TRACE, which has it too, is not served at all. Called by
//! `request`, once it is known who asks.

use http::header::MAX_FORWARDS;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use crate::reply::Reply;

/// The answer, where it ends here; else one gateway less goes on. What is no number is passed on as it is.
pub(crate) fn count(parts: &mut Parts) -> Option<Response<Reply>> {
    if parts.method != Method::OPTIONS {
        return None;
    }
    let left: u64 = parts.headers.get(MAX_FORWARDS)?.to_str().ok()?.parse().ok()?;
    let Some(fewer) = left.checked_sub(1) else {
        let mut response = Response::new(Reply::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Some(response);
    };
    parts.headers.insert(MAX_FORWARDS, HeaderValue::from(fewer));
    None
}
