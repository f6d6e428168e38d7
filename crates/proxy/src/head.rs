//! Is this request head fit to be judged? What a parser lets pass and we do not: hosts, targets, framing, sizes.

use std::borrow::Cow;

use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Uri, Version};
use hyper::ext::Protocol;
use percent_encoding::percent_decode_str;

use crate::bounds::Bounds;
use crate::headers::{self, Seen};
use crate::refusal::Refusal;

/// Who the request is for, as the client wrote it: one valid host, maybe with a port.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    value: Option<HeaderValue>,
    /// So much of it is the name.
    name: usize,
}

impl Host {
    /// Lower case, no port, no final dot: as routes are matched. Empty for an HTTP/1.0 request without a host.
    pub(crate) fn name(&self) -> Cow<'_, str> {
        let text = self.as_str();
        let bare = text.get(..self.name).unwrap_or(text);
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        if bare.bytes().any(|b| b.is_ascii_uppercase()) { bare.to_ascii_lowercase().into() } else { bare.into() }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.value.as_ref().and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub(crate) fn value(&self) -> Option<&HeaderValue> {
        self.value.as_ref()
    }

    /// As written, for keys of the cache; without the port, and `true`, where that is the one the request came in by.
    pub(crate) fn authority(&self, own: u16) -> (&str, bool) {
        let text = self.as_str();
        match text.split_at_checked(self.name) {
            Some((name, port)) if is_written(own, port) => (name, true),
            _ => (text, false),
        }
    }
}

/// `:8080`, and no other spelling of it.
fn is_written(own: u16, port: &str) -> bool {
    port.strip_prefix(':').is_some_and(|digits| !digits.starts_with('0') && digits.parse() == Ok(own))
}

/// Checks the head and brings its target into origin form.
pub(crate) fn vet(parts: &mut Parts, seen: Seen, bounds: &Bounds) -> Result<Host, Refusal> {
    if parts.method == Method::CONNECT && is_websocket(parts) {
        parts.method = Method::GET; // RFC 8441 § 5: what an upgrade is in HTTP/1.1.
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(Refusal::MethodRefused);
    }
    if parts.method.as_str().len() > LONGEST_METHOD {
        return Err(Refusal::Malformed);
    }
    sizes(parts, bounds)?;
    framing(parts, seen)?;
    if parts.version >= Version::HTTP_2 && !parts.headers.values().all(|value| is_trim(value.as_bytes())) {
        return Err(Refusal::Malformed);
    }
    if seen.via && headers::passages(&parts.headers) >= MOST_PASSAGES {
        return Err(Refusal::Loop);
    }
    let host = host(parts, seen)?;
    target(parts)?;
    Ok(host)
}

/// Does it begin a WebSocket, as h2 has it (RFC 8441)?
pub(crate) fn is_websocket(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// Methods that somebody registered are half as long.
const LONGEST_METHOD: usize = 32;
/// A request that came through us so often goes round in circles.
const MOST_PASSAGES: usize = 8;

/// RFC 9113 § 8.2.1: a value neither begins nor ends with white space. HTTP/1.1 parsers cut it off.
fn is_trim(value: &[u8]) -> bool {
    let white = |byte: Option<&u8>| byte.is_some_and(|b| matches!(b, b' ' | b'\t'));
    !white(value.first()) && !white(value.last())
}

fn sizes(parts: &Parts, bounds: &Bounds) -> Result<(), Refusal> {
    if parts.uri.path_and_query().map_or(0, |p| p.as_str().len()) > bounds.uri_bytes {
        return Err(Refusal::UriTooLong);
    }
    // Lines of HTTP/1.1 and bytes of both were counted before; lines of h2 are counted here.
    if parts.headers.len() > bounds.headers {
        return Err(Refusal::HeadersTooLarge);
    }
    Ok(())
}

fn framing(parts: &Parts, seen: Seen) -> Result<(), Refusal> {
    if seen.framed && parts.headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::AmbiguousFraming);
    }
    if seen.framed {
        let mut lines = parts.headers.get_all(http::header::TRANSFER_ENCODING).iter();
        // Any list that ends in chunked can be read; we know no other coding and guess none.
        let plain = lines.next().is_some_and(|v| v.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if !plain || lines.next().is_some() {
            return Err(Refusal::AmbiguousFraming);
        }
    }
    if seen.expect {
        // A list, which may be empty (RFC 9110 § 10.1.1).
        let one = |word: &[u8]| word.is_empty() || word.eq_ignore_ascii_case(b"100-continue");
        let known = |line: &HeaderValue| line.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).all(one);
        if !parts.headers.get_all(EXPECT).iter().all(known) {
            return Err(Refusal::ExpectationUnknown);
        }
    }
    Ok(())
}

