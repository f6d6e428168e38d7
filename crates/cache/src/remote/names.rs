//! Names of keys in Redis. All of one URL share a hash tag: one command reads them, in a Cluster too.
//!
//! ```text
//! tidegate:<cluster>:<version>:{<url>}:<key>[:<variant>]     a response, or by what it varies
//! tidegate:<cluster>:<version>:{<url>}:void                  fetched before this wall-clock millisecond is void
//! tidegate:<cluster>:<version>-lock:{<url>}:<key>            who fetches it
//! ```

use crate::remote::codec::VERSION;
use crate::rules::key::{Key, KeyDigest, UrlDigest};
use crate::rules::vary::Selector;

/// In place of a lock's token: what was fetched is for nobody else.
pub(super) const NOT_SHARED: &[u8] = b"-";

#[derive(Debug)]
pub(super) struct Names {
    /// Also what is told of others' changes. Locks are not below it.
    prefix: String,
    locks: String,
}

/// What another node changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Changed {
    Key(Key),
    Url(UrlDigest),
}

impl Names {
    pub(super) fn new(cluster: &str) -> Self {
        Self { prefix: format!("tidegate:{cluster}:{VERSION}:"), locks: format!("tidegate:{cluster}:{VERSION}-lock:") }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn response(&self, key: &Key, variant: Option<usize>) -> String {
        let name = format!("{}{{{}}}:{}", self.prefix, key.url, key.key);
        match variant {
            Some(n) => format!("{name}:{n}"),
            None => name,
        }
    }

    pub(super) fn void(&self, url: UrlDigest) -> String {
        format!("{}{{{url}}}:void", self.prefix)
    }

    pub(super) fn lock(&self, key: &Key) -> String {
        format!("{}{{{}}}:{}", self.locks, key.url, key.key)
    }

    pub(super) fn changed(&self, name: &[u8]) -> Option<Changed> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(&self.prefix)?.strip_prefix('{')?;
        let (url, rest) = rest.split_once("}:")?;
        let url = UrlDigest(unhex(url)?);
        if rest == "void" {
            return Some(Changed::Url(url));
        }
        let key = KeyDigest(unhex(rest.split(':').next()?)?);
        Some(Changed::Key(Key { url, key }))
    }
}

/// Which of the places for variants: there are only so many, whatever clients send.
pub(super) fn variant(selector: &Selector, places: usize) -> usize {
    let mut hash = blake3::Hasher::new();
    for (name, value) in selector.fields() {
        hash.update(name.as_str().as_bytes()).update(&[0, u8::from(value.is_some())]);
        let value = value.as_deref().unwrap_or_default();
        hash.update(&(value.len() as u64).to_le_bytes()).update(value);
    }
    let mut four = [0; 4];
    four.copy_from_slice(&hash.finalize().as_bytes()[..4]);
    u32::from_le_bytes(four) as usize % places.max(1)
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_recognised_by_its_name() {
        let names = Names::new("c1");
        let key = Key { url: UrlDigest([0xab; 16]), key: KeyDigest([0xcd; 32]) };
        let changed = |name: String| names.changed(name.as_bytes());
        assert_eq!(changed(names.response(&key, None)), Some(Changed::Key(key)));
        assert_eq!(changed(names.response(&key, Some(3))), Some(Changed::Key(key)));
        assert_eq!(changed(names.void(key.url)), Some(Changed::Url(key.url)));
        assert_eq!(changed(names.lock(&key)), None);
        assert_eq!(changed(Names::new("c2").void(key.url)), None);
        assert_eq!(changed(format!("{}{{zz}}:void", names.prefix())), None);
    }
}
