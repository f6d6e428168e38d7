//! Certificates that an authority is asked for (ACME, RFC 8555).

use crate::Hidden;

/// An authority, and what it is asked for.
#[derive(Debug, Clone)]
pub struct Acme {
    /// URL of its directory.
    pub directory: String,
    /// E-mail addresses.
    pub contacts: Vec<String>,
    /// Certificates (PEM) that sign the directory's. `None`: the system's.
    pub ca_pem: Option<Vec<u8>>,
    pub key: AcmeKey,
    /// Which are answered, the preferred first.
    pub challenges: Vec<AcmeChallenge>,
    /// Another account that vouches for ours.
    pub external: Option<AcmeExternal>,
    pub certificates: Vec<AcmeCertificate>,
}

/// One certificate to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeCertificate {
    pub name: String,
    /// Lower case, sorted, each once.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeKey {
    P256,
    P384,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    Http01,
    TlsAlpn01,
}

#[derive(Debug, Clone)]
pub struct AcmeExternal {
    pub kid: String,
    /// As the authority gave it out: base64url.
    pub hmac: Hidden,
}
