//! What must never be printed, wherever it stands: credentials in headers, in queries, and our own keys in any text.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

pub(crate) const REDACTED: &str = "REDACTED";

/// A key of ours in running text: `tg_` and at least this many digits.
const KEY_DIGITS: usize = 16;

/// Names that are secret as a whole.
const NAMES: [&str; 14] = [
    "key",
    "sig",
    "auth",
    "code",
    "pwd",
    "jwt",
    "session",
    "sid",
    "otp",
    "pin",
    "cookie",
    "set-cookie",
    "authorization",
    "proxy-authorization",
];
/// Parts of names that make them secret.
const PARTS: [&str; 11] = [
    "token",
    "secret",
    "passw",
    "signature",
    "apikey",
    "api-key",
    "api_key",
    "credential",
    "private",
    "session-",
    "access_key",
];

/// Is what a header or parameter of this name holds a secret?
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let lower;
    let name = if name.bytes().any(|b| b.is_ascii_uppercase()) {
        lower = name.to_ascii_lowercase();
        &lower
    } else {
        name
    };
    NAMES.contains(&name) || PARTS.iter().any(|part| name.contains(part))
}

/// A header's value as it may be printed.
pub(crate) fn header<'a>(name: &HeaderName, value: &'a HeaderValue) -> Cow<'a, [u8]> {
    if value.is_sensitive() || is_secret(name.as_str()) {
        return Cow::Borrowed(REDACTED.as_bytes());
    }
    match value.to_str() {
        // `Referer`, `Location`: URLs with queries of their own.
        Ok(text) if text.contains('?') => Cow::Owned(target(text).into_owned().into_bytes()),
        _ => Cow::Borrowed(value.as_bytes()),
    }
}

/// A path or URL with the values of secret parameters replaced. Names may hide behind escapes (`k%65y`).
#[must_use]
pub fn target(target: &str) -> Cow<'_, str> {
    let Some((path, query)) = target.split_once('?') else { return Cow::Borrowed(target) };
    if !query.split(['&', ';']).any(is_secret_pair) {
        return Cow::Borrowed(target);
    }
    let mut clean = String::with_capacity(target.len());
    clean.push_str(path);
    clean.push('?');
    for pair in query.split_inclusive(['&', ';']) {
        let end = pair.trim_end_matches(['&', ';']);
        match end.split_once('=') {
            Some((name, _)) if is_secret_pair(end) => {
                clean.push_str(name);
                clean.push('=');
                clean.push_str(REDACTED);
            }
            _ => clean.push_str(end),
        }
        clean.push_str(&pair[end.len()..]);
    }
    Cow::Owned(clean)
}

fn is_secret_pair(pair: &str) -> bool {
    let Some((name, value)) = pair.split_once('=') else { return false };
    if value.is_empty() {
        return false;
    }
    if name.contains('%') { is_secret(&percent_decode_str(name).decode_utf8_lossy()) } else { is_secret(name) }
}

/// Text with keys of ours masked: someone will put one into a path, a user agent, an error.
#[must_use]
pub fn keys(text: &[u8]) -> Cow<'_, [u8]> {
    // Underscores are rare, and found sixteen bytes at a time.
    let found = memchr::memchr_iter(b'_', text).any(|at| text[..at].ends_with(b"tg"));
    if found { masked(text) } else { Cow::Borrowed(text) }
}

fn masked(text: &[u8]) -> Cow<'_, [u8]> {
    let mut clean = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(3).position(|w| w == b"tg_") {
        let (before, from) = rest.split_at(at + 3);
        let digits = from.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).count();
        clean.extend_from_slice(before);
        if digits >= KEY_DIGITS {
            clean.extend_from_slice(REDACTED.as_bytes());
            rest = &from[digits..];
        } else {
            rest = from;
        }
    }
    clean.extend_from_slice(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_parameters_lose_their_values() {
        let check = |from: &str, to: &str| assert_eq!(target(from), to);
        check("/a?b=c", "/a?b=c");
        check("/a?key=tg_x&b=c", "/a?key=REDACTED&b=c");
        check("/a?b=c&key=x", "/a?b=c&key=REDACTED");
        check("/a?k%65y=x", "/a?k%65y=REDACTED");
        check("/a?KEY=x&Access_Token=y&b", "/a?KEY=REDACTED&Access_Token=REDACTED&b");
        check(
            "/a?X-Amz-Signature=abc&X-Amz-Security-Token=d",
            "/a?X-Amz-Signature=REDACTED&X-Amz-Security-Token=REDACTED",
        );
        check("/a?client_secret=a;password=b", "/a?client_secret=REDACTED;password=REDACTED");
        check("/a?key=a=b&&c=d", "/a?key=REDACTED&&c=d");
        check("/a?monkey=1&keyboard=2&key=", "/a?monkey=1&keyboard=2&key=");
        check("/a?redirect=x?key=1", "/a?redirect=x?key=1");
    }

    #[test]
    fn our_keys_are_masked_in_any_text() {
        let key = format!("tg_{}", "a".repeat(43));
        assert_eq!(&*keys(format!("/v1/{key}/x").as_bytes()), b"/v1/tg_REDACTED/x");
        assert_eq!(&*keys(format!("{key} {key}").as_bytes()), b"tg_REDACTED tg_REDACTED");
        assert_eq!(&*keys(b"tg_short"), b"tg_short");
        assert_eq!(&*keys(format!("\u{e9}{key}").as_bytes()), "étg_REDACTED".as_bytes());
    }

    #[test]
    fn credentials_in_headers_are_never_printed() {
        for name in [
            "authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "proxy-authorization",
            "x-auth-token",
            "x-csrf-token",
        ] {
            let name: HeaderName = name.parse().unwrap();
            assert_eq!(&*header(&name, &HeaderValue::from_static("v")), b"REDACTED", "{name}");
        }
        let referer = HeaderValue::from_static("https://a/b?key=x");
        assert_eq!(&*header(&http::header::REFERER, &referer), b"https://a/b?key=REDACTED");
        assert_eq!(&*header(&http::header::ACCEPT, &HeaderValue::from_static("text/html")), b"text/html");
    }
}
