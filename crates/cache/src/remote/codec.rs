//! How a stored response is written into Redis. Whoever can write there can write anything: every length is checked,
//! a digest covers the whole, and what does not read to its last byte as our own version is a miss.
//!
//! ```text
//! "TGC" version:1 | digest:8 | flags:1 | fixed fields | tenant | url | headers | selector | tags | length:4 | body
//! ```

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::Millis;

use crate::purge::Epoch;
use crate::rules::key::{Key, KeyDigest, UrlDigest};
use crate::rules::store::Terms;
use crate::rules::vary::Selector;
use crate::stored::{Fields, Stored};

/// Part of the names of keys as well: two versions never meet.
pub(crate) const VERSION: u8 = 1;
const MAGIC: [u8; 4] = [b'T', b'G', b'C', VERSION];
const DIGEST: usize = 8;
/// Smaller bodies are not worth the time.
const COMPRESSED_FROM: usize = 1_024;
const COMPRESSED: u8 = 1;

/// What stands under a key.
#[derive(Debug)]
pub(crate) enum Value {
    Response(Box<Stored>),
    /// The response depends on these request fields and stands under another key.
    Varies(Vec<HeaderName>),
}

pub(crate) fn response(stored: &Stored) -> Vec<u8> {
    let encoded = stored.headers.contains_key(CONTENT_ENCODING);
    let compressed = (!encoded && stored.body.len() >= COMPRESSED_FROM)
        .then(|| lz4_flex::block::compress(&stored.body))
        .filter(|small| small.len() < stored.body.len() / 10 * 9);
    let mut out = Writer::new(if compressed.is_some() { COMPRESSED } else { 0 });
    out.byte(b'r');
    out.raw(&stored.key.url.0);
    out.raw(&stored.key.key.0);
    out.short(stored.status.as_u16());
    let terms = &stored.terms;
    for n in [stored.asked.0, stored.answered.0, stored.epoch.0] {
        out.long(n);
    }
    for span in [terms.born, terms.lifetime, terms.stale_while_revalidate, terms.stale_if_error, terms.keep] {
        out.long(span.0);
    }
    out.byte(u8::from(terms.may_be_stale) | u8::from(terms.validate) << 1 | u8::from(terms.for_all) << 2);
    out.block(stored.tenant.as_bytes());
    out.block(stored.url.as_bytes());
    out.count(stored.headers.len());
    for (name, value) in &stored.headers {
        out.block(name.as_str().as_bytes());
        out.block(value.as_bytes());
    }
    out.count(stored.selector.fields().len());
    for (name, value) in stored.selector.fields() {
        out.block(name.as_str().as_bytes());
        out.byte(u8::from(value.is_some()));
        out.block(value.as_deref().unwrap_or_default());
    }
    out.count(stored.tags.len());
    for tag in &stored.tags {
        out.block(tag.as_bytes());
    }
    out.count(stored.body.len());
    out.raw(compressed.as_deref().unwrap_or(&stored.body));
    out.finish()
}

pub(crate) fn varies(names: &[HeaderName]) -> Vec<u8> {
    let mut out = Writer::new(0);
    out.byte(b'v');
    out.count(names.len());
    for name in names {
        out.block(name.as_str().as_bytes());
    }
    out.finish()
}

/// `None`: not ours, not whole, or not of this key. `largest`: bytes of a body that may be unpacked.
pub(crate) fn read(bytes: &[u8], key: &Key, largest: usize) -> Option<Value> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (digest, rest) = rest.split_at_checked(DIGEST)?;
    if blake3::hash(rest).as_bytes()[..DIGEST] != *digest {
        return None;
    }
    let mut input = Reader { rest };
    let flags = input.byte()?;
    match input.byte()? {
        b'r' => read_response(&mut input, flags, key, largest).map(|stored| Value::Response(Box::new(stored))),
        b'v' => {
            let count = input.count()?;
            let mut names = Vec::new();
            for _ in 0..count {
                names.push(HeaderName::from_bytes(input.block()?).ok()?);
            }
            input.rest.is_empty().then_some(Value::Varies(names))
        }
        _ => None,
    }
}

fn read_response(input: &mut Reader<'_>, flags: u8, key: &Key, largest: usize) -> Option<Stored> {
    let url = UrlDigest(input.take(16)?.try_into().ok()?);
    let digest = KeyDigest(input.take(32)?.try_into().ok()?);
    if url != key.url || digest != key.key {
        return None;
    }
    let status = StatusCode::from_u16(input.short()?).ok()?;
    let (asked, answered, epoch) = (Millis(input.long()?), Millis(input.long()?), Epoch(input.long()?));
    let mut span = || input.long().map(Millis);
    let (born, lifetime, stale_while_revalidate, stale_if_error, keep) = (span()?, span()?, span()?, span()?, span()?);
    let bits = input.byte()?;
    let (may_be_stale, validate, for_all) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
    let terms = Terms { born, lifetime, stale_while_revalidate, stale_if_error, may_be_stale, validate, for_all, keep };
    let tenant = input.text()?;
    let text = input.text()?;
    let mut headers = HeaderMap::new();
    for _ in 0..input.count()? {
        let name = HeaderName::from_bytes(input.block()?).ok()?;
        headers.try_append(name, HeaderValue::from_bytes(input.block()?).ok()?).ok()?;
    }
    let mut fields = Vec::new();
    for _ in 0..input.count()? {
        let name = HeaderName::from_bytes(input.block()?).ok()?;
        let is_there = input.byte()? == 1;
        let value = input.block()?;
        fields.push((name, is_there.then(|| Bytes::copy_from_slice(value))));
    }
    let mut tags = Vec::new();
    for _ in 0..input.count()? {
        tags.push(input.text()?);
    }
    let length = input.count()?;
    if length > largest {
        return None;
    }
    let body = if flags & COMPRESSED == 0 {
        Bytes::copy_from_slice(input.rest)
    } else {
        Bytes::from(lz4_flex::block::decompress(input.rest, length).ok()?.into_boxed_slice())
    };
    let selector = Selector::from_fields(fields);
    let key = *key;
    let fields =
        Fields { key, tenant, url: text, status, headers, body, terms, selector, tags, epoch, asked, answered };
    (fields.body.len() == length).then(|| Stored::new(fields))
}

