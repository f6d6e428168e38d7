//! Certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A certificate and its key, in PEM files that every node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// Unique.
    pub name: String,
    /// Served for these names; `*.example.com` stands for one label.
    #[schemars(length(min = 1))]
    pub hosts: Vec<String>,
    /// The chain, the server's certificate first. Relative to the node's working directory.
    pub file: String,
    /// The private key.
    pub key: String,
    /// Which versions of TLS.
    #[serde(default)]
    pub policy: TlsVersions,
    /// Ask clients for certificates of their own (mTLS). Default: they are not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientsRule>,
}

/// Clients' own certificates. What a client showed goes to the upstream in `Client-Cert` (RFC 9440); nobody else can send that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientsRule {
    /// A file of PEM roots that sign clients' certificates.
    pub ca: String,
    /// Let clients in that show none, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum TlsVersions {
    /// TLS 1.2 and 1.3.
    #[default]
    Modern,
    /// TLS 1.3 alone.
    Strict,
}
