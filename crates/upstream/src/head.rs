//! A request's head: kept for another sending, and brought into the form a connection wants. And what a response's head
//! says of its connection. Pure.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;

use crate::CallFailed;
use crate::endpoint::Address;
use crate::outgoing::Outgoing;

/// Enough to send a request once more. A list costs half of what a second map would; it is made for nearly every
/// request and hardly ever used.
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Head {
    pub(crate) fn of(request: &Request<Outgoing>) -> Self {
        let headers = request.headers();
        let mut fields = Vec::with_capacity(headers.len());
        for (name, value) in headers {
            fields.push((name.clone(), value.clone()));
        }
        Self { method: request.method().clone(), uri: request.uri().clone(), fields }
    }

    /// The version is the connection's matter.
    pub(crate) fn with(self, body: Outgoing) -> Request<Outgoing> {
        let mut headers = HeaderMap::with_capacity(self.fields.len());
        for (name, value) in self.fields {
            headers.append(name, value);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = headers;
        request
    }
}

/// HTTP/1.1: path and query in the request line, the authority in `Host`.
pub(crate) fn in_origin_form(request: &mut Request<Outgoing>, to: &Address) {
    *request.version_mut() = Version::HTTP_11;
    if !matches!(request.body(), Outgoing::Empty) {
        frame(request);
    }
    if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
        name_the_endpoint(request.headers_mut(), to);
    }
    let Some(authority) = request.uri().authority().filter(|_| request.method() != Method::CONNECT) else { return };
    if !request.headers().contains_key(HOST)
        && let Ok(host) = authority.as_str().parse()
    {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
}

/// hyper sends a GET's or HEAD's body only if it is told how: without a length it takes it for none.
fn frame(request: &mut Request<Outgoing>) {
    let bare = matches!(*request.method(), Method::GET | Method::HEAD);
    if bare && request.body().size_hint().exact().is_none() && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// An HTTP/1.0 client need not say whom it means; HTTP/1.1 and HTTP/2 must (RFC 9112 § 3.2).
#[cold]
fn name_the_endpoint(headers: &mut HeaderMap, to: &Address) {
    let standard = if to.https { 443 } else { 80 };
    let host = if to.port == standard { to.host.clone() } else { format!("{}:{}", to.host, to.port) };
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(HOST, host);
    }
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
    if !request.headers().contains_key(HOST) {
        name_the_endpoint(request.headers_mut(), to);
    }
    let Some(host) = request.headers_mut().remove(HOST) else { return };
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
    match response.version() {
        Version::HTTP_10 if !says("keep-alive") => return None,
        Version::HTTP_11 if says("close") => return None,
        _ => {}
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
