//! `Cache-Control` (RFC 9111 § 5.2) of both sides, read from its lines without copying.
//!
//! What cannot be read is read as the stricter thing: a lifetime that is no number is none at all, a quote that does
//! not end forbids storing.

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Lifetimes end here (RFC 9111 § 1.2.2): 68 years.
pub const LONGEST: u64 = 1 << 31;

/// A directive that may name header fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Listed {
    #[default]
    No,
    /// The whole response.
    Whole,
    /// These fields of it.
    Fields(Vec<HeaderName>),
}

/// What a response says, in seconds where it is a span.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseControl {
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
    pub no_cache: Listed,
    pub private: Listed,
    pub no_store: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub immutable: bool,
}

/// What a request says, in seconds where it is a span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestControl {
    pub max_age: Option<u64>,
    pub min_fresh: Option<u64>,
    pub max_stale: Option<u64>,
    pub stale_if_error: Option<u64>,
    pub no_cache: bool,
    pub no_store: bool,
    pub only_if_cached: bool,
}

impl ResponseControl {
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            control.read(line);
        }
        control
    }

    fn read(&mut self, line: &HeaderValue) {
        let whole = directives(line.as_bytes(), b',', |name, value| self.take(name, value));
        if !whole {
            self.no_store = true;
        }
    }

    pub(super) fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // Of two that contradict each other the first counts (RFC 9111 § 4.2.1).
        if is("max-age") {
            self.max_age.get_or_insert(span(value).unwrap_or(0));
        } else if is("s-maxage") {
            self.s_maxage.get_or_insert(span(value).unwrap_or(0));
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate.get_or_insert(span(value).unwrap_or(0));
        } else if is("stale-if-error") {
            self.stale_if_error.get_or_insert(span(value).unwrap_or(0));
        } else if is("no-cache") {
            self.no_cache.add(value);
        } else if is("private") {
            self.private.add(value);
        } else if is("no-store") {
            self.no_store = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("immutable") {
            self.immutable = true;
        }
    }

    /// Is the answer to an authorised request for everybody (RFC 9111 § 3.5)?
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.public || self.s_maxage.is_some() || self.must_revalidate
    }
}

impl RequestControl {
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        let mut lines = headers.get_all(CACHE_CONTROL).iter().peekable();
        if lines.peek().is_none() {
            // Pragma is heard from those who know no better (RFC 9111 § 5.4).
            control.no_cache =
                headers.get_all(PRAGMA).iter().any(|line| line.as_bytes().eq_ignore_ascii_case(b"no-cache"));
        }
        for line in lines {
            directives(line.as_bytes(), b',', |name, value| control.take(name, value));
        }
        control
    }

    fn take(&mut self, name: &[u8], value: Option<&[u8]>) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("max-age") {
            self.max_age.get_or_insert(span(value).unwrap_or(0));
        } else if is("min-fresh") {
            self.min_fresh = self.min_fresh.or(span(value));
        } else if is("max-stale") {
            let any = value.is_none().then_some(LONGEST);
            self.max_stale = self.max_stale.or(any).or(span(value));
        } else if is("stale-if-error") {
            self.stale_if_error = self.stale_if_error.or(span(value));
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        }
    }
}

impl Listed {
    fn add(&mut self, value: Option<&[u8]>) {
        let Some(value) = value else { return *self = Self::Whole };
        let names: Option<Vec<HeaderName>> = value
            .split(|&b| b == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        match (&mut *self, names) {
            (Self::Whole, _) => {}
            // A list that names nothing, or no field's name: the whole response, to be safe.
            (_, None) => *self = Self::Whole,
            (_, Some(names)) if names.is_empty() => *self = Self::Whole,
            (Self::Fields(known), Some(names)) => known.extend(names),
            (Self::No, Some(names)) => *self = Self::Fields(names),
        }
    }

    #[must_use]
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::No | Self::Whole => &[],
        }
    }
}

