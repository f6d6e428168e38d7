//! Who can open a backup: whoever holds its key, and nobody else. Nodes need the public half only, so no node that is stolen
//! opens a backup, and no backup needs a node that is left.

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};

use crate::token::{hash, hex, random, unhex};

const SECRET: &str = "tgb1";
const PUBLIC: &str = "tgbp1";

/// What opens backups. An operator keeps it where no machine of the cluster burns with it.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupKey([u8; 32]);

/// What backups are sealed for: the public half of a [`BackupKey`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient([u8; 32]);

impl BackupKey {
    #[must_use]
    pub fn new() -> Self {
        Self(random())
    }

    /// Reads the text form, whatever stands around it in a file: lines that begin with `#` are remarks.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        let line = line.ok_or("the backup key is empty")?;
        if line.starts_with(PUBLIC) {
            return Err("this is the public half of a backup key: it seals backups, and opens none".into());
        }
        read(SECRET, line).map(Self)
    }

    /// The whole key, for the file it is kept in.
    #[must_use]
    pub fn reveal(&self) -> String {
        written(SECRET, &self.0)
    }

    /// # Errors
    /// When the bytes are no key.
    pub fn recipient(&self) -> Result<Recipient, String> {
        let key = self.private()?.compute_public_key().map_err(|_| "the backup key is no key".to_owned())?;
        let key = <[u8; 32]>::try_from(key.as_ref()).map_err(|_| "a public key has a wrong length".to_owned())?;
        Ok(Recipient(key))
    }

    fn private(&self) -> Result<PrivateKey, String> {
        PrivateKey::from_private_key(&X25519, &self.0).map_err(|_| "the backup key is no key".to_owned())
    }

    /// What this key and the other one's public half have in common.
    pub(super) fn agree(&self, other: &Recipient) -> Result<[u8; 32], String> {
        let other = UnparsedPublicKey::new(&X25519, other.0);
        agreement::agree(&self.private()?, other, "the keys do not fit".to_owned(), |shared| {
            <[u8; 32]>::try_from(shared).map_err(|_| "a shared secret has a wrong length".to_owned())
        })
    }
}

impl Default for BackupKey {
    fn default() -> Self {
        Self::new()
    }
}

impl Recipient {
    /// # Errors
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with("tgb1-") {
            return Err("this is a backup key itself, which no node shall see: give its public half, \
                        which begins with tgbp1-"
                .into());
        }
        read(PUBLIC, text).map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// `kind-key-sum`: the sum finds a slip of the pen, since a backup sealed for nobody looks like any other.
fn written(kind: &str, key: &[u8; 32]) -> String {
    format!("{kind}-{}-{}", hex(key), hex(&sum(kind, key)))
}

fn read(kind: &str, text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("not a backup key: it begins with {kind}- and comes from `tidegate cluster backup-key`");
    let mut parts = text.split('-');
    let (begins, key, summed) = (parts.next(), parts.next(), parts.next());
    if begins != Some(kind) || parts.next().is_some() {
        return Err(wrong());
    }
    let key = key.and_then(unhex).ok_or_else(wrong)?;
    if summed == Some(&hex(&sum(kind, &key))) { Ok(key) } else { Err("the backup key has a typing error".into()) }
}

fn sum(kind: &str, key: &[u8; 32]) -> [u8; 4] {
    let sum = hash(&[kind.as_bytes(), key].concat());
    [sum[0], sum[1], sum[2], sum[3]]
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(PUBLIC, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_and_a_slip_of_the_pen_is_found() {
        let key = BackupKey::new();
        let text = format!("# keep this\n{}\n", key.reveal());
        assert_eq!(BackupKey::parse(&text), Ok(key.clone()));
        let public = key.recipient().expect("a key").to_string();
        assert_eq!(Recipient::parse(&public).map(|read| read.to_string()), Ok(public.clone()));
        let slipped = if public.as_bytes()[9] == b'a' {
            public.replacen('a', "b", 1)
        } else {
            public.replacen(&public[9..10], "a", 1)
        };
        assert!(Recipient::parse(&slipped).is_err());
        assert!(BackupKey::parse(&public).expect_err("the wrong half").contains("public half"));
        assert!(Recipient::parse(&key.reveal()).expect_err("the wrong half").contains("no node shall see"));
        assert_eq!(format!("{key:?}"), "BackupKey(…)");
    }

    #[test]
    fn two_keys_agree_on_one_secret() {
        let (one, other) = (BackupKey::new(), BackupKey::new());
        let (public, others) = (one.recipient().expect("a key"), other.recipient().expect("a key"));
        assert_eq!(one.agree(&others), other.agree(&public));
    }
}
