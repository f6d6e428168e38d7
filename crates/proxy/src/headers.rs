//! One look over the headers of a message: which of those that need care are there. And the care: hop-by-hop fields
//! go no further (RFC 9110 § 7.6.1), neither way.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::grpc::Speech;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// Which revision of the document answered; only where the document asks for it.
pub(crate) const X_TIDEGATE_REVISION: HeaderName = HeaderName::from_static("x-tidegate-revision");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
pub(crate) const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// HTTP/2 settings of an h2c upgrade, which we never do.
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Ours between nodes; a client may not send it.
pub(crate) const INTERNAL: &str = "x-tidegate-";

/// What was seen. Absent fields cost nothing later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) connection: bool,
    pub(crate) upgrade: bool,
    pub(crate) te: bool,
    pub(crate) framed: bool,
    pub(crate) expect: bool,
    pub(crate) forwarded: bool,
    pub(crate) internal: bool,
    pub(crate) request_id: bool,
    pub(crate) via: bool,
    pub(crate) origin: bool,
    /// By its content type.
    pub(crate) grpc: Option<Speech>,
    pub(crate) hosts: u8,
    /// Asks a cache for something else than what it has, whole and for everybody.
    pub(crate) particular: bool,
    /// There are names that some backends take for others.
    pub(crate) underscores: bool,
    /// Fields that name themselves as hop-by-hop or always are, beside those above.
    pub(crate) hop: bool,
}

/// One pass.
pub(crate) fn survey(headers: &HeaderMap) -> Seen {
    let mut seen = Seen::default();
    for name in headers.keys() {
        match *name {
            header::HOST => seen.hosts = headers.get_all(header::HOST).iter().take(2).count() as u8,
            header::CONNECTION => seen.connection = true,
            header::UPGRADE => seen.upgrade = true,
            header::TE => seen.te = true,
            header::TRANSFER_ENCODING => seen.framed = true,
            header::EXPECT => seen.expect = true,
            header::FORWARDED => seen.forwarded = true,
            header::ORIGIN => seen.origin = true,
            header::VIA => seen.via = true,
            header::CONTENT_TYPE => seen.grpc = Speech::of(headers),
            header::AUTHORIZATION
            | header::CACHE_CONTROL
            | header::PRAGMA
            | header::RANGE
            | header::IF_RANGE
            | header::IF_MATCH
            | header::IF_NONE_MATCH
            | header::IF_MODIFIED_SINCE
            | header::IF_UNMODIFIED_SINCE => seen.particular = true,
            header::PROXY_AUTHORIZATION | header::PROXY_AUTHENTICATE => seen.hop = true,
            _ => uncommon(name.as_str(), &mut seen),
        }
    }
    seen
}

fn uncommon(name: &str, seen: &mut Seen) {
    seen.underscores |= name.as_bytes().contains(&b'_');
    match name.as_bytes().first() {
        Some(b'x') => {
            seen.forwarded |= is_claim(name);
            seen.internal |= is_internal(name);
            seen.request_id |= name == "x-request-id";
        }
        Some(b'c') => seen.forwarded |= is_claim(name),
        Some(b'k' | b'p' | b'h') => {
            seen.hop |= matches!(name, "keep-alive" | "proxy-connection" | "http2-settings");
        }
        _ => {}
    }
}

/// HTTP/2 may send a cookie in crumbs, which no HTTP/1.1 server need put together (RFC 9113 § 8.2.3), and a length twice.
/// `false`: two lengths.
#[cold]
pub(crate) fn mend(headers: &mut HeaderMap) -> bool {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(mut cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        cookie.set_sensitive(true);
        headers.insert(header::COOKIE, cookie);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return true };
    let (alike, first) = (lengths.all(|other| other == first), first.clone());
    headers.insert(header::CONTENT_LENGTH, first);
    alike
}

/// How often a message came through a node of ours: each says so in `Via`.
#[cold]
pub(crate) fn passages(headers: &HeaderMap) -> usize {
    let ours = |hop: &&[u8]| {
        let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(PSEUDONYM))
    };
    headers.get_all(header::VIA).iter().flat_map(|line| line.as_bytes().split(|&b| b == b',')).filter(ours).count()
}

/// Our name in `Via`.
const PSEUDONYM: &[u8] = b"tidegate";

/// Takes out what concerns one connection alone. `TE: trailers` stays: both our sides know trailers.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, seen: Seen) {
    if seen.connection {
        if headers.len() == headers.keys_len() {
            // No field has a second line.
            if let Some(line) = headers.remove(header::CONNECTION) {
                remove_named(headers, &line);
            }
        } else {
            for line in headers.remove_all(header::CONNECTION) {
                remove_named(headers, &line);
            }
        }
    }
    if seen.hop {
        for name in [KEEP_ALIVE, PROXY_CONNECTION, HTTP2_SETTINGS] {
            headers.remove(name);
        }
        headers.remove(header::PROXY_AUTHORIZATION);
        headers.remove(header::PROXY_AUTHENTICATE);
    }
    if seen.upgrade {
        headers.remove(header::UPGRADE);
    }
    if seen.framed {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if seen.te {
        let trailers = headers.get_all(header::TE).iter().any(|v| has_token(v, "trailers"));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// `Connection: close, x-one-hop` names a field of this hop. It cannot name those that frame or route a message, nor
/// `TE`, which has a rule of its own.
fn remove_named(headers: &mut HeaderMap, line: &HeaderValue) {
    for token in line.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        if token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close") {
            continue; // No fields, or one that goes anyway.
        }
        if let Ok(name) = HeaderName::from_bytes(token) {
            match name {
                header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::TE | header::UPGRADE => {}
                name => drop(headers.remove(name)),
            }
        }
    }
}