/// `:authority` or an absolute target must agree with `Host`, and one of them must be there (RFC 9112 § 3.2). RFC 9112
/// would have `Host` ignored beside an absolute target; somebody behind us might not.
fn host(parts: &mut Parts, seen: Seen) -> Result<Host, Refusal> {
    if seen.hosts > 1 {
        return Err(Refusal::InvalidHost);
    }
    let named = parts.uri.authority().map(|a| a.as_str().to_owned());
    let sent = parts.headers.get(HOST);
    let mut value = sent.cloned();
    match (named, sent) {
        (Some(named), Some(sent)) => {
            let standard = if parts.uri.scheme_str() == Some("https") { ":443" } else { ":80" };
            let bare = |host: &[u8]| host.strip_suffix(standard.as_bytes()).unwrap_or(host).to_ascii_lowercase();
            if !sent.as_bytes().eq_ignore_ascii_case(named.as_bytes())
                && bare(sent.as_bytes()) != bare(named.as_bytes())
            {
                return Err(Refusal::InvalidHost);
            }
        }
        (Some(named), None) => {
            let named = HeaderValue::try_from(named).map_err(|_| Refusal::InvalidHost)?;
            parts.headers.insert(HOST, named.clone());
            value = Some(named);
        }
        (None, None) if parts.version >= Version::HTTP_11 => return Err(Refusal::InvalidHost),
        _ => {}
    }
    let name = value.as_ref().map_or(Some(0), |value| valid(value.as_bytes())).ok_or(Refusal::InvalidHost)?;
    Ok(Host { value, name })
}

/// How long the name is, without the port; `None`: not a host.
fn valid(host: &[u8]) -> Option<usize> {
    let bracketed = host.first() == Some(&b'[');
    let end = if bracketed {
        memchr::memchr(b']', host)? + 1
    } else {
        host.iter().position(|b| *b == b':').unwrap_or(host.len())
    };
    let (name, port) = host.split_at(end);
    let port_ok = port.is_empty() || is_port(port);
    let name_ok = if bracketed {
        std::str::from_utf8(&name[1..end - 1]).is_ok_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
    } else {
        !name.is_empty() && name.len() <= 253 && is_dotted(name)
    };
    (name_ok && port_ok).then_some(end)
}

/// Letters, digits, `-` and `_`, in labels of at least one of them; a dot may end it.
fn is_dotted(name: &[u8]) -> bool {
    let mut before = b'.';
    name.iter().all(|&byte| {
        let label = matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_');
        let fits = label || (byte == b'.' && before != b'.');
        before = byte;
        fits
    })
}

/// `:8080`
fn is_port(port: &[u8]) -> bool {
    let [b':', digits @ ..] = port else { return false };
    let number = || digits.iter().fold(0_u32, |sum, b| sum.saturating_mul(10).saturating_add(u32::from(b - b'0')));
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && number() <= u32::from(u16::MAX)
}

