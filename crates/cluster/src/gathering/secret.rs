//! The secret that all nodes of a cluster are given beforehand. Whoever has it may join; it never travels and is never
//! printed: what is shown to others is derived from it.

use std::collections::BTreeSet;
use std::fmt;

use rcgen::KeyPair;

use crate::token;

/// Fewer characters could be guessed from a certificate that anybody may ask for.
const LEAST: usize = 32;
const MOST: usize = 1_024;
/// Different ones among them.
const DIFFERENT: usize = 8;

/// PKCS#8 of an Ed25519 key up to its 32 bytes (RFC 8410).
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A pre-shared secret of a cluster.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes a text of 32 to 1,024 characters; blanks around it do not count.
    ///
    /// # Errors
    /// When it is shorter or longer.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let different = text.chars().collect::<BTreeSet<_>>().len();
        if (LEAST..=MOST).contains(&text.chars().count()) && different < DIFFERENT {
            return Err(format!(
                "the cluster secret has {different} different characters and can be guessed: use what `openssl rand -hex 32` prints"
            ));
        }
        match text.chars().count() {
            LEAST..=MOST => Ok(Self(text.to_owned())),
            count => Err(format!(
                "the cluster secret has {count} characters: {LEAST} to {MOST} are needed, such as `openssl rand -hex 32` prints"
            )),
        }
    }

    /// The private key of the CA by which those who gather know each other: the same wherever the secret is known.
    pub(crate) fn ca_key(&self) -> Result<KeyPair, rcgen::Error> {
        let seed = blake3::derive_key("tidegate 2026-11 gathering: key of the CA", self.0.as_bytes());
        KeyPair::try_from([PKCS8.as_slice(), &seed].concat())
    }

    /// Shown to who has proven, by a certificate of that CA, to know the secret as well.
    pub(crate) fn proof(&self) -> [u8; 32] {
        blake3::derive_key("tidegate 2026-11 gathering: proof", self.0.as_bytes())
    }

    /// What a node with this public key shows in place of a join token.
    pub(crate) fn join_secret(&self, public_key: &[u8; 32]) -> [u8; 32] {
        let key = blake3::derive_key("tidegate 2026-11 gathering: joining", self.0.as_bytes());
        *blake3::keyed_hash(&key, public_key).as_bytes()
    }

    /// Does a joiner with this public key know the secret?
    pub(crate) fn is_shown_by(&self, shown: &[u8; 32], public_key: &[u8; 32]) -> bool {
        // Hashes of a fixed length are compared: nothing is learnt from how long it takes.
        token::hash(shown) == token::hash(&self.join_secret(public_key))
    }

    pub(crate) fn is_proven_by(&self, proof: &[u8; 32]) -> bool {
        token::hash(proof) == token::hash(&self.proof())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_secrets_are_refused_and_blanks_do_not_count() {
        assert!(Secret::new("too short").unwrap_err().contains("9 characters"));
        assert!(Secret::new(&" ".repeat(40)).is_err());
        assert!(Secret::new(&"s".repeat(40)).unwrap_err().contains("1 different"));
        let (plain, padded) = ("12345678".repeat(4), format!(" {}\n", "12345678".repeat(4)));
        assert_eq!(Secret::new(&plain).unwrap().proof(), Secret::new(&padded).unwrap().proof());
    }

    #[test]
    fn what_is_derived_is_the_same_everywhere_and_differs_by_purpose_and_key() {
        let [one, same, other] = ["a2345678", "a2345678", "b2345678"].map(|c| Secret::new(&c.repeat(5)).unwrap());
        let key = |secret: &Secret| secret.ca_key().unwrap().serialize_der();
        assert_eq!(key(&one), key(&same));
        assert_ne!(key(&one), key(&other));
        assert_ne!(one.proof(), one.join_secret(&[0; 32]));
        assert!(one.is_shown_by(&same.join_secret(&[1; 32]), &[1; 32]));
        assert!(!one.is_shown_by(&same.join_secret(&[1; 32]), &[2; 32]));
        assert!(!one.is_shown_by(&other.join_secret(&[1; 32]), &[1; 32]));
        assert!(one.is_proven_by(&same.proof()) && !one.is_proven_by(&other.proof()));
        assert_eq!(format!("{one:?}"), "Secret(…)");
    }
}