/// `None`: no number. More than fits is the longest.
pub(super) fn span(value: Option<&[u8]>) -> Option<u64> {
    let digits = value?;
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let read = digits.iter().fold(0_u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')));
    Some(read.min(LONGEST))
}

/// Each `name[=token|"quoted"]`. `false`: a quote did not end, and what follows it was not read.
pub(super) fn directives<'a>(line: &'a [u8], between: u8, mut each: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> bool {
    let mut rest = line;
    while !rest.is_empty() {
        let name_end = rest.iter().position(|&b| b == between || b == b'=').unwrap_or(rest.len());
        // No space is allowed around `=`: `max-age =1` is a directive nobody knows.
        let name = rest[..name_end].trim_ascii_start();
        if rest.get(name_end) != Some(&b'=') {
            let name = name.trim_ascii_end();
            if !name.is_empty() {
                each(name, None);
            }
            rest = rest.get(name_end + 1..).unwrap_or(&[]);
            continue;
        }
        rest = &rest[name_end + 1..];
        let value = if let Some(quoted) = rest.strip_prefix(b"\"") {
            let Some(end) = quote_end(quoted) else { return false };
            rest = &quoted[end + 1..];
            &quoted[..end]
        } else {
            let end = rest.iter().position(|&b| b == between).unwrap_or(rest.len());
            let value = rest[..end].trim_ascii_end();
            rest = &rest[end..];
            value
        };
        each(name, Some(value));
        let next = rest.iter().position(|&b| b == between).map_or(rest.len(), |at| at + 1);
        rest = &rest[next..];
    }
    true
}

fn quote_end(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|&b| {
        let ends = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[&'static str]) -> ResponseControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
        }
        ResponseControl::of(&headers)
    }

    #[test]
    fn a_lifetime_that_is_no_number_is_none() {
        for (line, max_age) in [
            ("max-age=60", Some(60)),
            ("MaX-aGe=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age=0060", Some(60)),
            ("max-age='60'", Some(0)),
            ("max-age=60.5", Some(0)),
            ("max-age=-60", Some(0)),
            ("max-age= 60", Some(0)),
            ("max-age", Some(0)),
            ("max-age=", Some(0)),
            ("max-age =60", None),
            ("max-age=99999999999999999999999", Some(LONGEST)),
            ("foo=\"max-age=60\"", None),
            ("foo=\"max-age=60, \\\" max-age=7\", max-age=1", Some(1)),
            ("max-age=1, foo=\"max-age=60\"", Some(1)),
            ("max-age=1, max-age=60", Some(1)),
            (", ,max-age=5,,", Some(5)),
        ] {
            assert_eq!(response(&[line]).max_age, max_age, "{line}");
        }
    }

    #[test]
    fn a_quote_that_does_not_end_forbids_storing() {
        assert!(response(&["max-age=60, foo=\"bar"]).no_store);
        assert!(!response(&["max-age=60, foo=\"bar\""]).no_store);
    }

    #[test]
    fn fields_are_listed_or_the_whole_response_is_meant() {
        let names = |names: &[&'static str]| Listed::Fields(names.iter().map(|n| HeaderName::from_static(n)).collect());
        assert_eq!(response(&["no-cache"]).no_cache, Listed::Whole);
        assert_eq!(response(&["no-cache=\"a, b\""]).no_cache, names(&["a", "b"]));
        assert_eq!(response(&["no-cache=a", "no-cache=\"b\""]).no_cache, names(&["a", "b"]));
        assert_eq!(response(&["no-cache=\"a\", no-cache"]).no_cache, Listed::Whole);
        assert_eq!(response(&["no-cache, no-cache=\"a\""]).no_cache, Listed::Whole);
        assert_eq!(response(&["private=\"\""]).private, Listed::Whole);
        assert_eq!(response(&["private=\"not a name\""]).private, Listed::Whole);
    }

    #[test]
    fn a_request_asks_for_what_it_can_stand() {
        let read = |name: HeaderName, line| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(line));
            RequestControl::of(&headers)
        };
        let cc = |line| read(CACHE_CONTROL, line);
        assert_eq!(cc("max-stale").max_stale, Some(LONGEST));
        assert_eq!(cc("max-stale=7").max_stale, Some(7));
        assert_eq!(cc("max-stale=x").max_stale, None);
        assert_eq!(cc("max-age=x").max_age, Some(0));
        assert_eq!(cc("min-fresh=9, only-if-cached").min_fresh, Some(9));
        assert!(cc("only-if-cached").only_if_cached && cc("no-store").no_store && cc("no-cache").no_cache);
        assert!(read(PRAGMA, "no-cache").no_cache);
        let mut both = HeaderMap::new();
        both.insert(PRAGMA, HeaderValue::from_static("no-cache"));
        both.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=5"));
        assert!(!RequestControl::of(&both).no_cache);
    }
}
