//! Answers that need no upstream: redirects and fixed responses.

use http::header::LOCATION;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tidegate_policy::{Captured, Redirect};

use crate::head::Host;
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::rewrite;

/// The place as the client knows it: scheme, host and port of the request where the route does not say otherwise.
pub(crate) fn redirect(
    redirect: &Redirect,
    secure: bool,
    host: &Host,
    path: &str,
    target: Option<&PathAndQuery>,
    captures: &Captured<'_>,
) -> Result<Response<Reply>, Refusal> {
    let mut location = String::with_capacity(128);
    authority(&mut location, redirect, secure, host);
    match &redirect.path {
        Some(template) => location.push_str(&rewrite::fill(template, captures, path)),
        None => location.push_str(path),
    }
    if let Some(query) = target.and_then(PathAndQuery::query) {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).map_err(|_| Refusal::InvalidPath)?);
    Ok(response)
}

/// Nothing for an HTTP/1.0 client that named no host: a relative reference is all we can say.
fn authority(location: &mut String, redirect: &Redirect, secure: bool, host: &Host) {
    let sent = host.as_str();
    let name = redirect.host.as_deref().unwrap_or(sent);
    if name.is_empty() {
        return;
    }
    let (was, is) = (if secure { "https" } else { "http" }, redirect.scheme.as_deref());
    location.push_str(is.unwrap_or(was));
    location.push_str("://");
    // A port belongs to its host and scheme: change one of them and it means nothing.
    let keeps_port = redirect.host.is_none() && is.is_none_or(|is| is == was) && redirect.port.is_none();
    let bare = if redirect.host.is_some() || keeps_port { name } else { without_port(name) };
    location.push_str(bare);
    if let Some(port) = redirect.port {
        location.push(':');
        location.push_str(&port.to_string());
    }
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

pub(crate) fn fixed(status: StatusCode, headers: &[(HeaderName, HeaderValue)], body: &bytes::Bytes) -> Response<Reply> {
    let mut response = Response::new(Reply::full(body.clone()));
    *response.status_mut() = status;
    for (name, value) in headers {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_is_cut_off() {
        for (host, bare) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")] {
            assert_eq!(without_port(host), bare);
        }
    }
}
