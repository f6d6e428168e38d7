//! The keys that this node has: in memory, and in its data folder.

use std::sync::RwLock;

use serde::{Deserialize, Serialize};
use tidegate_state::cluster_keys::{Mark, SUBJECTS};

use crate::codec;
use crate::error::Error;
use crate::folder::Folder;
use crate::seal::ClusterKey;
use crate::store::Damage;

/// Once there was a second key: all of them, with a hash in front, instead of [`FIRST`].
pub(crate) const RING: &str = "tls/cluster.ring";
/// The only key there ever was.
pub(crate) const FIRST: &str = "tls/cluster.key";

/// All keys that this node has, and what was derived from the first.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ring {
    /// Oldest first.
    keys: Vec<[u8; 32]>,
    /// `None`: the oldest key is the first.
    subjects: Option<[u8; 32]>,
}

pub(crate) struct Keys {
    ring: RwLock<Ring>,
    /// One change of the ring and its file at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Ring {
    pub(crate) fn first(key: ClusterKey) -> Self {
        Self { keys: vec![key.0], subjects: None }
    }

    /// Of a cluster whose key was replaced before.
    pub(crate) fn later(key: ClusterKey, subjects: [u8; 32]) -> Self {
        Self { keys: vec![key.0], subjects: Some(subjects) }
    }

    pub(crate) fn is_first(&self) -> bool {
        self.keys.len() == 1 && self.subjects.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn oldest(&self) -> ClusterKey {
        ClusterKey(self.keys[0])
    }

    /// By its mark; `None`: the first.
    pub(crate) fn key(&self, mark: Option<Mark>) -> Option<ClusterKey> {
        let Some(mark) = mark else { return self.keys.first().copied().map(ClusterKey) };
        self.keys.iter().copied().map(ClusterKey).find(|key| key.mark() == mark)
    }

    /// With one more, which seals nothing yet.
    pub(super) fn with(&self, key: &ClusterKey, subjects: [u8; 32]) -> Self {
        let mut more = self.clone();
        more.keys.push(key.0);
        more.subjects.get_or_insert(subjects);
        more
    }

    /// Those of these marks alone.
    pub(super) fn only(&self, wanted: &[Mark]) -> Self {
        let keys = self.keys.iter().copied().filter(|key| wanted.contains(&ClusterKey(*key).mark())).collect();
        Self { keys, subjects: Some(self.subjects()) }
    }

    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        // The newest first: what is sealed anew stays.
        let mut keys = self.keys.iter().rev().map(|key| ClusterKey(*key));
        let newest = keys.next().ok_or("this node has no cluster key")?.open(name, sealed);
        newest.or_else(|why| keys.find_map(|key| key.open(name, sealed).ok()).ok_or(why))
    }

    pub(crate) fn subjects(&self) -> [u8; 32] {
        self.subjects.unwrap_or_else(|| self.oldest().derive(SUBJECTS))
    }

    pub(crate) fn read(folder: &Folder) -> Result<Option<Self>, Error> {
        let path = folder.path(RING);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = folder.read(RING)?;
        let damaged = |what: &str| Error::from(Damage::new(&path, "", what));
        let (sum, body) = bytes.split_first_chunk::<32>().ok_or_else(|| damaged("cut short"))?;
        if blake3::hash(body).as_bytes() != sum {
            return Err(damaged("not what this node wrote"));
        }
        let ring: Self = codec::decode(body).map_err(|error| damaged(&error.to_string()))?;
        if ring.keys.is_empty() { Err(damaged("it holds no key")) } else { Ok(Some(ring)) }
    }

    pub(crate) fn write(&self, folder: &Folder) -> Result<(), Error> {
        let body = codec::encode(self);
        folder.write(RING, &[blake3::hash(&body).as_bytes().as_slice(), &body].concat())?;
        // What is still needed of it is in the ring.
        folder.remove(FIRST)
    }
}

impl Keys {
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring: RwLock::new(ring), changing: tokio::sync::Mutex::default() }
    }

    pub(crate) fn ring(&self) -> Ring {
        self.ring.read().expect("no panic while locked").clone()
    }

    pub(crate) fn has(&self, mark: Option<Mark>) -> bool {
        self.ring.read().expect("no panic while locked").key(mark).is_some()
    }

    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.ring.read().expect("no panic while locked").open(name, sealed)
    }

    /// On disk first. `changing` is held.
    pub(super) fn replace(&self, folder: &Folder, ring: Ring) -> Result<(), Error> {
        ring.write(folder)?;
        *self.ring.write().expect("no panic while locked") = ring;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey([byte; 32])
    }

    #[test]
    fn a_ring_opens_what_any_of_its_keys_sealed_and_no_more_than_that() {
        let first = Ring::first(key(1));
        let subjects = first.subjects();
        let both = first.with(&key(2), subjects);
        let (old, new) = (key(1).seal("x", b"one").unwrap(), key(2).seal("x", b"two").unwrap());
        assert_eq!((both.open("x", &old).unwrap(), both.open("x", &new).unwrap()), (b"one".to_vec(), b"two".to_vec()));
        assert!(first.open("x", &new).is_err(), "who was removed has the first key alone");
        let left = both.only(&[key(2).mark()]);
        assert!(left.open("x", &old).is_err() && left.open("y", &new).is_err());
        assert_eq!((left.open("x", &new).unwrap(), left.subjects()), (b"two".to_vec(), subjects));
        assert_eq!(left.key(Some(key(2).mark())).map(|key| key.0), Some([2; 32]));
        assert!(left.key(Some(key(1).mark())).is_none() && !left.is_first() && first.is_first());
    }

    #[test]
    fn a_ring_is_read_as_it_was_written_and_a_changed_or_missing_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::within(dir.path()).unwrap();
        folder.write(FIRST, &[1; 32]).unwrap();
        let ring = Ring::first(key(1)).with(&key(2), [7; 32]);
        ring.write(&folder).unwrap();
        assert!(!folder.path(FIRST).exists());
        let read = Ring::read(&folder).unwrap().unwrap();
        assert_eq!((read.keys.clone(), read.subjects), (vec![[1; 32], [2; 32]], Some([7; 32])));
        let whole = folder.read(RING).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            folder.write(RING, &changed).unwrap();
            assert!(Ring::read(&folder).is_err(), "byte {at}");
            folder.write(RING, &whole[..at]).unwrap();
            assert!(Ring::read(&folder).is_err(), "cut at {at}");
        }
    }
}
