//! PEM text → certificates and keys, with errors that say where to look: which section, from which line.

use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with TLS material. Never holds key bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// `certificate "api"`, `upstream CA`
    pub of: String,
    /// Where in its PEM text: `chain`, `key`, with the line a section begins at when one is to blame.
    pub place: String,
    pub why: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.of, self.place, self.why)
    }
}

impl std::error::Error for Error {}

/// All certificates of a chain or a bundle, in order. Empty is an error.
pub(crate) fn certificates(of: &str, part: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut found = Vec::new();
    for (index, item) in CertificateDer::pem_slice_iter(pem).enumerate() {
        match item {
            Ok(der) => found.push(der),
            Err(e) => return Err(broken(of, place(part, pem, index), &e)),
        }
    }
    if found.is_empty() {
        return Err(Error { of: of.into(), place: part.into(), why: "no CERTIFICATE section in this PEM".into() });
    }
    Ok(found)
}

pub(crate) fn key(of: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    if contains(pem, b"ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        let why = "the private key is encrypted; store it decrypted, readable by the gateway alone".into();
        return Err(Error { of: of.into(), place: "key".into(), why });
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        rustls::pki_types::pem::Error::NoItemsFound => {
            let why = "no PRIVATE KEY section in this PEM (PKCS#8, PKCS#1 and SEC1 are read)".into();
            Error { of: of.into(), place: "key".into(), why }
        }
        e => broken(of, "key".into(), &e),
    })
}

/// A bundle of certificates to trust.
pub(crate) fn roots(of: &str, part: &str, pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for (index, der) in certificates(of, part, pem)?.into_iter().enumerate() {
        roots.add(der).map_err(|e| Error {
            of: of.into(),
            place: place(part, pem, index),
            why: format!("not usable as a root: {e}"),
        })?;
    }
    Ok(roots)
}

/// A chain and a key that make no pair.
pub(crate) fn unfit(of: String, why: rustls::Error) -> Error {
    let why = match why {
        rustls::Error::InconsistentKeys(_) => "the key does not belong to the chain's first certificate".into(),
        why => format!("not usable: {why}"),
    };
    Error { of, place: "key".into(), why }
}

/// `chain, certificate 2 (line 31)`
pub(crate) fn place(part: &str, pem: &[u8], index: usize) -> String {
    let begins = |line: &[u8]| line.trim_ascii_start().starts_with(b"-----BEGIN CERTIFICATE");
    let line = pem.split(|&b| b == b'\n').enumerate().filter(|(_, line)| begins(line)).nth(index).map(|(n, _)| n + 1);
    match line {
        Some(line) => format!("{part}, certificate {} (line {line})", index + 1),
        None => format!("{part}, section {}", index + 1),
    }
}

/// The text of a PEM error may quote input: only its kind is told, lest a key ends in a log.
fn broken(of: &str, place: String, error: &rustls::pki_types::pem::Error) -> Error {
    use rustls::pki_types::pem::Error as Pem;
    let why = match error {
        Pem::MissingSectionEnd { .. } => "a section has no END line",
        Pem::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        Pem::Base64Decode(_) => "a section is not valid base64",
        Pem::NoItemsFound => "nothing found",
        Pem::SectionTooLarge => "a section is too large",
        _ => "unreadable",
    };
    Error { of: of.into(), place, why: why.into() }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}
