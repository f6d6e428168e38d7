//! Making a key: `tg_` and 256 random bits in base 62. The secret is shown once; what is kept is its BLAKE3 hash.
//!
//! 256 bits of entropy need neither salt nor a slow hash (NIST SP 800-63B § 5.1.1.2 asks for those below 112 bits).

use std::fmt;

use zeroize::Zeroize;

/// What is kept of a key.
pub type Hash = [u8; 32];

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// ⌈256 / log2(62)⌉
const LENGTH: usize = 43;
const PREFIX: &str = "tg_";
/// Characters of a secret that may be shown in lists: 8 of 46, of which 5 are random.
const SHOWN: usize = 8;

/// A key as its owner sees it, once. Wiped from memory when dropped, never printed by `Debug`.
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[derive(Debug)]
pub struct Minted {
    pub secret: Secret,
    pub hash: Hash,
    /// The beginning of the secret, for people to recognise it by.
    pub prefix: String,
}

/// A fresh key.
///
/// # Errors
/// The kernel gave no randomness.
pub fn mint() -> Result<Minted, getrandom::Error> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits)?;
    let text = format!("{PREFIX}{}", base62(&bits));
    bits.zeroize();
    Ok(Minted { hash: hash(text.as_bytes()), prefix: text[..SHOWN].to_owned(), secret: Secret(text) })
}

/// The hash a key is kept by.
#[must_use]
pub fn hash(secret: &[u8]) -> Hash {
    *blake3::hash(secret).as_bytes()
}

fn base62(bits: &[u8; 32]) -> String {
    let mut number = *bits; // big-endian
    let mut digits = [0; LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0_u32;
        for byte in &mut number {
            let step = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(step / 62).expect("rest < 62, so the quotient is below 256");
            rest = step % 62;
        }
        *digit = DIGITS[rest as usize];
    }
    number.zeroize();
    digits.iter().map(|d| char::from(*d)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_tg_and_43_digits() {
        let minted = mint().unwrap();
        let text = minted.secret.expose();
        assert_eq!(text.len(), 46);
        assert!(text.strip_prefix("tg_").unwrap().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(text.starts_with(&minted.prefix));
        assert_eq!(minted.hash, hash(text.as_bytes()));
    }

    #[test]
    fn base62_keeps_every_bit() {
        assert_eq!(base62(&[0; 32]), "0".repeat(43));
        let mut one = [0; 32];
        one[31] = 62;
        assert_eq!(base62(&one), format!("{}10", "0".repeat(41)));
        assert_ne!(base62(&[255; 32]), base62(&[254; 32]));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let minted = mint().unwrap();
        assert!(!format!("{minted:?}").contains(minted.secret.expose()));
    }
}
