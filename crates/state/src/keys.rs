//! Credentials of consumers. Only hashes are kept; ids are never reused; revoking is for ever.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::{KeyId, Millis};

use crate::MAX_NAME;
use crate::command::CreateKey;
use crate::outcome::{Change, Outcome};

/// A bound, so that a runaway script cannot fill every node's memory.
const MAX_KEYS: usize = 1_000_000;

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    pub id: KeyId,
    pub tenant: String,
    pub consumer: String,
    pub name: String,
    pub hash: [u8; 32],
    /// The first characters, to show to people.
    pub prefix: String,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
    /// The credential before the last rotation, and until when it works.
    pub previous: Option<([u8; 32], Millis)>,
}

impl Key {
    /// May this key be used at `now`, shown with `hash`?
    #[must_use]
    pub fn is_good(&self, hash: &[u8; 32], now: Millis) -> bool {
        let known = self.hash == *hash || self.previous.is_some_and(|(old, until)| old == *hash && now < until);
        known && self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Keys {
    last: KeyId,
    keys: BTreeMap<KeyId, Key>,
    /// Every hash that was ever good, also of revoked keys: a hash never belongs to two keys.
    by_hash: BTreeMap<[u8; 32], KeyId>,
}

impl Keys {
    #[must_use]
    pub fn by_id(&self, id: KeyId) -> Option<&Key> {
        self.keys.get(&id)
    }

    /// The key a credential belongs to, good or not: ask [`Key::is_good`].
    #[must_use]
    pub fn by_hash(&self, hash: &[u8; 32]) -> Option<&Key> {
        self.by_hash.get(hash).and_then(|id| self.keys.get(id))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn create(&mut self, create: &CreateKey, at: Millis) -> (Outcome, Vec<Change>) {
        let names = [&create.tenant, &create.consumer, &create.name, &create.prefix];
        if names.iter().any(|name| MAX_NAME < name.len()) {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        if MAX_KEYS <= self.keys.len() {
            return (Outcome::Full, Vec::new());
        }
        if self.by_hash.contains_key(&create.hash) {
            return (Outcome::Duplicate, Vec::new());
        }
        let id = KeyId(self.last.0.saturating_add(1));
        self.last = id;
        self.by_hash.insert(create.hash, id);
        self.keys.insert(
            id,
            Key {
                id,
                tenant: create.tenant.clone(),
                consumer: create.consumer.clone(),
                name: create.name.clone(),
                hash: create.hash,
                prefix: create.prefix.clone(),
                created_at: at,
                expires_at: create.expires_at,
                revoked_at: None,
                previous: None,
            },
        );
        (Outcome::KeyCreated { id }, vec![Change::KeyCreated(id)])
    }

    pub(crate) fn revoke(&mut self, id: KeyId, at: Millis) -> (Outcome, Vec<Change>) {
        let Some(key) = self.keys.get_mut(&id) else {
            return (Outcome::NotFound, Vec::new());
        };
        if key.revoked_at.is_some() {
            return (Outcome::Done, Vec::new());
        }
        key.revoked_at = Some(at);
        (Outcome::Done, vec![Change::KeyRevoked(id)])
    }

    pub(crate) fn rotate(
        &mut self,
        id: KeyId,
        hash: [u8; 32],
        prefix: &str,
        grace_until: Millis,
        _at: Millis,
    ) -> (Outcome, Vec<Change>) {
        if MAX_NAME < prefix.len() {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        if self.by_hash.contains_key(&hash) {
            return (Outcome::Duplicate, Vec::new());
        }
        let Some(key) = self.keys.get_mut(&id).filter(|key| key.revoked_at.is_none()) else {
            return (Outcome::NotFound, Vec::new());
        };
        if let Some((older, _)) = key.previous.replace((key.hash, grace_until)) {
            self.by_hash.remove(&older);
        }
        key.hash = hash;
        prefix.clone_into(&mut key.prefix);
        self.by_hash.insert(hash, id);
        (Outcome::Done, vec![Change::KeyRotated(id)])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, {}…)", self.id, self.prefix)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys.values()).finish()
    }
}
