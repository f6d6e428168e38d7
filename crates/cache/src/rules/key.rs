//! Under which name a response is stored. Two digests: of the URL, by which it is purged and made void, and of the
//! key, by which it is found. Every part is written with its length, so that no two requests read alike.

use std::fmt;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use tidegate_policy::QueryKey;

/// Bytes: what is hashed at once is hashed faster than piece by piece.
const USUAL: usize = 256;

/// A URL of one tenant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UrlDigest(pub [u8; 16]);

/// What a lookup asks for, `Vary` aside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyDigest(pub [u8; 32]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub url: UrlDigest,
    pub key: KeyDigest,
}

/// Which methods share a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class<'a> {
    /// GET and HEAD.
    Read,
    /// POST with this body.
    Post { body: &'a [u8] },
}

/// For whom it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home<'a> {
    /// The whole tenant.
    All,
    /// One consumer, by name.
    Consumer(&'a str),
    /// Whoever sends these credentials.
    Credentials(&'a [u8]),
}

/// A URL as one tenant sees it: what purge and invalidation name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    pub tenant: &'a str,
    /// As the client sent it; case does not matter.
    pub host: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
}

impl Url<'_> {
    /// `host/path?query`, what prefixes of purges are compared with.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(self.host.len() + self.path.len() + 1 + self.query.map_or(0, str::len));
        text.push_str(self.host);
        text.make_ascii_lowercase();
        text.push_str(self.path);
        if let Some(query) = self.query {
            text.push('?');
            text.push_str(query);
        }
        text
    }

    #[must_use]
    pub fn digest(&self) -> UrlDigest {
        let mut text = Vec::with_capacity(USUAL);
        part(&mut text, self.tenant.as_bytes());
        lower(&mut text, self.host, "");
        part(&mut text, self.path.as_bytes());
        option(&mut text, self.query.map(str::as_bytes));
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(&text).as_bytes()[..16]);
        UrlDigest(digest)
    }
}

/// What makes the key beside the URL.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Another route may answer the same URL otherwise.
    pub route: &'a str,
    /// The host as the client sent it, port included: origins build links from it. Case does not matter.
    pub authority: &'a str,
    /// Whatever port the client came in by: `authority` is without it. Nodes that listen on several ports share.
    pub own_port: bool,
    /// Did the client speak TLS? Origins answer `X-Forwarded-Proto: http` otherwise, with redirects for instance.
    pub secure: bool,
    pub class: Class<'a>,
    pub home: Home<'a>,
    /// Names that the route adds to its keys, with the request they are read from.
    pub names: &'a [HeaderName],
    pub headers: &'a HeaderMap,
}

impl Key {
    #[must_use]
    pub fn of(url: UrlDigest, parts: &Parts<'_>) -> Self {
        let mut text = Vec::with_capacity(USUAL);
        text.extend_from_slice(&url.0);
        part(&mut text, parts.route.as_bytes());
        // No port reads like this, so it is no other authority.
        lower(&mut text, parts.authority, if parts.own_port { ":*" } else { "" });
        text.push(u8::from(parts.secure));
        match parts.class {
            Class::Read => text.push(b'r'),
            Class::Post { body } => {
                text.push(b'p');
                text.extend_from_slice(blake3::hash(body).as_bytes());
                // The same bytes mean something else as another type.
                for name in [CONTENT_TYPE, CONTENT_ENCODING] {
                    for line in parts.headers.get_all(name) {
                        option(&mut text, Some(line.as_bytes()));
                    }
                    option(&mut text, None);
                }
            }
        }
        match parts.home {
            Home::All => text.push(b'a'),
            Home::Consumer(name) => {
                text.push(b'c');
                part(&mut text, name.as_bytes());
            }
            Home::Credentials(secret) => {
                text.push(b's');
                text.extend_from_slice(blake3::hash(secret).as_bytes());
            }
        }
        for name in parts.names {
            for line in parts.headers.get_all(name) {
                option(&mut text, Some(line.as_bytes()));
            }
            option(&mut text, None);
        }
        Self { url, key: KeyDigest(*blake3::hash(&text).as_bytes()) }
    }
}

fn part(text: &mut Vec<u8>, bytes: &[u8]) {
    text.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    text.extend_from_slice(bytes);
}

