//! Every key this node knows, by the hash of its secret. Read on every request, written when the state changes.
//!
//! The map is fed by the agreed state, so what bounds it is what operators created; a client cannot add to it.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use subtle::ConstantTimeEq;
use tidegate_model::KeyId;

use crate::mint::{Hash, hash};
use crate::presented::MAX_KEY_BYTES;

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyEntry {
    pub id: KeyId,
    pub tenant: Arc<str>,
    pub consumer: Arc<str>,
    /// Instead of its consumer's.
    pub plan: Option<Arc<str>>,
    /// Wall clock, milliseconds since 1970; at this instant the key is no longer good.
    pub not_after: Option<u64>,
}

/// Why a presented key is not good. The client is told no more than that; the record says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    Unknown,
    Expired,
    Revoked,
}

/// Concurrent: `find` takes no lock.
#[derive(Default)]
pub struct Keys {
    by_hash: papaya::HashMap<Hash, Slot, BuildHasherDefault<Leading>>,
}

#[derive(Clone)]
enum Slot {
    Live(Arc<KeyEntry>),
    Revoked,
}

impl Keys {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry of a key as a client presented it. `now` is the wall clock in milliseconds.
    ///
    /// # Errors
    /// [`Rejected`] says why the key is not good.
    pub fn find(&self, presented: &[u8], now: u64) -> Result<Arc<KeyEntry>, Rejected> {
        self.look_up(presented, now, Arc::clone)
    }

    /// As [`Keys::find`], for a look: a reference to a popular key would be counted by all cores in one place.
    ///
    /// # Errors
    /// [`Rejected`] says why the key is not good.
    pub fn look_up<R>(
        &self,
        presented: &[u8],
        now: u64,
        look: impl FnOnce(&Arc<KeyEntry>) -> R,
    ) -> Result<R, Rejected> {
        if presented.is_empty() || presented.len() > MAX_KEY_BYTES {
            return Err(Rejected::Unknown);
        }
        let wanted = hash(presented);
        let map = self.by_hash.pin();
        let Some((found, slot)) = map.get_key_value(&wanted) else { return Err(Rejected::Unknown) };
        // The lookup compares hashes, of which an attacker learns nothing by timing; this one is for the reader.
        if !bool::from(found.ct_eq(&wanted)) {
            return Err(Rejected::Unknown);
        }
        match slot {
            Slot::Revoked => Err(Rejected::Revoked),
            Slot::Live(entry) if entry.not_after.is_some_and(|end| end <= now) => Err(Rejected::Expired),
            Slot::Live(entry) => Ok(look(entry)),
        }
    }

    pub fn insert(&self, hash: Hash, entry: Arc<KeyEntry>) {
        self.by_hash.pin().insert(hash, Slot::Live(entry));
    }

    /// Remembers the key as revoked, so that its holder is told apart from a stranger in the record.
    pub fn revoke(&self, hash: &Hash) {
        self.by_hash.pin().insert(*hash, Slot::Revoked);
    }

    /// Forgets the key.
    pub fn remove(&self, hash: &Hash) {
        self.by_hash.pin().remove(hash);
    }

    /// After a snapshot of the state: exactly these keys. A key in both the old and the new set is found throughout.
    pub fn replace_all(
        &self,
        live: impl IntoIterator<Item = (Hash, Arc<KeyEntry>)>,
        revoked: impl IntoIterator<Item = Hash>,
    ) {
        let map = self.by_hash.pin();
        let mut keep = std::collections::HashSet::new();
        for (hash, entry) in live {
            keep.insert(hash);
            map.insert(hash, Slot::Live(entry));
        }
        for hash in revoked {
            keep.insert(hash);
            map.insert(hash, Slot::Revoked);
        }
        map.retain(|hash, _| keep.contains(hash));
    }

    /// Keys that are not revoked.
    #[must_use]
    pub fn live(&self) -> usize {
        self.by_hash.pin().iter().filter(|(_, slot)| matches!(slot, Slot::Live(_))).count()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("len", &self.by_hash.len()).finish_non_exhaustive()
    }
}

/// A hash is uniform already: its first eight bytes are the map's hash. Only minted keys are ever inserted, so
/// nobody can fill one bucket without finding 64-bit prefixes of hashes *and* being issued those keys.
#[derive(Default)]
struct Leading(u64);

impl Hasher for Leading {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // `[u8; 32]` writes its length first, then its bytes in one piece.
        if let Some(head) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, not_after: Option<u64>) -> Arc<KeyEntry> {
        Arc::new(KeyEntry { id: KeyId(id), tenant: "default".into(), consumer: "acme".into(), plan: None, not_after })
    }

    #[test]
    fn a_key_is_found_by_what_the_client_sends() {
        let keys = Keys::new();
        let minted = crate::mint().unwrap();
        keys.insert(minted.hash, entry(7, None));
        assert_eq!(keys.find(minted.secret.expose().as_bytes(), 0).map(|e| e.id), Ok(KeyId(7)));
        assert_eq!(keys.find(b"tg_else", 0), Err(Rejected::Unknown));
        assert_eq!(keys.find(b"", 0), Err(Rejected::Unknown));
        assert_eq!(keys.find(&[b'a'; MAX_KEY_BYTES + 1], 0), Err(Rejected::Unknown));
    }

    #[test]
    fn a_key_ends_at_its_last_instant() {
        let keys = Keys::new();
        keys.insert(hash(b"k"), entry(1, Some(1_000)));
        assert!(keys.find(b"k", 999).is_ok());
        assert_eq!(keys.find(b"k", 1_000), Err(Rejected::Expired));
    }

    #[test]
    fn a_revoked_key_is_told_from_an_unknown_one() {
        let keys = Keys::new();
        keys.insert(hash(b"k"), entry(1, None));
        keys.revoke(&hash(b"k"));
        assert_eq!(keys.find(b"k", 0), Err(Rejected::Revoked));
        keys.remove(&hash(b"k"));
        assert_eq!(keys.find(b"k", 0), Err(Rejected::Unknown));
    }

    #[test]
    fn replacing_leaves_exactly_the_new_set() {
        let keys = Keys::new();
        keys.insert(hash(b"old"), entry(1, None));
        keys.insert(hash(b"both"), entry(2, None));
        keys.replace_all([(hash(b"both"), entry(2, None)), (hash(b"new"), entry(3, None))], [hash(b"gone")]);
        assert_eq!(keys.find(b"old", 0), Err(Rejected::Unknown));
        assert_eq!(keys.find(b"both", 0).map(|e| e.id), Ok(KeyId(2)));
        assert_eq!(keys.find(b"new", 0).map(|e| e.id), Ok(KeyId(3)));
        assert_eq!(keys.find(b"gone", 0), Err(Rejected::Revoked));
        assert_eq!(keys.live(), 2);
    }

    #[test]
    fn many_keys_do_not_collide() {
        let keys = Keys::new();
        for id in 0..2_000_u64 {
            keys.insert(hash(&id.to_le_bytes()), entry(id, None));
        }
        for id in 0..2_000_u64 {
            assert_eq!(keys.find(&id.to_le_bytes(), 0).map(|e| e.id), Ok(KeyId(id)));
        }
    }
}
