//! An issuer's keys: a JWK set (RFC 7517), a public key in PEM, or a secret. Each key is parsed once, for the algorithms it may
//! be used with; an RSA key never checks an HMAC.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tidegate_policy::{Algorithm, Keys};

use super::claims::{Claim, Claims};
use super::jws::Parts;
use super::{Invalid, MOST_KEYLESS};

/// More keys than this are a mistake.
const MOST_KEYS: usize = 100;
/// A set of that many large keys with certificates is smaller.
pub(super) const MAX_SET_BYTES: usize = 512 * 1024;
/// RFC 7518 § 3.2: as long as the hash.
const LEAST_SECRET_BYTES: usize = 32;
const RSA: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

/// Keys that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadKeys(pub String);

impl fmt::Display for BadKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub struct KeySet {
    keys: Vec<Key>,
    /// Of the bytes they were read from.
    pub(super) digest: [u8; 32],
}

struct Key {
    kid: Option<Box<str>>,
    /// By algorithm.
    checks: Vec<(Algorithm, Check)>,
}

enum Check {
    Public(ParsedPublicKey),
    /// Boxed: it is large, and rare.
    Secret(Box<hmac::Key>),
}

impl KeySet {
    /// # Errors
    /// Nothing in there can be used.
    pub fn read(source: &Keys) -> Result<Self, BadKeys> {
        match source {
            Keys::Url { .. } => Err(BadKeys("they are not fetched yet".into())),
            Keys::Set(json) => Self::of_set(json),
            Keys::Pem(pem) => Self::of_pem(pem),
            Keys::Secret(secret) => Self::of_secret(secret),
        }
    }

    /// Keys of kinds and uses that we have no use for are passed over.
    ///
    /// # Errors
    /// It is no JWK set, or none of its keys can be used.
    pub fn of_set(json: &[u8]) -> Result<Self, BadKeys> {
        if json.len() > MAX_SET_BYTES {
            return Err(BadKeys(format!("the JWK set is larger than {MAX_SET_BYTES} bytes")));
        }
        let set = Claims::read(json).ok_or_else(|| BadKeys("it is no JWK set: `{\"keys\": […]}`".into()))?;
        let Some(Claim::List(list)) = set.top("keys") else {
            return Err(BadKeys("it has no list `keys`".into()));
        };
        if list.len() > MOST_KEYS {
            return Err(BadKeys(format!("it has more than {MOST_KEYS} keys")));
        }
        let keys: Vec<Key> = list.iter().filter_map(Key::of_jwk).collect();
        if keys.is_empty() {
            return Err(BadKeys(format!("none of its {} keys can check a signature", list.len())));
        }
        Ok(Self { keys, digest: *blake3::hash(json).as_bytes() })
    }

