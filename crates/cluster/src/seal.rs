//! Sealing secrets with the cluster key: AES-256-GCM, a random nonce in front, the name bound to the bytes.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};

use std::fmt;

/// Shared by all nodes, handed over at the join, kept in `tls/cluster.key` or `tls/cluster.ring` (see `keys`).
#[derive(Clone)]
pub(crate) struct ClusterKey(pub(crate) [u8; 32]);

impl ClusterKey {
    pub(crate) fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, String> {
        let mut bytes = secret.to_vec();
        let nonce = self
            .cipher()?
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut bytes)
            .map_err(|_| "sealing failed".to_owned())?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut bytes);
        Ok(sealed)
    }

    pub(crate) fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or("too short to be sealed")?;
        let mut bytes = body.to_vec();
        let opened = self
            .cipher()?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(name.as_bytes()), &mut bytes)
            .map_err(|_| format!("{name} was not sealed with this cluster's key, or was changed"))?;
        Ok(opened.to_vec())
    }

    /// What it is known by to whoever does not have it.
    pub(crate) fn mark(&self) -> [u8; 32] {
        self.derive("tidegate 2026-11 cluster key: mark")
    }

    /// A key for another purpose, the same on all nodes.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, String> {
        RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_| "the cluster key has a wrong length".to_owned())
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(…)")
    }
}
