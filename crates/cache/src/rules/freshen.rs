//! What an answer without a body tells of a stored response: a 304 (RFC 9111 § 4.3.4), or the answer to HEAD (§ 4.3.5).

use http::header::{CONTENT_LENGTH, DATE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, StatusCode};
use tidegate_model::Millis;

use super::{conditional, date, fields};

/// Does the 304 speak of the stored response? If not, it changes nothing, and nothing may be served on its word.
#[must_use]
pub fn is_about(stored: &HeaderMap, fresh: &HeaderMap) -> bool {
    match (fresh.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => conditional::weak(old.as_bytes(), new.as_bytes()),
        (Some(_), None) => false,
        (None, _) => true,
    }
}

/// Is what HEAD tells of still what is stored?
#[must_use]
pub fn is_unchanged(stored: &HeaderMap, length: usize, status: StatusCode, head: &HeaderMap) -> bool {
    let same = |name: &HeaderName| head.get(name).is_none_or(|new| stored.get(name) == Some(new));
    let announced = head.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    status == StatusCode::OK && same(&ETAG) && same(&LAST_MODIFIED) && announced.is_none_or(|n| n == length)
}

/// The stored headers with the fresh ones in their place. One without a date was made when it came.
#[must_use]
pub fn merge(stored: &HeaderMap, fresh: &HeaderMap, answered: Millis) -> HeaderMap {
    let fresh = fields::stored(fresh, &[], false);
    let mut merged = stored.clone();
    for name in fresh.keys().filter(|name| fields::is_updated(name)) {
        merged.remove(name);
        for value in fresh.get_all(name) {
            merged.append(name, value.clone());
        }
    }
    if !fresh.contains_key(DATE) {
        merged.insert(DATE, date::format(answered.0 / 1_000));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    #[test]
    fn a_304_changes_what_is_not_of_the_body() {
        let stored = map(&[("content-encoding", "br"), ("etag", "\"a\""), ("x", "1"), ("x", "2"), ("y", "1")]);
        let fresh = map(&[
            ("content-encoding", "gzip"),
            ("etag", "\"a\""),
            ("x", "3"),
            ("age", "5"),
            ("te", "x"),
            ("date", "d"),
        ]);
        let expected = map(&[("content-encoding", "br"), ("etag", "\"a\""), ("y", "1"), ("x", "3"), ("date", "d")]);
        assert_eq!(merge(&stored, &fresh, Millis::ZERO), expected);
        assert_eq!(merge(&stored, &map(&[]), Millis(784_111_777_000))[DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
    }

    #[test]
    fn a_304_for_something_else_is_told_apart() {
        let stored = map(&[("etag", "\"a\"")]);
        assert!(is_about(&stored, &map(&[("etag", "W/\"a\"")])) && is_about(&stored, &map(&[])));
        assert!(!is_about(&stored, &map(&[("etag", "\"b\"")])) && !is_about(&map(&[]), &map(&[("etag", "\"b\"")])));
    }

    #[test]
    fn head_tells_of_a_change() {
        let stored = map(&[("etag", "\"a\"")]);
        let same = |status, lines: &[(&'static str, &'static str)]| is_unchanged(&stored, 5, status, &map(lines));
        assert!(same(StatusCode::OK, &[("content-length", "5"), ("etag", "\"a\"")]) && same(StatusCode::OK, &[]));
        assert!(!same(StatusCode::OK, &[("content-length", "6")]) && !same(StatusCode::OK, &[("etag", "\"b\"")]));
        assert!(!same(StatusCode::GONE, &[]));
    }
}
