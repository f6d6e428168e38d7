//! CORS (Fetch § 3.2): answers preflights, and puts the gateway's policy in place of whatever the upstream says.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tidegate_policy::{Cors, Route};

use crate::headers::Seen;
use crate::refusal::Refusal;
use crate::reply::Reply;

/// What the answer to a request with an `Origin` gets.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    origin: Option<HeaderValue>,
    credentials: bool,
    expose: Option<HeaderValue>,
    /// The answer differs by origin.
    varies: bool,
}

/// `None`: the route has no policy. An unlisted origin gets no permission, which is all a browser needs to know.
pub(crate) fn judge(cors: Option<&Cors>, headers: &HeaderMap, seen: Seen) -> Option<Granted> {
    let cors = cors?;
    let any = cors.origins.iter().any(|o| o == "*") && !cors.credentials;
    let sent = if seen.origin { headers.get(ORIGIN) } else { None };
    let allowed = sent.filter(|origin| any || allows(cors, origin));
    let origin = allowed.map(|origin| if any { HeaderValue::from_static("*") } else { origin.clone() });
    let expose = origin.as_ref().and_then(|_| list(cors.expose.iter().map(HeaderName::as_str)));
    Some(Granted { credentials: cors.credentials && origin.is_some(), origin, expose, varies: !any })
}

/// The answer to a preflight; `None` when this is none.
pub(crate) fn preflight(route: &Route, parts: &Parts, seen: Seen) -> Result<Option<Response<Reply>>, Refusal> {
    let (Some(cors), &Method::OPTIONS, true) = (&route.cors, &parts.method, seen.origin) else { return Ok(None) };
    let Some(asked) = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD) else { return Ok(None) };
    let granted = judge(Some(cors), &parts.headers, seen).filter(|g| g.origin.is_some());
    let headers_asked = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS);
    if granted.is_none() || !method_allowed(cors, route, asked) || !headers_allowed(cors, headers_asked) {
        return Err(Refusal::OriginNotAllowed);
    }
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let methods = list(cors.methods.iter().map(Method::as_str)).unwrap_or_else(|| asked.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(allow) = list(cors.headers.iter().map(HeaderName::as_str)).or_else(|| headers_asked.cloned()) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allow);
    }
    if let Some(age) = cors.max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, age.as_secs().into());
    }
    headers.append(VARY, HeaderValue::from_static("access-control-request-method, access-control-request-headers"));
    Ok(Some(response))
}

impl Granted {
    /// The upstream's own words about origins are replaced: there is one policy.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        for name in [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS] {
            headers.remove(name);
        }
        if let Some(origin) = &self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = &self.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// `https://app.example.com`, or `https://*.example.com` for any name below it.
fn allows(cors: &Cors, origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    cors.origins.iter().any(|allowed| match allowed.split_once("://*.") {
        None => allowed == "*" || allowed.eq_ignore_ascii_case(origin),
        Some((scheme, domain)) => origin.split_once("://").is_some_and(|(s, host)| {
            let below = host.len().checked_sub(domain.len() + 1).and_then(|at| host.get(at..));
            let tail = below.and_then(|b| b.strip_prefix('.'));
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
            s.eq_ignore_ascii_case(scheme)
                && host.bytes().all(plain)
                && tail.is_some_and(|t| t.eq_ignore_ascii_case(domain))
                && host.len() > domain.len() + 1
        }),
    })
}

fn method_allowed(cors: &Cors, route: &Route, asked: &HeaderValue) -> bool {
    let listed = if cors.methods.is_empty() { &route.methods } else { &cors.methods };
    listed.is_empty() || listed.iter().any(|m| m.as_str().as_bytes() == asked.as_bytes())
}

fn headers_allowed(cors: &Cors, asked: Option<&HeaderValue>) -> bool {
    let Some(asked) = asked.filter(|_| !cors.headers.is_empty()) else { return true };
    let known = |name: &[u8]| cors.headers.iter().any(|h| h.as_str().as_bytes().eq_ignore_ascii_case(name));
    asked.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii).all(|name| name.is_empty() || known(name))
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let text = items.collect::<Vec<_>>().join(", ");
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_by_name_or_below_a_star() {
        let cors = Cors {
            origins: vec!["https://a.example".into(), "https://*.b.example".into()],
            methods: vec![],
            headers: vec![],
            expose: vec![],
            credentials: false,
            max_age: None,
        };
        let ok = |origin: &'static str| allows(&cors, &HeaderValue::from_static(origin));
        assert!(ok("https://a.example") && ok("https://x.b.example") && ok("https://x.y.b.example"));
        for bad in ["http://a.example", "https://b.example", "https://.b.example", "https://xb.example", "null", ""] {
            assert!(!ok(bad), "{bad}");
        }
        for odd in
            ["https://e.com#.b.example", "https://e.com/.b.example", "https://u@x.b.example", "https://e?.b.example"]
        {
            assert!(!ok(odd), "{odd}");
        }
        assert!(!ok("https://x.b.example.evil.com") && !ok("http://x.b.example"));
    }
}