pub(crate) fn has_token(value: &HeaderValue, token: &str) -> bool {
    let name = |part: &[u8]| part.split(|&b| b == b';').next().unwrap_or(&[]).trim_ascii().to_vec();
    value.as_bytes().split(|&b| b == b',').any(|part| name(part).eq_ignore_ascii_case(token.as_bytes()))
}

/// Does this field say who the client is? Backends of the CGI tradition read `x_forwarded_for` as `x-forwarded-for`.
pub(crate) fn is_claim(name: &str) -> bool {
    let whole = |known: &str| name.len() == known.len() && begins(name, known);
    begins(name, "x-forwarded-") || whole(X_REAL_IP) || whole("client-cert") || whole("client-cert-chain")
}

const X_REAL_IP: &str = "x-real-ip";

pub(crate) fn is_internal(name: &str) -> bool {
    begins(name, INTERNAL)
}

fn begins(name: &str, prefix: &str) -> bool {
    let alike = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(alike)
}

/// Fields that only we may set.
pub(crate) fn strip_internal(headers: &mut HeaderMap) {
    strip_where(headers, is_internal);
}

/// Backends of the CGI tradition read an underscore as a hyphen: `content_length` frames a message there, and what only we may say
/// could be said by anybody. So names with one go no further where they would be read as a field that frames or routes a
/// message, as one of `ours`, or as one that the request has.
#[cold]
pub(crate) fn strip_aliases(headers: &mut HeaderMap, ours: &[HeaderName]) {
    let is_alias = |name: &&HeaderName| {
        let read = name.as_str().replace('_', "-");
        name.as_str() != read
            && (VITAL.contains(&&*read)
                || headers.contains_key(&*read)
                || ours.iter().any(|name| name.as_str() == read))
    };
    let aliases: Vec<HeaderName> = headers.keys().filter(is_alias).cloned().collect();
    for alias in aliases {
        headers.remove(alias);
    }
}

const VITAL: [&str; 9] = [
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "http2-settings",
    "max-forwards",
    "x-request-id",
];

pub(crate) fn strip_where(headers: &mut HeaderMap, is: fn(&str) -> bool) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// What a caller claims about where its request comes from.
pub(crate) fn strip_claims(headers: &mut HeaderMap) {
    strip_where(headers, is_claim);
    headers.remove(header::FORWARDED);
}

trait RemoveAll {
    fn remove_all(&mut self, name: HeaderName) -> Vec<HeaderValue>;
}

impl RemoveAll for HeaderMap {
    fn remove_all(&mut self, name: HeaderName) -> Vec<HeaderValue> {
        let values = self.get_all(&name).iter().cloned().collect();
        self.remove(name);
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let seen = survey(&headers);
        strip_hop_by_hop(&mut headers, seen);
        headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect()
    }

    #[test]
    fn what_concerns_one_hop_goes_no_further() {
        assert_eq!(
            stripped(&[
                ("host", "a"),
                ("connection", "close, X-Secret-Hop"),
                ("connection", "x-other"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("transfer-encoding", "chunked"),
                ("te", "trailers, deflate;q=0.5"),
                ("x-secret-hop", "1"),
                ("x-other", "1"),
                ("x-kept", "1"),
            ]),
            ["host: a", "x-kept: 1", "te: trailers"]
        );
    }

    #[test]
    fn names_that_some_read_as_others_go_no_further() {
        let mut headers = HeaderMap::new();
        for name in
            ["host", "content_length", "transfer_encoding", "x_user", "x-user", "x_name", "api_key", "x-own_name"]
        {
            headers.append(name, HeaderValue::from_static("1"));
        }
        assert!(survey(&headers).underscores);
        strip_aliases(&mut headers, &[HeaderName::from_static("x-name")]);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["api_key", "host", "x-own_name", "x-user"]);
    }

    #[test]
    fn crumbs_become_one_cookie_and_equal_lengths_one_length() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("content-length", "3"), ("content-length", "3")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        assert!(mend(&mut headers));
        let left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("ASCII"))).collect();
        assert_eq!(left, ["cookie: a=1; b=2", "content-length: 3"]);
        headers.append("content-length", HeaderValue::from_static("4"));
        assert!(!mend(&mut headers));
    }

    #[test]
    fn passages_are_counted_by_our_name_in_via() {
        let mut headers = HeaderMap::new();
        headers.append("via", HeaderValue::from_static("1.1 tidegate, 1.1 other"));
        headers.append("via", HeaderValue::from_static("2  Tidegate (comment), 1.0 tidegate-eu, tidegate"));
        assert_eq!(passages(&headers), 2);
    }

    #[test]
    fn a_connection_header_cannot_name_what_frames_a_message() {
        let left = stripped(&[("connection", "host, content-length"), ("host", "a"), ("content-length", "3")]);
        assert_eq!(left, ["content-length: 3", "host: a"]);
    }
}