/// Flags, and what follows the key: as a response of this key (docs/fuzzing.md).
pub(crate) fn with_right_ends(bytes: &[u8], key: &Key) -> Vec<u8> {
    let (flags, rest) = bytes.split_first().unwrap_or((&0, &[]));
    let mut out = Writer::new(*flags);
    out.byte(b'r');
    out.raw(&key.url.0);
    out.raw(&key.key.0);
    out.raw(rest);
    out.finish()
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(flags: u8) -> Self {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[0; DIGEST]);
        out.push(flags);
        Self(out)
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn byte(&mut self, n: u8) {
        self.0.push(n);
    }

    fn short(&mut self, n: u16) {
        self.raw(&n.to_le_bytes());
    }

    fn long(&mut self, n: u64) {
        self.raw(&n.to_le_bytes());
    }

    /// Nothing that is stored is longer than 4 GiB.
    fn count(&mut self, n: usize) {
        self.raw(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
    }

    fn block(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        let at = MAGIC.len();
        let digest = blake3::hash(&self.0[at + DIGEST..]);
        self.0[at..at + DIGEST].copy_from_slice(&digest.as_bytes()[..DIGEST]);
        self.0
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn count(&mut self) -> Option<usize> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?) as usize)
    }

    fn block(&mut self) -> Option<&'a [u8]> {
        let length = self.count()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<Box<str>> {
        std::str::from_utf8(self.block()?).ok().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: Vec<u8>) -> Stored {
        let mut headers = HeaderMap::new();
        headers.append("x", HeaderValue::from_static("1"));
        headers.append("x", HeaderValue::from_bytes(b"\xfc").expect("obs-text"));
        Stored::new(Fields {
            key: Key { url: UrlDigest([1; 16]), key: KeyDigest([2; 32]) },
            tenant: "t".into(),
            url: "h/p?q".into(),
            status: StatusCode::NOT_FOUND,
            headers,
            body: body.into(),
            terms: Terms {
                born: Millis(1),
                lifetime: Millis(2),
                stale_while_revalidate: Millis(3),
                stale_if_error: Millis(4),
                may_be_stale: true,
                validate: false,
                for_all: true,
                keep: Millis(5),
            },
            selector: Selector::from_fields(vec![
                (HeaderName::from_static("a"), None),
                (HeaderName::from_static("b"), Some(Bytes::from_static(b""))),
            ]),
            tags: vec!["one".into(), "two".into()],
            epoch: Epoch(6),
            asked: Millis(7),
            answered: Millis(8),
        })
    }

    #[test]
    fn what_is_written_is_read() {
        for body in [Vec::new(), b"short".to_vec(), b"again and ".repeat(1_000)] {
            let one = stored(body);
            let bytes = response(&one);
            assert!(bytes.len() < 2_000, "{}", bytes.len());
            let Some(Value::Response(two)) = read(&bytes, &one.key, 1 << 20) else { panic!("it is ours") };
            assert_eq!(format!("{one:?}"), format!("{two:?}"));
            assert!(read(&bytes, &one.key, one.body.len().wrapping_sub(1)).is_none() || one.body.is_empty());
        }
    }

    #[test]
    fn whatever_else_stands_there_is_a_miss() {
        let one = stored(b"again and ".repeat(1_000));
        let good = response(&one);
        for cut in 0..good.len() {
            assert!(read(&good[..cut], &one.key, 1 << 20).is_none(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x41;
            assert!(read(&bad, &one.key, 1 << 20).is_none(), "changed at {at}");
        }
        let other = Key { key: KeyDigest([3; 32]), ..one.key };
        assert!(read(&good, &other, 1 << 20).is_none());
    }

    proptest::proptest! {
        /// The digest keeps accidents out; who forges it as well must not harm us either.
        #[test]
        fn forged_values_are_read_without_panic(rest: Vec<u8>, kind in 0..2_u8) {
            let mut bytes = vec![0, if kind == 0 { b'r' } else { b'v' }];
            if kind == 0 {
                bytes.extend([1; 16]);
                bytes.extend([2; 32]);
            }
            bytes.extend(rest);
            let mut whole = MAGIC.to_vec();
            whole.extend(&blake3::hash(&bytes).as_bytes()[..DIGEST]);
            whole.extend(bytes);
            let _any = read(&whole, &Key { url: UrlDigest([1; 16]), key: KeyDigest([2; 32]) }, 1 << 20);
        }
    }
}