/// The target in origin form. Dot segments and spelling are the router's matter ([`tidegate_policy::path`]); here goes
/// what has no meaning that two servers would agree on.
fn target(parts: &mut Parts) -> Result<(), Refusal> {
    let Some(target) = parts.uri.path_and_query() else { return Err(Refusal::InvalidPath) };
    let path = target.path();
    let whole_server = path == "*" && parts.method == Method::OPTIONS;
    if !whole_server && (!path.starts_with('/') || !sound(path.as_bytes()) || hides_dots(path)) {
        return Err(Refusal::InvalidPath);
    }
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Refusal::InvalidPath);
    }
    if parts.uri.authority().is_some() {
        let target = target.clone();
        parts.uri = Uri::from(target.clone());
        if !target.as_str().starts_with(['/', '*']) || parts.uri.path().is_empty() {
            // `http://a?b` and `http://a#b` have a path, `/`, that is not written (RFC 9112 § 3.2.1).
            let query = target.query().map(|query| format!("/?{query}"));
            parts.uri = query.as_deref().unwrap_or("/").parse().map_err(|_| Refusal::InvalidPath)?;
        }
    }
    Ok(())
}

/// No control character, backslash or NUL, plain or escaped, and no broken escape.
fn sound(path: &[u8]) -> bool {
    let ugly = |b: u8| matches!(b, b'\\' | 0..=0x1f | 0x7f);
    path.iter().enumerate().all(|(i, &b)| match b {
        b'%' => percent(path, i).is_some_and(|b| !ugly(b)),
        b' ' => false,
        b => !ugly(b),
    })
}

/// Is there a dot segment beside an escaped slash or a parameter (`..%2f`, `..;`)? Some servers decode or cut these first, and
/// see another path than was matched.
fn hides_dots(path: &str) -> bool {
    if !path.bytes().any(|b| matches!(b, b'%' | b';')) {
        return false;
    }
    let plain: Vec<u8> = percent_decode_str(path).collect();
    let slashes = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'/').count();
    let hides = plain.contains(&b';') || slashes(&plain) != slashes(path.as_bytes());
    let names = plain.split(|b| *b == b'/').filter_map(|segment| segment.split(|b| *b == b';').next());
    hides && names.into_iter().any(|name| matches!(name, b"." | b".."))
}

