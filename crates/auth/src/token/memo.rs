//! Good tokens seen lately, by their hash: a token that comes again costs no signature check.
//!
//! Bounded in bytes: two generations in each of a few shards; the older goes when the younger is full. What is remembered holds
//! for one issuer of one document and one set of its keys, until it ends; nothing that was refused is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_policy::Issuer;

use super::Token;

const SHARDS: usize = 16;
/// Of one generation of one shard; 32 MiB in all.
const MOST_BYTES: usize = 1 << 20;
/// What a claim costs beside its text, about.
const BESIDE: usize = 1024;

#[derive(Default)]
pub struct Memo([Mutex<Shard>; SHARDS]);

#[derive(Default)]
struct Shard {
    young: HashMap<[u8; 32], Known>,
    old: HashMap<[u8; 32], Known>,
    /// Of the young.
    bytes: usize,
}

#[derive(Clone)]
struct Known {
    token: Arc<Token>,
    /// Of the keys that proved it.
    epoch: u64,
    bytes: usize,
}

impl Memo {
    /// `now`: seconds since 1970. `epoch`: of the issuer's keys as they are now.
    pub fn find(&self, text: &str, issuer: &Arc<Issuer>, epoch: u64, now: u64) -> Option<Arc<Token>> {
        let hash = hash(text, issuer);
        let mut shard = self.shard(&hash);
        let good =
            |known: &Known| known.epoch == epoch && Arc::ptr_eq(&known.token.issuer, issuer) && now < known.token.until;
        if let Some(known) = shard.young.get(&hash) {
            return good(known).then(|| Arc::clone(&known.token));
        }
        let known = shard.old.remove(&hash).filter(good)?;
        let token = Arc::clone(&known.token);
        shard.put(hash, known);
        Some(token)
    }

    pub fn keep(&self, text: &str, token: &Arc<Token>, epoch: u64) {
        let hash = hash(text, &token.issuer);
        // JSON as claims takes some times its length.
        let bytes = text.len() * 4 + BESIDE;
        self.shard(&hash).put(hash, Known { token: Arc::clone(token), epoch, bytes });
    }

    /// Those remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard)).map(|shard| shard.young.len() + shard.old.len()).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// On a new document.
    pub fn clear(&self) {
        self.0.iter().for_each(|shard| *lock(shard) = Shard::default());
    }

    fn shard(&self, hash: &[u8; 32]) -> std::sync::MutexGuard<'_, Shard> {
        lock(&self.0[usize::from(hash[31]) % SHARDS])
    }
}

impl Shard {
    fn put(&mut self, hash: [u8; 32], known: Known) {
        if self.bytes + known.bytes > MOST_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += known.bytes;
        if let Some(before) = self.young.insert(hash, known) {
            self.bytes -= before.bytes;
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By issuer too: one token may be good for two of them, by different rules.
fn hash(text: &str, issuer: &Issuer) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(text.as_bytes());
    hasher.update(&[0]);
    hasher.update(issuer.name.as_bytes());
    *hasher.finalize().as_bytes()
}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}
