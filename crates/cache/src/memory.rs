//! The memory tier: responses of this node within a bound of bytes that is never exceeded.
//!
//! Who stays is decided by S3-FIFO (Yang et al., SOSP 2023): newcomers wait in a small queue, what is asked for again
//! moves to the main one, what comes back after it was thrown out goes there at once. A hit writes one byte, so that
//! readers share a lock. Room is taken before anything is put in: at no moment does the sum exceed the bound.

mod shard;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use http::{HeaderMap, HeaderName};
use tidegate_model::Millis;

use crate::rules::key::{Key, KeyDigest, UrlDigest};
use crate::stored::Stored;
use shard::Shard;

const SHARDS: usize = 64;
/// No response takes more than this part of the tier.
const LARGEST_PART: usize = 4;

#[derive(Debug)]
pub struct Memory {
    shards: Box<[RwLock<Shard>]>,
    bound: usize,
    used: AtomicUsize,
    /// Which shard gives next.
    victim: AtomicUsize,
    evicted: AtomicU64,
}

/// What is there for a request.
#[derive(Debug, Clone)]
pub enum Found {
    This(Arc<Stored>),
    /// There are responses, but for other requests.
    Others,
    Nothing,
}

/// What the tier holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub bytes: usize,
    pub bound: usize,
    pub responses: usize,
    pub evicted: u64,
}

impl Memory {
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            bound,
            used: AtomicUsize::new(0),
            victim: AtomicUsize::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// The newest that answers this request, fresh or not.
    #[must_use]
    pub fn find(&self, key: &Key, request: &HeaderMap, now: Millis) -> Found {
        let shard = self.shard(key.url).read().unwrap_or_else(PoisonError::into_inner);
        shard.find(&key.key, request, now)
    }

    /// By what fields responses under this key are known to vary.
    #[must_use]
    pub fn varies_by(&self, key: &Key) -> Option<Vec<HeaderName>> {
        let shard = self.shard(key.url).read().unwrap_or_else(PoisonError::into_inner);
        shard.varies_by(&key.key)
    }

    #[must_use]
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Can a response of this size be held at all?
    #[must_use]
    pub fn admits(&self, bytes: usize) -> bool {
        bytes <= self.bound / LARGEST_PART
    }

    /// Replaces what answers the same requests. `false`: it is too large, or something fetched later is there already.
    pub fn insert(&self, stored: Arc<Stored>, variants: usize) -> bool {
        let weight = stored.weight() + shard::SLOT;
        if !self.admits(weight) || !self.make_room(weight, place(stored.key.url)) {
            return false;
        }
        let url = stored.key.url;
        let (taken, gone) = {
            let mut shard = self.shard(url).write().unwrap_or_else(PoisonError::into_inner);
            shard.insert(stored, variants.max(1))
        };
        let freed: usize = gone.weight + if taken { 0 } else { weight };
        self.used.fetch_sub(freed, Ordering::AcqRel);
        taken
    }

    /// Everything of a URL goes. Returns the keys it had.
    pub fn remove_url(&self, url: UrlDigest) -> Vec<KeyDigest> {
        let (keys, gone) = self.shard(url).write().unwrap_or_else(PoisonError::into_inner).remove_url(url);
        self.used.fetch_sub(gone.weight, Ordering::AcqRel);
        keys
    }

    pub fn remove(&self, key: &Key) {
        let gone = self.shard(key.url).write().unwrap_or_else(PoisonError::into_inner).remove(&key.key);
        self.used.fetch_sub(gone.weight, Ordering::AcqRel);
    }

    /// This very response goes, if it is still there.
    pub fn remove_stored(&self, stored: &Arc<Stored>) {
        let gone = self.shard(stored.key.url).write().unwrap_or_else(PoisonError::into_inner).remove_stored(stored);
        self.used.fetch_sub(gone.weight, Ordering::AcqRel);
    }

    pub fn clear(&self) {
        for shard in &self.shards {
            let gone = shard.write().unwrap_or_else(PoisonError::into_inner).clear();
            self.used.fetch_sub(gone.weight, Ordering::AcqRel);
        }
    }

    /// Those stored under a key, oldest first.
    #[must_use]
    pub fn of_key(&self, key: &Key) -> Vec<Arc<Stored>> {
        self.shard(key.url).read().unwrap_or_else(PoisonError::into_inner).of_key(&key.key)
    }

    /// Those stored under a URL, for people who ask.
    #[must_use]
    pub fn of_url(&self, url: UrlDigest) -> Vec<Arc<Stored>> {
        self.shard(url).read().unwrap_or_else(PoisonError::into_inner).of_url(url)
    }

    #[must_use]
    pub fn facts(&self) -> Facts {
        let responses = self.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner).len()).sum();
        Facts {
            bytes: self.used.load(Ordering::Acquire),
            bound: self.bound,
            responses,
            evicted: self.evicted.load(Ordering::Relaxed),
        }
    }

    fn shard(&self, url: UrlDigest) -> &RwLock<Shard> {
        &self.shards[place(url)]
    }

    /// Takes the bytes, throwing out what must go: from the shard that grows if it has its share, else from others in
    /// turn that have theirs, so that none is emptied while another holds old things.
    fn make_room(&self, weight: usize, own: usize) -> bool {
        let mut fruitless = 0;
        while !self.reserve(weight) {
            let at = if fruitless == 0 { own } else { self.victim.fetch_add(1, Ordering::Relaxed) % SHARDS };
            let gone = {
                let mut shard = self.shards[at].write().unwrap_or_else(PoisonError::into_inner);
                let has_its_share = shard.bytes() * SHARDS >= self.used.load(Ordering::Relaxed);
                if has_its_share || fruitless > SHARDS { shard.evict() } else { shard::Gone::default() }
            };
            if gone.weight == 0 {
                fruitless += 1;
                if fruitless > 3 * SHARDS {
                    return false; // Others took the room that we made, or it is reserved by them.
                }
                continue;
            }
            fruitless = 0;
            self.evicted.fetch_add(gone.stored.len() as u64, Ordering::Relaxed);
            self.used.fetch_sub(gone.weight, Ordering::AcqRel);
        }
        true
    }

    fn reserve(&self, weight: usize) -> bool {
        let fits = |used: usize| used.checked_add(weight).filter(|&sum| sum <= self.bound);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok()
    }
}

/// Digests are uniform: a byte of one is as good as a hash.
fn place(url: UrlDigest) -> usize {
    usize::from(url.0[0]) % SHARDS
}
