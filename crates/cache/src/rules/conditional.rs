//! Preconditions (RFC 9110 § 13), answered from what is stored, and those we send to the origin.

use http::header::{
    DATE, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::Millis;

use super::{date, fields};

const PRECONDITIONS: [HeaderName; 4] = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The stored response is the answer.
    Serve,
    /// The client has it already.
    NotModified,
    /// The stored response fails `If-Match` or `If-Unmodified-Since`, but the origin may have a newer one that does not:
    /// only the origin can say 412 (RFC 9111 § 4.3.2).
    AskOrigin,
}

/// Does the request ask for less than the whole response?
#[must_use]
pub fn is_conditional(request: &HeaderMap) -> bool {
    has_preconditions(request) || request.contains_key(RANGE)
}

fn has_preconditions(request: &HeaderMap) -> bool {
    PRECONDITIONS.iter().any(|name| request.contains_key(name))
}

#[must_use]
pub fn evaluate(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, answered: Millis) -> Outcome {
    // Preconditions ask about a representation, and only a 200 holds one.
    if status != StatusCode::OK || !has_preconditions(request) {
        return Outcome::Serve;
    }
    let etag = stored.get(ETAG).map(HeaderValue::as_bytes);
    let modified = date::only(stored, &LAST_MODIFIED);
    if request.contains_key(IF_MATCH) {
        if !listed(request, &IF_MATCH).any(|tag| tag == b"*" || etag.is_some_and(|own| strong(own, tag))) {
            return Outcome::AskOrigin;
        }
    } else if let Some(since) = date::only(request, &IF_UNMODIFIED_SINCE)
        && modified.is_none_or(|at| at > since)
    {
        return Outcome::AskOrigin;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let known = listed(request, &IF_NONE_MATCH).any(|tag| tag == b"*" || etag.is_some_and(|own| weak(own, tag)));
        return if known { Outcome::NotModified } else { Outcome::Serve };
    }
    let Some(since) = date::only(request, &IF_MODIFIED_SINCE) else { return Outcome::Serve };
    let made = || date::only(stored, &DATE).unwrap_or(answered.0 / 1_000);
    if modified.unwrap_or_else(made) <= since { Outcome::NotModified } else { Outcome::Serve }
}

/// May a part of the stored response complete what the client has (RFC 9110 § 13.1.5)?
#[must_use]
pub fn range_may_be_used(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(condition) = request.get(IF_RANGE) else { return true };
    let bytes = condition.as_bytes().trim_ascii();
    if bytes.starts_with(b"\"") || bytes.starts_with(b"W/") {
        return stored.get(ETAG).is_some_and(|own| strong(own.as_bytes(), bytes));
    }
    // A date is strong when the response was made at least a second after it (§ 8.8.2.2).
    let (Some(asked), Some(modified)) = (date::parse(condition), date::only(stored, &LAST_MODIFIED)) else {
        return false;
    };
    asked == modified && date::only(stored, &DATE).is_some_and(|made| made > modified)
}

/// The headers of a 304 in place of a stored 200.
#[must_use]
pub fn not_modified(stored: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(stored.keys_len());
    for (name, value) in stored.iter().filter(|(name, _)| !fields::is_of_the_content(name)) {
        headers.append(name, value.clone());
    }
    headers
}

/// Makes the request ask the origin whether the stored response still holds; what the client knows is beside the point.
pub fn ask_with(request: &mut HeaderMap, stored: &HeaderMap) {
    ask_for_all(request);
    if let Some(etag) = stored.get(ETAG) {
        request.insert(IF_NONE_MATCH, etag.clone());
    }
    if let Some(modified) = stored.get(LAST_MODIFIED) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
}

/// Makes the request ask for the whole response, whatever the client has.
pub fn ask_for_all(request: &mut HeaderMap) {
    for name in PRECONDITIONS.iter().chain([&IF_RANGE, &RANGE]) {
        request.remove(name);
    }
}

#[must_use]
pub fn has_validator(stored: &HeaderMap) -> bool {
    stored.contains_key(ETAG) || stored.contains_key(LAST_MODIFIED)
}

