//! What proves to a provider who we are. Never printed, `Debug` included.

use std::fmt;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::Url;

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Box<str>);

impl Hidden {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }

    /// To be signed with, or sent.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Debug, Clone)]
pub enum Credential {
    /// The same with every request; its value is marked sensitive.
    Header(HeaderName, HeaderValue),
    /// Each request is signed.
    Aws(AwsKeys),
    /// A bearer's token that must be fetched, again and again.
    Google(Arc<GoogleTokens>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    pub access: Hidden,
    pub secret: Hidden,
    /// Of credentials that end.
    pub session: Option<Hidden>,
    pub region: Box<str>,
    pub service: Box<str>,
}

/// Where tokens come from.
#[derive(Debug, PartialEq, Eq)]
pub enum GoogleTokens {
    Account(ServiceAccount),
    /// The metadata server of the machine that a node runs on.
    Metadata(Url),
}

#[derive(Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    pub email: Box<str>,
    /// PEM, PKCS #8.
    pub key: Hidden,
    pub key_id: Option<Box<str>>,
    /// `token_uri` as it was written.
    pub audience: Box<str>,
    pub token_url: Url,
}

/// May callers bring keys of their own, for which the provider bills them?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallerKeys {
    #[default]
    Never,
    May,
    Must,
}
