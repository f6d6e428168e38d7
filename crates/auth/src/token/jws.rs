//! The compact form: `header.payload.signature`, each in base64url without padding (RFC 7515 § 7.1), nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_policy::Algorithm;

use super::claims::{Claim, Claims};
use super::{Invalid, MAX_TOKEN_BYTES};

/// A `kid` is a name.
const MAX_KID_BYTES: usize = 256;

pub(super) struct Parts<'t> {
    pub(super) header: Header,
    pub(super) payload: Vec<u8>,
    /// What is signed: the first two parts as they came.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

pub(super) struct Header {
    /// `None`: one that nobody may use, such as `none`.
    pub(super) algorithm: Option<Algorithm>,
    pub(super) kid: Option<Box<str>>,
}

impl<'t> Parts<'t> {
    pub(super) fn of(text: &'t str) -> Result<Self, Invalid> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(Invalid::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Invalid::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Invalid::Malformed)?;
        // Five parts would be JWE. An empty signature would be nobody's.
        if signature.is_empty() || payload.contains('.') {
            return Err(Invalid::Malformed);
        }
        Ok(Self {
            header: Header::read(&decoded(header)?)?,
            payload: decoded(payload)?,
            signed: signed.as_bytes(),
            signature: decoded(signature)?,
        })
    }
}

impl Header {
    fn read(json: &[u8]) -> Result<Self, Invalid> {
        let fields = Claims::read(json).ok_or(Invalid::Malformed)?;
        // RFC 7515 § 4.1.11: what must be understood. We understand no extension; `b64: false` (RFC 7797) is one.
        if fields.top("crit").is_some() || fields.top("b64").is_some() {
            return Err(Invalid::Critical);
        }
        let text = |name| match fields.top(name) {
            Some(Claim::Text(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Invalid::Malformed),
            None => Ok(None),
        };
        let kid = text("kid")?;
        if kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(Invalid::Malformed);
        }
        Ok(Self { algorithm: Algorithm::of(&text("alg")?.ok_or(Invalid::Malformed)?), kid })
    }
}

fn decoded(part: &str) -> Result<Vec<u8>, Invalid> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Malformed)
}
