//! A stored response, shared by the memory tier and the answers that are made of it.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tidegate_model::Millis;

use crate::purge::Epoch;
use crate::rules::key::Key;
use crate::rules::store::Terms;
use crate::rules::vary::Selector;

/// Tells a stored response of this process from every other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Serial(u64);

/// Says nothing: what is stored alike reads alike.
impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Never changed once it is stored; a 304 makes another that shares the body.
#[derive(Debug)]
pub struct Stored {
    pub serial: Serial,
    fields: Fields,
    /// The last purge this was found to outlive.
    outlived: AtomicU64,
}

/// What is stored; read through [`Stored`].
#[derive(Debug, Clone)]
pub struct Fields {
    pub key: Key,
    pub tenant: Box<str>,
    /// `host/path?query`
    pub url: Box<str>,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub terms: Terms,
    pub selector: Selector,
    pub tags: Vec<Box<str>>,
    /// What its node had heard of purges when it began to fetch this.
    pub epoch: Epoch,
    /// When the fetch began and was answered, by the wall clock.
    pub asked: Millis,
    pub answered: Millis,
}

impl Deref for Stored {
    type Target = Fields;

    fn deref(&self) -> &Fields {
        &self.fields
    }
}

impl Serial {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Stored {
    #[must_use]
    pub fn new(fields: Fields) -> Self {
        let headers = compact(&fields.headers);
        let outlived = AtomicU64::new(fields.epoch.0);
        Self { serial: Serial::next(), outlived, fields: Fields { headers, ..fields } }
    }

    /// How long the fetch took.
    #[must_use]
    pub fn fetch(&self) -> Millis {
        self.answered.saturating_sub(self.asked)
    }

    pub(crate) fn outlived(&self) -> Epoch {
        Epoch(self.outlived.load(Ordering::Relaxed))
    }

    pub(crate) fn outlives(&self, epoch: Epoch) {
        self.outlived.fetch_max(epoch.0, Ordering::Relaxed);
    }

    /// Bytes it holds on to: what was allocated for it, and what the allocator adds.
    #[must_use]
    pub fn weight(&self) -> usize {
        const BLOCK: usize = 32; // Rounding and bookkeeping per allocation.
        // `HeaderMap`: a bucket and a half-full index of two words per line.
        const LINE: usize = 128;
        let text: usize = self.headers.iter().map(|(n, v)| LINE + named(n) + v.len()).sum();
        let selector: usize = self.selector.fields().iter().map(|(_, v)| 96 + v.as_ref().map_or(0, Bytes::len)).sum();
        let tags: usize = self.tags.iter().map(|tag| tag.len() + 16 + BLOCK).sum();
        let table = 64;
        std::mem::size_of::<Self>()
            + 6 * BLOCK
            + table
            + self.tenant.len()
            + self.url.len()
            + text
            + selector
            + tags
            + self.body.len()
    }
}

fn named(name: &HeaderName) -> usize {
    // Standard names are numbers; ours are shared slices of the block in `compact`, counted all the same.
    name.as_str().len() + 32
}

/// Values are slices of whatever buffer they were read into. One stored response must not keep a megabyte of
/// somebody's connection alive: all text is moved into one block of its own.
fn compact(headers: &HeaderMap) -> HeaderMap {
    let length = headers.iter().map(|(_, value)| value.len()).sum();
    let mut block = BytesMut::with_capacity(length);
    let mut kept = HeaderMap::with_capacity(headers.keys_len());
    for (_, value) in headers {
        block.extend_from_slice(value.as_bytes());
    }
    let mut block = block.freeze();
    for (name, value) in headers {
        let mut copy =
            HeaderValue::from_maybe_shared(block.split_to(value.len())).expect("a value's bytes make a value");
        copy.set_sensitive(value.is_sensitive());
        // A name that is not a standard one is a shared slice as well.
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).expect("a name's text makes a name");
        kept.append(name, copy);
    }
    kept
}

/// A body in one piece that shares memory with nothing.
#[must_use]
pub(crate) fn gathered(parts: &[Bytes], length: usize) -> Bytes {
    let mut whole = Vec::with_capacity(length);
    for part in parts {
        whole.extend_from_slice(part);
    }
    whole.into_boxed_slice().into()
}
