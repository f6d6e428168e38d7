//! Which requests a stored response answers, beside its key (RFC 9111 § 4.1).

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};

/// Fields a response may vary by; one that names more is not stored.
const NAMES: usize = 16;

/// What a response varies by, with the values of the request it answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Sorted by name. `None`: the request had no such field.
    fields: Vec<(HeaderName, Option<Bytes>)>,
}

/// The response varies by more than can be known of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknowable;

impl Selector {
    /// # Errors
    /// `Vary: *`, something that is no name, or too many names.
    pub fn of(response: &HeaderMap, request: &HeaderMap) -> Result<Self, Unknowable> {
        Ok(Self::for_names(&names(response)?, request))
    }

    #[must_use]
    pub fn for_names(names: &[HeaderName], request: &HeaderMap) -> Self {
        Self { fields: names.iter().map(|name| (name.clone(), normal(name, request))).collect() }
    }

    /// As it was stored.
    #[must_use]
    pub fn from_fields(fields: Vec<(HeaderName, Option<Bytes>)>) -> Self {
        Self { fields }
    }

    #[must_use]
    pub fn fields(&self) -> &[(HeaderName, Option<Bytes>)] {
        &self.fields
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    #[must_use]
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.fields.iter().all(|(name, value)| normal(name, request) == *value)
    }
}

/// # Errors
/// As [`Selector::of`].
pub fn names(response: &HeaderMap) -> Result<Vec<HeaderName>, Unknowable> {
    let mut names = Vec::new();
    for line in response.get_all(VARY) {
        for member in line.as_bytes().split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if member == b"*" {
                return Err(Unknowable);
            }
            if !member.is_empty() {
                names.push(HeaderName::from_bytes(member).map_err(|_| Unknowable)?);
            }
        }
    }
    names.sort_unstable_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    if names.len() > NAMES { Err(Unknowable) } else { Ok(names) }
}

/// Lines are one list; the order, case and spaces of preferences mean nothing.
fn normal(name: &HeaderName, request: &HeaderMap) -> Option<Bytes> {
    let mut lines = request.get_all(name).iter();
    let first = lines.next()?;
    if [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name) {
        let mut members: Vec<Vec<u8>> = std::iter::once(first)
            .chain(lines)
            .flat_map(|line| line.as_bytes().split(|&b| b == b','))
            .map(|member| member.iter().filter(|b| !b.is_ascii_whitespace()).map(u8::to_ascii_lowercase).collect())
            .filter(|member: &Vec<u8>| !member.is_empty())
            .collect();
        members.sort_unstable();
        members.dedup();
        return Some(members.join(&b","[..]).into());
    }
    let mut whole = first.as_bytes().trim_ascii().to_vec();
    for line in lines {
        whole.extend_from_slice(b", ");
        whole.extend_from_slice(line.as_bytes().trim_ascii());
    }
    Some(whole.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::map;

    #[test]
    fn a_selector_matches_what_means_the_same() {
        let check = |vary, stored: &[(&'static str, &'static str)], asked: &[(&'static str, &'static str)]| {
            Selector::of(&map(&[("vary", vary)]), &map(stored)).expect("can be known").matches(&map(asked))
        };
        assert!(check("Foo", &[("foo", "1")], &[("foo", "1"), ("other", "3")]));
        assert!(!check("Foo", &[("foo", "1")], &[("foo", "2")]));
        assert!(!check("Foo", &[("foo", "1")], &[]));
        assert!(!check("Foo", &[], &[("foo", "1")]));
        assert!(!check("Foo", &[], &[("foo", "")]));
        assert!(check("foo, Bar", &[], &[]));
        assert!(check("Foo", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")]));
        assert!(check("Accept-Language", &[("accept-language", "en, de")], &[("accept-language", " De,eN")]));
        assert!(!check("Accept-Language", &[("accept-language", "en, de")], &[("accept-language", "en")]));
        assert!(check("", &[("foo", "1")], &[]));
    }

    #[test]
    fn what_varies_by_anything_is_not_stored() {
        for vary in ["*", "*, *", ", *", "foo, *", "*, foo", "not a name"] {
            assert_eq!(Selector::of(&map(&[("vary", vary)]), &HeaderMap::new()), Err(Unknowable), "{vary}");
        }
        assert_eq!(Selector::of(&map(&[("vary", ""), ("vary", "*")]), &HeaderMap::new()), Err(Unknowable));
    }
}
