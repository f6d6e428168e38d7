//! Where a request carries a key. The same key in two places is one key; two different ones are a refusal, because
//! whoever reads the other place (a backend, a log) would see another caller than we do.

use std::borrow::Cow;
use std::fmt;

use http::request::Parts;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;

/// Longer ones are nobody's.
pub const MAX_KEY_BYTES: usize = 512;

/// Headers whose whole value is a key.
pub(crate) static KEY_HEADERS: [(HeaderName, Place); 3] = [
    (HeaderName::from_static("x-api-key"), Place::XApiKey),
    (HeaderName::from_static("api-key"), Place::ApiKey),
    (HeaderName::from_static("x-goog-api-key"), Place::GoogApiKey),
];
/// The query parameter that carries a key.
pub(crate) const KEY_PARAMETER: &str = "key";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `Authorization: Bearer …`
    Bearer,
    XApiKey,
    ApiKey,
    GoogApiKey,
    /// `?key=…`
    Query,
}

/// A key as the client sent it; not yet known to be anybody's. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Presented<'a> {
    pub secret: Cow<'a, [u8]>,
    pub place: Place,
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("place", &self.place).finish_non_exhaustive()
    }
}

/// The request carries two different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict;

/// The key of a request, if it carries one.
///
/// # Errors
/// [`Conflict`]: it carries two different ones.
pub fn presented(request: &Parts) -> Result<Option<Presented<'_>>, Conflict> {
    let mut found: Option<Presented<'_>> = None;
    for value in request.headers.get_all(http::header::AUTHORIZATION) {
        if let Some(token) = bearer(value.as_bytes()) {
            merge(&mut found, Cow::Borrowed(token), Place::Bearer)?;
        }
    }
    if has_key_header(&request.headers) {
        for (name, place) in &KEY_HEADERS {
            for value in values(&request.headers, name) {
                merge(&mut found, Cow::Borrowed(value), *place)?;
            }
        }
    }
    for value in request.uri.query().into_iter().flat_map(key_parameters) {
        merge(&mut found, value, Place::Query)?;
    }
    Ok(found)
}

/// Is any of them there? A look at all names costs less than a search for each that is not.
pub(crate) fn has_key_header(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name.ends_with("api-key") && KEY_HEADERS.iter().any(|(known, _)| known == name)
    })
}

fn merge<'a>(found: &mut Option<Presented<'a>>, secret: Cow<'a, [u8]>, place: Place) -> Result<(), Conflict> {
    if secret.is_empty() {
        return Ok(());
    }
    match found {
        None => *found = Some(Presented { secret, place }),
        Some(first) if first.secret == secret => {}
        Some(_) => return Err(Conflict),
    }
    Ok(())
}

fn values<'a>(headers: &'a HeaderMap, name: &'static HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().map(|value| value.as_bytes().trim_ascii())
}

/// The token of a `Bearer` credential; the scheme's case does not matter (RFC 9110 § 11.1).
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"\t"))?;
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

/// Values of the key parameter, in order. A name may be written with escapes (`k%65y`): a backend would read it so.
fn key_parameters(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    query.split('&').filter(|pair| is_key_parameter(pair)).map(|pair| {
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        if value.contains('%') {
            Cow::Owned(percent_decode_str(value).collect())
        } else {
            Cow::Borrowed(value.as_bytes())
        }
    })
}

pub(crate) fn is_key_parameter(pair: &str) -> bool {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    if name.contains('%') { percent_decode_str(name).eq(KEY_PARAMETER.bytes()) } else { name == KEY_PARAMETER }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Expected = Result<Option<(&'static str, Place)>, Conflict>;

    fn check(uri: &str, headers: &[(&str, &str)], expected: Expected) {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let seen = presented(&parts).map(|p| p.map(|p| (String::from_utf8(p.secret.into_owned()).unwrap(), p.place)));
        let expected = expected.map(|p| p.map(|(secret, place)| (secret.to_owned(), place)));
        assert_eq!(seen, expected, "{uri} {headers:?}");
    }

    #[test]
    fn a_key_is_found_in_every_place_it_may_be() {
        check("/", &[], Ok(None));
        check("/", &[("authorization", "Bearer tg_a")], Ok(Some(("tg_a", Place::Bearer))));
        check("/", &[("authorization", "bEARER   tg_a ")], Ok(Some(("tg_a", Place::Bearer))));
        check("/", &[("authorization", "Bearer")], Ok(None));
        check("/", &[("authorization", "Bearer ")], Ok(None));
        check("/", &[("authorization", "Bearertg_a")], Ok(None));
        check("/", &[("authorization", "Basic dXNlcjpwYXNz")], Ok(None));
        check("/", &[("x-api-key", "tg_a")], Ok(Some(("tg_a", Place::XApiKey))));
        check("/", &[("api-key", "tg_a")], Ok(Some(("tg_a", Place::ApiKey))));
        check("/", &[("x-goog-api-key", "tg_a")], Ok(Some(("tg_a", Place::GoogApiKey))));
        check("/?key=tg_a", &[], Ok(Some(("tg_a", Place::Query))));
        check("/?a=b&key=tg_a&c", &[], Ok(Some(("tg_a", Place::Query))));
        check("/?k%65y=tg%5Fa", &[], Ok(Some(("tg_a", Place::Query))));
        check("/?monkey=tg_a&keys=b&key", &[], Ok(None));
    }

    #[test]
    fn one_key_in_two_places_is_one_key_and_two_keys_are_a_conflict() {
        check("/?key=tg_a", &[("x-api-key", "tg_a")], Ok(Some(("tg_a", Place::XApiKey))));
        check("/?key=tg_b", &[("x-api-key", "tg_a")], Err(Conflict));
        check("/?key=tg_a&key=tg_b", &[], Err(Conflict));
        check("/", &[("x-api-key", "tg_a"), ("x-api-key", "tg_b")], Err(Conflict));
        check("/", &[("authorization", "Bearer tg_a"), ("authorization", "Bearer tg_b")], Err(Conflict));
        check("/", &[("authorization", "Basic eA=="), ("api-key", "tg_a")], Ok(Some(("tg_a", Place::ApiKey))));
        check("/", &[("x-api-key", ""), ("api-key", "tg_a")], Ok(Some(("tg_a", Place::ApiKey))));
    }

    #[test]
    fn a_presented_key_is_not_printed() {
        let (parts, ()) = http::Request::builder().header("x-api-key", "tg_secret").body(()).unwrap().into_parts();
        assert!(!format!("{:?}", presented(&parts)).contains("secret"));
    }
}