/// Entity tags of a list. A comma inside quotes belongs to the tag.
fn listed<'a>(request: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    request.get_all(name).iter().flat_map(|line| Tags { rest: line.as_bytes() })
}

struct Tags<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let mut quoted = false;
            let ends = |&b: &u8| {
                quoted ^= b == b'"';
                b == b',' && !quoted
            };
            let end = self.rest.iter().position(ends).unwrap_or(self.rest.len());
            let tag = self.rest[..end].trim_ascii();
            self.rest = self.rest.get(end + 1..).unwrap_or(&[]);
            if !tag.is_empty() {
                return Some(tag);
            }
        }
    }
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

pub(super) fn weak(a: &[u8], b: &[u8]) -> bool {
    opaque(a) == opaque(b)
}

pub(super) fn strong(a: &[u8], b: &[u8]) -> bool {
    a == b && !a.starts_with(b"W/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    const LM: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn preconditions_are_answered_from_what_is_stored() {
        use Outcome::{AskOrigin, NotModified, Serve};
        let both = map(&[("etag", "\"a,b\""), ("last-modified", LM), ("date", LATER)]);
        let weakly = map(&[("etag", "W/\"x\"")]);
        let dateless = map(&[("date", LM)]);
        for (stored, asked, expected) in [
            (&both, ("if-none-match", "\"a,b\""), NotModified),
            (&both, ("if-none-match", "\"1\", \"a,b\""), NotModified),
            (&both, ("if-none-match", "W/\"a,b\""), NotModified),
            (&both, ("if-none-match", "*"), NotModified),
            (&both, ("if-none-match", "\"a\""), Serve),
            (&both, ("if-modified-since", LM), NotModified),
            (&both, ("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT"), NotModified),
            (&both, ("if-modified-since", EARLIER), Serve),
            (&both, ("if-modified-since", "never"), Serve),
            (&both, ("if-match", "\"a,b\""), Serve),
            (&both, ("if-match", "*"), Serve),
            (&both, ("if-match", "\"z\""), AskOrigin),
            (&both, ("if-unmodified-since", LM), Serve),
            (&both, ("if-unmodified-since", EARLIER), AskOrigin),
            (&weakly, ("if-match", "W/\"x\""), AskOrigin),
            (&weakly, ("if-none-match", "\"x\""), NotModified),
            (&weakly, ("if-modified-since", LM), Serve),
            (&dateless, ("if-modified-since", LM), NotModified),
            (&dateless, ("if-modified-since", EARLIER), Serve),
        ] {
            assert_eq!(evaluate(&map(&[asked]), StatusCode::OK, stored, Millis(u64::MAX)), expected, "{asked:?}");
        }
        let asked = map(&[("if-none-match", "\"z\""), ("if-modified-since", LM)]);
        assert_eq!(evaluate(&asked, StatusCode::OK, &both, Millis::ZERO), Serve);
        assert_eq!(evaluate(&map(&[("if-none-match", "*")]), StatusCode::NOT_FOUND, &both, Millis::ZERO), Serve);
    }

    #[test]
    fn a_part_completes_only_what_is_surely_the_same() {
        let stored = map(&[("etag", "\"a\""), ("last-modified", LM), ("date", LATER)]);
        let may = |value| range_may_be_used(&map(&[("if-range", value)]), &stored);
        assert!(may("\"a\"") && may(LM));
        assert!(!may("W/\"a\"") && !may("\"b\"") && !may(EARLIER) && !may(LATER) && !may("junk"));
        let fast = map(&[("last-modified", LM), ("date", LM)]);
        assert!(!range_may_be_used(&map(&[("if-range", LM)]), &fast));
        assert!(range_may_be_used(&HeaderMap::new(), &stored));
    }

    #[test]
    fn the_origin_is_asked_with_our_validators() {
        let mut request =
            map(&[("if-none-match", "\"theirs\""), ("range", "bytes=0-1"), ("if-range", "\"q\""), ("a", "1")]);
        ask_with(&mut request, &map(&[("etag", "\"ours\""), ("last-modified", LM)]));
        assert_eq!(request, map(&[("a", "1"), ("if-none-match", "\"ours\""), ("if-modified-since", LM)]));
    }
}