/// One part of two pieces.
fn lower(text: &mut Vec<u8>, of: &str, then: &str) {
    text.extend_from_slice(&((of.len() + then.len()) as u64).to_le_bytes());
    let begin = text.len();
    text.extend_from_slice(of.as_bytes());
    text[begin..].make_ascii_lowercase();
    text.extend_from_slice(then.as_bytes());
}

fn option(text: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            text.push(1);
            part(text, bytes);
        }
        None => text.push(0),
    }
}

/// The query as the key sees it. `None`: as sent.
#[must_use]
pub fn query(rule: &QueryKey, sent: Option<&str>) -> Option<String> {
    let keep: &dyn Fn(&str) -> bool = match rule {
        QueryKey::Exact => return None,
        QueryKey::Sorted { ignore } => &|name| !ignore.iter().any(|ignored| **ignored == *name),
        QueryKey::Only(names) => &|name| names.iter().any(|wanted| **wanted == *name),
    };
    let name = |parameter: &'_ str| parameter.split('=').next().unwrap_or_default().to_owned();
    let parameters = sent.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty());
    let mut kept: Vec<(String, &str)> = parameters.map(|p| (name(p), p)).filter(|(name, _)| keep(name)).collect();
    // Stable: what one name is given twice keeps its order, which may mean something.
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    Some(kept.into_iter().map(|(_, parameter)| parameter).collect::<Vec<_>>().join("&"))
}

/// In one piece: names of keys in Redis are made of it for each lookup.
fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (byte, into) in bytes.iter().zip(text.as_chunks_mut::<2>().0) {
        *into = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    let length = 2 * bytes.len().min(text.len() / 2);
    f.write_str(std::str::from_utf8(&text[..length]).expect("digits are ASCII"))
}

impl fmt::Display for UrlDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for UrlDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn queries_are_normalised_as_the_route_says() {
        let sorted = QueryKey::Sorted { ignore: vec!["utm".into()] };
        let only = QueryKey::Only(vec!["id".into()]);
        assert_eq!(query(&QueryKey::Exact, Some("b&a")), None);
        assert_eq!(query(&sorted, Some("b=2&utm=x&a=1&b=1&&c")).as_deref(), Some("a=1&b=2&b=1&c"));
        assert_eq!(query(&sorted, None).as_deref(), Some(""));
        assert_eq!(query(&only, Some("x=1&id=7&idx=3")).as_deref(), Some("id=7"));
    }

    #[test]
    fn whatever_differs_makes_another_key() {
        let mut one = HeaderMap::new();
        one.append("x", HeaderValue::from_static("1"));
        let mut two = one.clone();
        two.append("x", HeaderValue::from_static("2"));
        let names = [HeaderName::from_static("x")];
        let base = Url { tenant: "t", host: "h", path: "/p", query: Some("q") };
        let urls = [
            base,
            Url { tenant: "th", host: "", ..base },
            Url { host: "h2", ..base },
            Url { path: "/p?q", query: None, ..base },
            Url { query: None, ..base },
            Url { query: Some(""), ..base },
        ];
        let parts = Parts {
            route: "r",
            authority: "h",
            own_port: false,
            secure: false,
            class: Class::Read,
            home: Home::All,
            names: &names,
            headers: &one,
        };
        let mut seen = std::collections::HashSet::new();
        for url in urls {
            assert!(seen.insert(Key::of(url.digest(), &parts)), "{url:?}");
        }
        for parts in [
            Parts { route: "s", ..parts },
            Parts { secure: true, ..parts },
            Parts { authority: "h:8", ..parts },
            Parts { own_port: true, ..parts },
            Parts { class: Class::Post { body: b"" }, ..parts },
            Parts { class: Class::Post { body: b"x" }, ..parts },
            Parts { home: Home::Consumer("a"), ..parts },
            Parts { home: Home::Credentials(b"a"), ..parts },
            Parts { headers: &two, ..parts },
            Parts { names: &[], ..parts },
        ] {
            assert!(seen.insert(Key::of(base.digest(), &parts)), "{parts:?}");
        }
        assert_eq!(Url { host: "H", ..base }.digest(), base.digest());
    }
}