    fn of_pem(pem: &[u8]) -> Result<Self, BadKeys> {
        let der = der(pem).ok_or_else(|| BadKeys("it is no PEM of a public key".into()))?;
        let rsa = RSA.iter().filter_map(|(algorithm, how)| Some((*algorithm, ParsedPublicKey::new(*how, &der).ok()?)));
        let mut checks: Vec<_> = rsa.map(|(algorithm, key)| (algorithm, Check::Public(key))).collect();
        let others = [
            (Algorithm::Es256, ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &der)),
            (Algorithm::Es384, ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &der)),
            (Algorithm::EdDsa, ParsedPublicKey::new(&ED25519, &der)),
        ];
        checks.extend(others.into_iter().filter_map(|(algorithm, key)| Some((algorithm, Check::Public(key.ok()?)))));
        if checks.is_empty() {
            return Err(BadKeys("it is no key of RSA, P-256, P-384 or Ed25519".into()));
        }
        Ok(Self { keys: vec![Key { kid: None, checks }], digest: *blake3::hash(pem).as_bytes() })
    }

    fn of_secret(secret: &[u8]) -> Result<Self, BadKeys> {
        if secret.len() < LEAST_SECRET_BYTES {
            return Err(BadKeys(format!("a secret has at least {LEAST_SECRET_BYTES} bytes")));
        }
        let hashes = [
            (Algorithm::Hs256, hmac::HMAC_SHA256),
            (Algorithm::Hs384, hmac::HMAC_SHA384),
            (Algorithm::Hs512, hmac::HMAC_SHA512),
        ];
        let checks =
            hashes.map(|(algorithm, hash)| (algorithm, Check::Secret(Box::new(hmac::Key::new(hash, secret))))).into();
        Ok(Self { keys: vec![Key { kid: None, checks }], digest: *blake3::hash(secret).as_bytes() })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks a signature by the key that the token names; without a name, by those that the algorithm fits.
    pub(super) fn check(&self, token: &Parts<'_>, algorithm: Algorithm) -> Result<(), Invalid> {
        let named = |key: &&Key| key.kid.is_some() && key.kid == token.header.kid;
        let nameless = |key: &&Key| token.header.kid.is_none() || key.kid.is_none();
        let mut found: Vec<&Key> = self.keys.iter().filter(named).collect();
        if found.is_empty() {
            found = self.keys.iter().filter(nameless).collect();
        }
        if found.is_empty() {
            return Err(Invalid::UnknownKey);
        }
        let fitting = found.iter().flat_map(|key| key.checks.iter().filter(|(of, _)| *of == algorithm));
        let mut tried = 0;
        for (_, check) in fitting.take(MOST_KEYLESS) {
            tried += 1;
            if check.is_good(token) {
                return Ok(());
            }
        }
        Err(if tried == 0 { Invalid::Algorithm } else { Invalid::Signature })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("len", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Check {
    fn is_good(&self, token: &Parts<'_>) -> bool {
        match self {
            Self::Public(key) => key.verify_sig(token.signed, &token.signature).is_ok(),
            Self::Secret(key) => hmac::verify(key, token.signed, &token.signature).is_ok(),
        }
    }
}

impl Key {
    /// `None`: no key to check signatures with. A secret (`oct`) in a set that everybody can read is none.
    fn of_jwk(jwk: &Claim) -> Option<Self> {
        let Claim::Map(fields) = jwk else { return None };
        let field = |name: &str| fields.iter().find(|(known, _)| **known == *name).map(|(_, value)| value);
        let text = |name: &str| match field(name) {
            Some(Claim::Text(text)) => Some(&**text),
            _ => None,
        };
        let bytes = |name| URL_SAFE_NO_PAD.decode(text(name)?.trim_end_matches('=')).ok();
        if text("use").is_some_and(|of| of != "sig") {
            return None;
        }
        let may_check = |operations: &Claim| match operations {
            Claim::List(list) => list.iter().any(|one| *one == Claim::Text("verify".into())),
            _ => false,
        };
        if field("key_ops").is_some_and(|operations| !may_check(operations)) {
            return None;
        }
        let mut checks = match (text("kty")?, text("crv")) {
            ("RSA", _) => rsa(&bytes("n")?, &bytes("e")?),
            ("EC", Some("P-256")) => {
                vec![(
                    Algorithm::Es256,
                    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(&bytes("x")?, &bytes("y")?, 32)?).ok()?,
                )]
            }
            ("EC", Some("P-384")) => {
                vec![(
                    Algorithm::Es384,
                    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point(&bytes("x")?, &bytes("y")?, 48)?).ok()?,
                )]
            }
            ("OKP", Some("Ed25519")) => {
                let raw = bytes("x").filter(|raw| raw.len() == 32)?;
                vec![(Algorithm::EdDsa, ParsedPublicKey::new(&ED25519, raw).ok()?)]
            }
            _ => return None,
        };
        if let Some(only) = text("alg") {
            // RFC 9864 names what EdDSA left open.
            let only = if only == "Ed25519" { Some(Algorithm::EdDsa) } else { Algorithm::of(only) };
            checks.retain(|(algorithm, _)| Some(*algorithm) == only);
        }
        if checks.is_empty() {
            return None;
        }
        let checks = checks.into_iter().map(|(algorithm, key)| (algorithm, Check::Public(key))).collect();
        Some(Self { kid: text("kid").map(Into::into), checks })
    }
}

fn rsa(n: &[u8], e: &[u8]) -> Vec<(Algorithm, ParsedPublicKey)> {
    let strip = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    let (n, e) = (strip(n), strip(e));
    // Shorter ones are weak, longer ones cost too much to check: 2048 to 8192 bits.
    if !(256..=1024).contains(&n.len()) || e.is_empty() || e.len() > 5 {
        return Vec::new();
    }
    let of = |how: &'static RsaParameters| RsaPublicKeyComponents { n: &n, e: &e }.to_parsed_public_key(how).ok();
    RSA.iter().filter_map(|(algorithm, how)| Some((*algorithm, of(how)?))).collect()
}

/// SEC 1 § 2.3.3, uncompressed.
fn point(x: &[u8], y: &[u8], length: usize) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat())
}

/// The first block that is a public key.
fn der(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return None;
    }
    let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(body).ok()
}
