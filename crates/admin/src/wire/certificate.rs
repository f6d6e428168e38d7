//! Certificates that the nodes serve, and how far those are that an authority is asked for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::NodeApplied;

/// A certificate to be kept by the cluster and served by every node. Never printed: it holds a key.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportCertificate {
    /// PEM: the server's certificate first, then who signed it, and so on.
    pub chain: String,
    /// PEM, not encrypted: PKCS#8, PKCS#1 or SEC1. It is sealed with the cluster's key before it goes anywhere.
    pub key: String,
}

impl std::fmt::Debug for ImportCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ImportCertificate(…)")
    }
}

/// What is known of one. Its key is not told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateState {
    pub name: String,
    /// Host names that it is for, or that it was asked for.
    pub hosts: Vec<String>,
    /// `imported`, `acme`, or `file`: the document's own, as this node read it.
    pub source: String,
    /// `served`; `expired`; `pending`: none is there yet; `removed`: the document asks for it no more.
    pub state: String,
    /// Who signed it.
    #[serde(default)]
    pub issuer: Option<String>,
    #[serde(default)]
    pub serial: Option<String>,
    /// `ecdsa-256`, `rsa-2048`.
    #[serde(default)]
    pub key_type: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub not_before: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub not_after: Option<String>,
    /// Until it ends; below zero: since it ended.
    #[serde(default)]
    pub days_left: Option<i64>,
    /// `certificates.NAME` in the document, or `sni`: whoever asks for one of its hosts.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// An order is in flight.
    #[serde(default)]
    pub ordering: bool,
    /// Attempts in a row that came to nothing.
    #[serde(default)]
    pub failures: u32,
    /// Why the last one did.
    #[serde(default)]
    pub error: Option<String>,
    /// RFC 3339: when its authority is asked next, to renew it or once more.
    #[serde(default)]
    pub next_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateList {
    pub certificates: Vec<CertificateState>,
}

/// It was changed, and which nodes know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateChanged {
    pub name: String,
    /// As it is now; absent: it is gone.
    #[serde(default)]
    pub certificate: Option<CertificateState>,
    pub nodes: Vec<NodeApplied>,
    /// New handshakes on every node go by it, or its node lease lapsed.
    pub complete: bool,
}
