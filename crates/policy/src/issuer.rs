//! Whose tokens (JWT, RFC 7519) prove who calls, and what is made of what they say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// One issuer, as the document describes it.
#[derive(Debug)]
pub struct Issuer {
    /// Part of each counter by claim, of metrics and texts.
    pub name: Arc<str>,
    /// What `iss` must be; `None`: it is not looked at.
    pub iss: Option<String>,
    /// `aud` must name one of these. Empty: it is not looked at.
    pub audiences: Vec<String>,
    pub keys: Arc<Keys>,
    pub algorithms: Vec<Algorithm>,
    /// Clocks differ by so much.
    pub leeway: Duration,
    /// Claims that a token must have.
    pub required: Vec<ClaimPath>,
    /// Where requests carry it. Never empty.
    pub places: Vec<TokenPlace>,
    /// Does the upstream see it?
    pub forward: bool,
    /// The claim that names a consumer of the route's tenant.
    pub consumer: Option<ClaimPath>,
    pub stranger: Stranger,
    /// The claim that names the end user.
    pub end_user: Option<ClaimPath>,
    /// What the upstream reads of it.
    pub headers: Vec<(HeaderName, ClaimPath)>,
}

/// What becomes of a good token that names no consumer of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stranger {
    #[default]
    Refuse,
    /// Served, as nobody's.
    Anonymous,
}

/// What signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub enum Keys {
    /// A JWK set that nodes fetch.
    Url {
        url: Url,
        /// PEM roots to trust instead of the system's.
        ca: Option<Vec<u8>>,
        refresh: Duration,
        /// So long keys are good that could not be fetched anew.
        max_stale: Duration,
    },
    /// A JWK set.
    Set(Vec<u8>),
    /// A public key in PEM.
    Pem(Vec<u8>),
    /// Shared with the issuer; never printed.
    Secret(Vec<u8>),
}

/// Where a JWK set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub https: bool,
    /// An IPv6 address without brackets.
    pub host: String,
    pub port: u16,
    /// As in a `Host` header.
    pub authority: String,
    /// With its query.
    pub path: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Url { url, .. } => return f.debug_tuple("Url").field(url).finish(),
            Self::Set(_) => "Set(…)",
            Self::Pem(_) => "Pem(…)",
            Self::Secret(_) => "Secret(…)",
        })
    }
}

/// RFC 7518 § 3.1 and RFC 8037. `none` is not one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// As headers of tokens say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Is its key a secret that both sides have?
    #[must_use]
    pub fn is_shared(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }
}

/// Where a request carries a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenPlace {
    /// `Authorization: Bearer …`
    Bearer,
    /// The header's whole value, with or without `Bearer`.
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
}

/// A claim by its name; one within others by its names with dots between them, unless a claim has that very name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// `None`: it is no name.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let sane = !text.is_empty() && text.len() <= 256 && !text.chars().any(|c| c.is_control() || c == ' ');
        sane.then(|| Self(text.into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a route asks of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    pub claim: ClaimPath,
    /// One of these sets of values must be there as a whole.
    pub any: Vec<Vec<Box<str>>>,
}
