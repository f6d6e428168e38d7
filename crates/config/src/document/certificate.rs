//! Certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A certificate and its key: in PEM files that every node has (`file`, `key`), or kept by the cluster (`stored`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// Unique.
    pub name: String,
    /// Served for these names; `*.example.com` stands for one label.
    #[schemars(length(min = 1))]
    pub hosts: Vec<String>,
    /// The chain, the server's certificate first. Relative to the node's working directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The private key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// The name of a certificate that the cluster keeps (`tidegate cert import`, `acme.certificates`), instead of files. It is
    /// served for `hosts` alone then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<String>,
    /// Which versions of TLS.
    #[serde(default)]
    pub policy: TlsVersions,
    /// A file with what the certificate's CA says of it (an OCSP response in DER), stapled to handshakes; read again when it
    /// changes, and left out when it is over. Default: nothing is stapled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ocsp: Option<String>,
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
