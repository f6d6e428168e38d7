//! Paths before matching: one spelling for what RFC 3986 calls equivalent, and the syntax of templates.
//!
//! `router` matches the spelling made here, and `proxy` passes the same spelling on, so that the backend cannot see
//! another path than the one that was routed and authorised.

use std::borrow::Cow;

mod template;

pub(crate) use template::MAX_CAPTURES;
pub use template::{Segment, Template, TemplateError};

/// RFC 3986 § 6.2.2: percent-encoded unreserved characters decoded, other escapes in upper case, dot segments
/// resolved (never above the root), what is no path character escaped. `%2F` stays an escape: it is not a separator.
/// Repeated slashes become one: to some backends they are one, and what was routed is what is passed on. Borrows when
/// there is nothing to do.
#[must_use]
pub fn normalize(path: &str) -> Cow<'_, str> {
    if !needs_work(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let escaped = unify_escapes(path.as_bytes());
    if escaped.starts_with('/') && has_odd_segment(escaped.as_bytes()) {
        return Cow::Owned(resolve_dots(&escaped));
    }
    if escaped == path { Cow::Borrowed(path) } else { Cow::Owned(escaped) }
}

fn needs_work(path: &[u8]) -> bool {
    let mut before = 0;
    // Only a slash or a dot after a slash begins an odd segment.
    let odd = path.iter().any(|&byte| {
        let odd = !PLAIN[usize::from(byte)] || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        odd
    });
    odd && (path.iter().any(|&byte| !PLAIN[usize::from(byte)]) || has_odd_segment(path))
}

/// Path bytes that no escape begins with: looked up, for every path is full of them.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] = byte as u8 != b'%' && is_path_byte(byte as u8);
        byte += 1;
    }
    plain
};

/// One that is a dot, two dots, or nothing.
fn has_odd_segment(path: &[u8]) -> bool {
    path.windows(2).enumerate().any(|(at, pair)| match pair {
        b"//" => true,
        b"/." => {
            let after = &path[at + 2..];
            let after = after.strip_prefix(b".").unwrap_or(after);
            after.is_empty() || after[0] == b'/'
        }
        _ => false,
    })
}

pub(crate) fn unify_escapes(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    let mut at = 0;
    while at < path.len() {
        let byte = path[at];
        match (byte, escape(path, at)) {
            (_, Some(plain)) if is_unreserved(plain) => out.push(char::from(plain)),
            (_, Some(other)) => push_escape(&mut out, other),
            (byte, None) if is_path_byte(byte) || byte == b'%' => out.push(char::from(byte)),
            (byte, None) => push_escape(&mut out, byte),
        }
        at += if byte == b'%' && escape(path, at).is_some() { 3 } else { 1 };
    }
    out
}

/// The byte that `%XX` at `at` stands for.
fn escape(path: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *path.get(at..at + 3)? else { return None };
    Some(hex(high)? << 4 | hex(low)?)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 § 3.3; clients also send some others, unescaped, and mean their escapes.
const fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

fn resolve_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = false; // The path ends in a dot segment or a slash, which name a folder.
    for segment in path[1..].split('/') {
        folder = matches!(segment, "." | ".." | "");
        match segment {
            "." | "" => {}
            ".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    if folder && !kept.is_empty() {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

/// A name or value of a query: `+` is a space, escapes are decoded; what is not UTF-8 then is left as sent.
pub(crate) fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let plain = escape(bytes, at);
        out.push(plain.unwrap_or(if bytes[at] == b'+' { b' ' } else { bytes[at] }));
        at += if plain.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equivalent_spellings_become_one() {
        for (sent, seen) in [
            ("/a/b", "/a/b"),
            ("/%61/%7eb", "/a/~b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/%zz%4", "/%zz%4"),
            ("/é", "/%C3%A9"),
            ("/a//b", "/a/b"),
            ("//a///b//", "/a/b/"),
            ("//", "/"),
            ("/a/b/", "/a/b/"),
            ("/a//../b", "/b"),
            ("*", "*"),
            ("", ""),
        ] {
            assert_eq!(normalize(sent), seen, "{sent}");
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        assert!(matches!(normalize("/v1/users/.hidden/7"), Cow::Borrowed(_)));
        assert!(matches!(normalize("/a%2Fb"), Cow::Borrowed(_)));
    }

    #[test]
    fn queries_decode() {
        assert_eq!(decode_query("a+b%20c"), "a b c");
        assert_eq!(decode_query("%ff"), "%ff");
    }
}
