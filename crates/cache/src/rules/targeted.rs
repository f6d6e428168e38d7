//! Targeted cache control: `CDN-Cache-Control` (RFC 9213, a structured field) and, for origins of the older school,
//! `Surrogate-Control`. The first valid one that is not empty replaces `Cache-Control` and `Expires`.

use http::{HeaderMap, HeaderName};

use super::control::{LONGEST, ResponseControl, directives};

pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
pub const SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Tells origins that `Surrogate-Control` is understood here.
pub const SURROGATE_CAPABILITY: HeaderName = HeaderName::from_static("surrogate-capability");

/// Directives aimed at a `Surrogate-Control` device of this name are ours.
const DEVICE: &[u8] = b"tidegate";

/// What the response says to a cache like us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub control: ResponseControl,
    /// By a targeted field: `Expires` and `Cache-Control` are not for us.
    pub targeted: bool,
}

#[must_use]
pub fn said(headers: &HeaderMap) -> Said {
    let targeted = cdn(headers).or_else(|| surrogate(headers));
    match targeted {
        Some(control) => Said { control, targeted: true },
        None => Said { control: ResponseControl::of(headers), targeted: false },
    }
}

fn surrogate(headers: &HeaderMap) -> Option<ResponseControl> {
    let mut control = ResponseControl::default();
    let mut any = false;
    for line in headers.get_all(SURROGATE_CONTROL) {
        let whole = directives(line.as_bytes(), b',', |name, value| {
            let mut parts = name.splitn(2, |&b| b == b';');
            let mut values = value.unwrap_or_default().splitn(2, |&b| b == b';');
            let (name, device) = (parts.next().unwrap_or_default(), parts.next());
            let (first, device) = (values.next().unwrap_or_default(), device.or(values.next()));
            if device.is_none_or(|device| device.trim_ascii().eq_ignore_ascii_case(DEVICE)) {
                any = true;
                control.take(name, value.map(|_| first.split(|&b| b == b'+').next().unwrap_or_default()));
            }
        });
        if !whole {
            return None;
        }
    }
    any.then_some(control)
}

fn cdn(headers: &HeaderMap) -> Option<ResponseControl> {
    let mut lines = headers.get_all(CDN_CACHE_CONTROL).iter();
    let first = lines.next()?;
    let mut text = first.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    let members = Dictionary { rest: text.trim_ascii() }.members()?;
    if members.is_empty() {
        return None;
    }
    let mut control = ResponseControl::default();
    for (name, item) in members {
        match item {
            Item::Integer(n) if n >= 0 => {
                control.take(&name, Some(n.unsigned_abs().min(LONGEST).to_string().as_bytes()))
            }
            Item::String(text) => control.take(&name, Some(&text)),
            Item::True => control.take(&name, None),
            Item::False => {}
            // A lifetime of another type says nothing we could trust.
            Item::Integer(_) | Item::Other => control.take(&name, Some(b"?")),
        }
    }
    Some(control)
}

enum Item {
    Integer(i64),
    String(Vec<u8>),
    True,
    False,
    Other,
}

/// RFC 9651 § 4.2.2, as far as a cache has to understand it. Anything malformed makes the whole field void.
struct Dictionary<'a> {
    rest: &'a [u8],
}