fn percent(path: &[u8], at: usize) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16);
    let (high, low) = (digit(*path.get(at + 1)?)?, digit(*path.get(at + 2)?)?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::headers::survey;

    fn judge(build: http::request::Builder) -> Result<(String, String), Refusal> {
        let (mut parts, ()) = build.body(()).expect("a request").into_parts();
        let seen = survey(&parts.headers);
        let host = vet(&mut parts, seen, &Bounds::default())?;
        Ok((host.name().into_owned(), parts.uri.to_string()))
    }

    fn path(target: &str) -> Result<String, Refusal> {
        judge(Request::get(target).header("host", "a")).map(|(_, path)| path)
    }

    #[test]
    fn the_host_is_one_valid_name_and_agrees_with_the_target() {
        let host = |h: &str| judge(Request::get("/").header("host", h)).map(|(host, _)| host);
        assert_eq!(host("API.Example.com.:8080").as_deref(), Ok("api.example.com"));
        assert_eq!(host("[::1]:80").as_deref(), Ok("[::1]"));
        for bad in ["", "a b", "a/b", "a:x", "a:", "a@b", "[::1", "a..b", ".a", "a:99999", "a,b", "a\\b", "a#b"] {
            assert_eq!(host(bad), Err(Refusal::InvalidHost), "{bad:?}");
        }
        assert_eq!(judge(Request::get("/")), Err(Refusal::InvalidHost));
        assert_eq!(judge(Request::get("/").header("host", "a").header("host", "a")), Err(Refusal::InvalidHost));
        assert_eq!(judge(Request::get("http://a/x").header("host", "b")), Err(Refusal::InvalidHost));
        assert_eq!(judge(Request::get("http://A:80/x").header("host", "a")), Ok(("a".into(), "/x".into())));
        assert_eq!(judge(Request::get("http://a:81/x").header("host", "a")), Err(Refusal::InvalidHost));
        assert_eq!(judge(Request::get("ftp://a/x")), Err(Refusal::InvalidPath));
        assert_eq!(judge(Request::get("http://a/x").header("host", "a")), Ok(("a".into(), "/x".into())));
        assert_eq!(judge(Request::get("http://u:p@a/x")), Err(Refusal::InvalidHost));
        for (bare, want) in [("http://a", "/"), ("http://a?b", "/?b"), ("http://a#b", "/"), ("http://a?b#c", "/?b")] {
            assert_eq!(judge(Request::get(bare).header("host", "a")), Ok(("a".into(), want.into())), "{bare}");
        }
    }

    #[test]
    fn the_port_the_request_came_in_by_is_told_from_others() {
        for (text, want) in [
            ("a:8080", ("a", true)),
            ("[::1]:8080", ("[::1]", true)),
            ("a", ("a", false)),
            ("[::1]", ("[::1]", false)),
            ("a:8081", ("a:8081", false)),
            ("a:08080", ("a:08080", false)),
            ("a:80", ("a:80", false)),
        ] {
            let name = valid(text.as_bytes()).expect("a host");
            let host = Host { value: Some(HeaderValue::from_static(text)), name };
            assert_eq!(host.authority(8080), want, "{text}");
        }
        assert_eq!(Host { value: None, name: 0 }.authority(8080), ("", false));
    }

    #[test]
    fn a_path_without_one_meaning_is_refused() {
        for good in [
            "/a/b?x=../y",
            "/.well-known/x",
            "/a%2Fb",
            "/a/../b",
            "/a?%zz\\",
            "/a;b=1/c",
            "/a/%2e%2e/b",
            "/a%2F..b",
            "/a/...;x",
        ] {
            assert_eq!(path(good).as_deref(), Ok(good));
        }
        for bad in [
            "/a%00",
            "/a%0d%0a",
            "/a%5cb",
            "/a\\b",
            "/a%",
            "/a%zz",
            "/%7f",
            "/a/..%2fb",
            "/a%2f..",
            "/a/%2e%2e%2Fb",
            "/a/..;/b",
            "/a/.;x/b",
            "/a/%2e.%3bx",
            "/a%2fb/../c",
        ] {
            assert_eq!(path(bad), Err(Refusal::InvalidPath), "{bad}");
        }
    }

    #[test]
    fn what_is_too_long_or_framed_twice_is_refused() {
        let long = format!("/{}", "a".repeat(9 << 10));
        assert_eq!(path(&long), Err(Refusal::UriTooLong));
        let both = Request::post("/").header("host", "a").header("content-length", "3");
        assert_eq!(judge(both.header("transfer-encoding", "chunked")), Err(Refusal::AmbiguousFraming));
        let odd = Request::post("/").header("host", "a").header("transfer-encoding", "gzip, chunked");
        assert_eq!(judge(odd), Err(Refusal::AmbiguousFraming));
        assert_eq!(judge(Request::builder().method("TRACE").uri("/")), Err(Refusal::MethodRefused));
        let endless = "M".repeat(33);
        assert_eq!(judge(Request::builder().method(&*endless).uri("/")), Err(Refusal::Malformed));
        let padded = Request::get("/").version(Version::HTTP_2).header("host", "a").header("x", "b ");
        assert_eq!(judge(padded), Err(Refusal::Malformed));
    }

    #[test]
    fn a_request_that_goes_round_in_circles_is_stopped() {
        let via =
            |times: usize| Request::get("/").header("host", "a").header("via", vec!["1.1 tidegate"; times].join(", "));
        assert!(judge(via(7)).is_ok());
        assert_eq!(judge(via(8)), Err(Refusal::Loop));
    }
}
