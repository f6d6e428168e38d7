//! Responses to store, made from numbers.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_cache::purge::Epoch;
use tidegate_cache::rules::key::{Key, KeyDigest, UrlDigest};
use tidegate_cache::rules::store::Terms;
use tidegate_cache::rules::vary::Selector;
use tidegate_cache::stored::{Fields, Stored};
use tidegate_model::Millis;

pub(crate) const TERMS: Terms = Terms {
    born: Millis(0),
    lifetime: Millis(1_000),
    stale_while_revalidate: Millis(0),
    stale_if_error: Millis(0),
    may_be_stale: true,
    validate: false,
    for_all: true,
    keep: Millis(1_000),
};

pub(crate) fn key(n: u64) -> Key {
    let digest = |salt: u64| {
        let mut state = (n + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^ (state >> 32)
    };
    let mut url = [0; 16];
    url[..8].copy_from_slice(&digest(1).to_le_bytes());
    url[8..].copy_from_slice(&n.to_le_bytes());
    let mut key = [0; 32];
    key[..8].copy_from_slice(&digest(2).to_le_bytes());
    key[8..16].copy_from_slice(&n.to_le_bytes());
    Key { url: UrlDigest(url), key: KeyDigest(key) }
}

pub(crate) fn response(n: u64, body: usize, variant: Option<u8>) -> Arc<Stored> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    headers.insert("etag", HeaderValue::try_from(format!("\"{n:x}\"")).expect("a value"));
    headers.insert("x-custom", HeaderValue::try_from(n.to_string().repeat(9)).expect("a value"));
    let field = |v: u8| (HeaderName::from_static("x-v"), Some(Bytes::from(vec![b'a' + v])));
    Arc::new(Stored::new(Fields {
        key: key(n),
        tenant: "default".into(),
        url: format!("example.com/some/path/{n}").into(),
        status: StatusCode::OK,
        headers,
        body: Bytes::from(vec![7; body]),
        terms: TERMS,
        selector: Selector::from_fields(variant.map(field).into_iter().collect()),
        tags: vec!["tag".into()],
        epoch: Epoch::default(),
        asked: Millis(n),
        answered: Millis(n),
    }))
}

pub(crate) fn asks(variant: Option<u8>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(v) = variant {
        headers.insert("x-v", HeaderValue::from_bytes(&[b'a' + v]).expect("a letter"));
    }
    headers
}
