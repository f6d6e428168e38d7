//! A request's head: kept for another sending, and brought into the form that HTTP/2 wants. And what a response's head says of
//! its connection. Pure. (HTTP/1.1 writes heads as they are: `h1/ask.rs`.)

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};

use crate::CallFailed;
use crate::endpoint::Address;
use crate::outgoing::Outgoing;

/// Enough to send a request once more.
pub(crate) enum Head {
    /// Taken back from a connection that needed it no longer.
    Back(Box<Parts>),
    /// A copy. A list costs half of what a second map would; it is hardly ever used.
    Listed { method: Method, uri: Uri, fields: Vec<(HeaderName, HeaderValue)> },
}

impl Head {
    pub(crate) fn of(request: &Request<Outgoing>) -> Self {
        let headers = request.headers();
        let mut fields = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            fields.push((name.clone(), value.clone()));
        }
        Self::Listed { method: request.method().clone(), uri: request.uri().clone(), fields }
    }

    /// The version is the connection's matter.
    pub(crate) fn with(self, body: Outgoing) -> Request<Outgoing> {
        let (method, uri, fields) = match self {
            Self::Back(parts) => return Request::from_parts(*parts, body),
            Self::Listed { method, uri, fields } => (method, uri, fields),
        };
        let mut headers = HeaderMap::with_capacity(fields.len());
        for (name, value) in fields {
            headers.append(name, value);
        }
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
    }
}

/// An HTTP/1.0 client need not say whom it means; HTTP/1.1 and HTTP/2 must (RFC 9112 § 3.2).
#[cold]
pub(crate) fn endpoints_name(to: &Address) -> Option<HeaderValue> {
    let standard = if to.https { 443 } else { 80 };
    let host = if to.port == standard { to.host.clone() } else { format!("{}:{}", to.host, to.port) };
    HeaderValue::try_from(host).ok()
}

/// A response's `Transfer-Encoding` may say `chunked` and nothing else: we know no other coding, and none may be lost on
/// the way. Beside it a length has no meaning and goes no further (RFC 9112 § 6.3).
#[cold]
pub(crate) fn only_chunked(headers: &mut HeaderMap) -> Result<(), CallFailed> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let plain = lines.next().is_some_and(|line| line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if !plain || lines.next().is_some() {
        return Err(CallFailed::BadResponse("a transfer coding other than chunked".into()));
    }
    headers.remove(CONTENT_LENGTH);
    Ok(())
}

/// HTTP/2: `:scheme` and `:authority` come from the URI, and `Host` is not sent beside them (RFC 9113 § 8.3.1).
pub(crate) fn with_authority(request: &mut Request<Outgoing>, to: &Address) {
    *request.version_mut() = Version::HTTP_2;
    if request.uri().authority().is_some() {
        return;
    }
    let scheme = if to.https { "https" } else { "http" };
    let Some(host) = request.headers_mut().remove(HOST).or_else(|| endpoints_name(to)) else { return };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(path).build();
    match uri {
        Ok(uri) => *request.uri_mut() = uri,
        // Not an authority: hyper refuses the request without one, which is told as it is.
        Err(_) => drop(request.headers_mut().insert(HOST, host)),
    }
}

/// May the connection be used again, and for how long? `None`: no. The peer's own timeout (`Keep-Alive: timeout=5`)
/// is kept a second short, so that no request meets its close on the way.
pub(crate) fn keep_alive<B>(response: &Response<B>) -> Option<Duration> {
    static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let names = |line: &HeaderValue, token: &str| {
        line.as_bytes().split(|&b| b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    let says = |token: &str| response.headers().get_all(CONNECTION).iter().any(|line| names(line, token));
    if response.headers().contains_key(CONNECTION) && says("close") {
        return None;
    }
    if response.version() == Version::HTTP_10 && !says("keep-alive") {
        return None;
    }
    let told = response.headers().get(&KEEP_ALIVE).and_then(|value| {
        let value = value.to_str().ok()?;
        let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
        seconds.trim().parse::<u64>().ok()
    });
    match told {
        None => Some(Duration::MAX),
        Some(seconds) => seconds.checked_sub(1).filter(|left| *left > 0).map(Duration::from_secs),
    }
}