impl Dictionary<'_> {
    /// In order; of two of one name the last counts.
    fn members(mut self) -> Option<Vec<(Vec<u8>, Item)>> {
        let mut members: Vec<(Vec<u8>, Item)> = Vec::new();
        while !self.rest.is_empty() {
            let name = self.key()?;
            let item = if self.eat(b'=') { self.item_or_list()? } else { Item::True };
            self.parameters()?;
            members.retain(|(known, _)| *known != name);
            members.push((name, item));
            self.space();
            if self.rest.is_empty() {
                break;
            }
            if !self.eat(b',') {
                return None;
            }
            self.space();
            if self.rest.is_empty() {
                return None; // A comma at the end.
            }
        }
        Some(members)
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.rest.first() == Some(&byte);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn space(&mut self) {
        while matches!(self.rest.first(), Some(b' ' | b'\t')) {
            self.rest = &self.rest[1..];
        }
    }

    fn take(&mut self, is: impl Fn(u8) -> bool) -> Vec<u8> {
        let end = self.rest.iter().position(|&b| !is(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_vec()
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        if !matches!(self.rest.first(), Some(b'a'..=b'z' | b'*')) {
            return None;
        }
        Some(self.take(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*')))
    }

    fn parameters(&mut self) -> Option<()> {
        while self.eat(b';') {
            self.space();
            self.key()?;
            if self.eat(b'=') {
                self.item()?;
            }
        }
        Some(())
    }

    fn item_or_list(&mut self) -> Option<Item> {
        if !self.eat(b'(') {
            return self.item();
        }
        loop {
            self.space();
            if self.eat(b')') {
                return Some(Item::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.rest.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn item(&mut self) -> Option<Item> {
        match self.rest.first()? {
            b'"' => self.string(),
            b'?' => {
                self.rest = &self.rest[1..];
                match (self.eat(b'1'), self.eat(b'0')) {
                    (true, _) => Some(Item::True),
                    (_, true) => Some(Item::False),
                    _ => None,
                }
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'@' => {
                self.rest = &self.rest[1..];
                self.number().map(|_| Item::Other)
            }
            b':' => {
                self.rest = &self.rest[1..];
                self.take(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
                self.eat(b':').then_some(Item::Other)
            }
            b'*' | b'a'..=b'z' | b'A'..=b'Z' => {
                self.take(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b));
                Some(Item::Other)
            }
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Item> {
        let negative = self.eat(b'-');
        let digits = self.take(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.len() > 15 {
            return None;
        }
        if self.eat(b'.') {
            let fraction = self.take(|b| b.is_ascii_digit());
            return (1..=3).contains(&fraction.len()).then_some(Item::Other);
        }
        let n = digits.iter().fold(0_i64, |n, d| n * 10 + i64::from(d - b'0'));
        Some(Item::Integer(if negative { -n } else { n }))
    }

    fn string(&mut self) -> Option<Item> {
        self.rest = &self.rest[1..];
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(Item::String(text)),
                b'\\' => {
                    let (&escaped @ (b'"' | b'\\'), rest) = self.rest.split_first()? else { return None };
                    self.rest = rest;
                    text.push(escaped);
                }
                0x20..=0x7e => text.push(byte),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;

    use super::*;

    fn lifetime(cdn: &'static str) -> (Option<u64>, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
        headers.insert(CDN_CACHE_CONTROL, HeaderValue::from_static(cdn));
        let said = said(&headers);
        (said.control.max_age, said.targeted)
    }

    #[test]
    fn the_targeted_field_replaces_the_general_one_when_it_is_valid() {
        for (field, expected) in [
            ("max-age=60", (Some(60), true)),
            ("max-age=60, foo;bar=1, must-revalidate", (Some(60), true)),
            ("max-age=60;ext=\"x\"", (Some(60), true)),
            ("max-age=10, max-age=60", (Some(60), true)),
            ("max-age=999999999999999", (Some(LONGEST), true)),
            ("max-age=60.5", (Some(0), true)),
            ("max-age=-1", (Some(0), true)),
            ("max-age=\"60\"", (Some(60), true)),
            ("no-store", (None, true)),
            ("no-store=?0, max-age=7", (Some(7), true)),
            ("a=(1 2 \"x\");p, max-age=7, b=:aGk=:, c=@12, d=tok/en", (Some(7), true)),
            ("", (Some(1), false)),
            ("Max-Age=60", (Some(1), false)),
            ("max-age=60,", (Some(1), false)),
            ("max-age= 60", (Some(1), false)),
            ("max-age=60 foo", (Some(1), false)),
            ("max-age=60, x=\"open", (Some(1), false)),
            ("max-age=1234567890123456", (Some(1), false)),
        ] {
            assert_eq!(lifetime(field), expected, "{field}");
        }
    }

    #[test]
    fn a_surrogate_hears_what_is_aimed_at_it() {
        let read = |line| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=1"));
            headers.insert(SURROGATE_CONTROL, HeaderValue::from_static(line));
            let said = said(&headers);
            (said.control.max_age, said.control.no_store)
        };
        assert_eq!(read("max-age=60"), (Some(60), false));
        assert_eq!(read("MaX-aGe=60+30"), (Some(60), false));
        assert_eq!(read("max-age=60;tidegate"), (Some(60), false));
        assert_eq!(read("max-age=60;another"), (Some(1), false));
        assert_eq!(read("no-store"), (None, true));
        assert_eq!(read("no-store;another"), (Some(1), false));
    }
}
