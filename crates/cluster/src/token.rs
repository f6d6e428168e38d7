//! Secrets that people carry: join tokens and admin tokens. Only hashes stay in the cluster.

use std::fmt;

/// What a new node shows. Text form: `tgj1-<CA fingerprint>-<secret>`, hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub(crate) ca: [u8; 32],
    pub(crate) secret: [u8; 32],
}

const PREFIX: &str = "tgj1";

impl JoinToken {
    /// A token for the cluster whose CA has this fingerprint.
    pub(crate) fn new(ca: [u8; 32]) -> Self {
        Self { ca, secret: random() }
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// When the text is no join token.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "not a join token: it begins with tgj1- and comes from `tidegate cluster token`".to_owned();
        let mut parts = text.trim().split('-');
        let (prefix, ca, secret) = (parts.next(), parts.next(), parts.next());
        if prefix != Some(PREFIX) || parts.next().is_some() {
            return Err(wrong());
        }
        let ca = ca.and_then(unhex).ok_or_else(wrong)?;
        let secret = secret.and_then(unhex).ok_or_else(wrong)?;
        Ok(Self { ca, secret })
    }

    /// The whole token, to show once.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}-{}-{}", hex(&self.ca), hex(&self.secret))
    }

    /// What the state knows of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(…)")
    }
}

/// A new admin token in its text form, to show once.
#[must_use]
pub fn new_admin_token() -> String {
    format!("tga_{}", hex(&random::<32>()))
}

/// What the state knows of an admin token.
#[must_use]
pub fn admin_token_hash(token: &str) -> [u8; 32] {
    hash(token.trim().as_bytes())
}

pub(crate) fn hash(secret: &[u8]) -> [u8; 32] {
    *blake3::hash(secret).as_bytes()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("Linux always has randomness after boot");
    bytes
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    // Looked at before anything is read: longer ones come from strangers, too.
    (text.len() == 64).then(|| unhex_all(text))??.try_into().ok()
}

/// Of any length.
pub(crate) fn unhex_all(text: &str) -> Option<Vec<u8>> {
    let byte = |pair: &[u8]| u8::try_from(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}
