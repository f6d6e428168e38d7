//! What the document says about listeners: certificates and TLS policy by host, and what is logged.

/// A certificate chain and its key, still as PEM; `tls` turns it into a rustls key.
#[derive(Clone)]
pub struct Certificate {
    pub name: String,
    /// Lower-case host names; `*.example.com` matches one label.
    pub hosts: Vec<String>,
    /// The name of a certificate that the cluster keeps; then chain and key are empty here.
    pub stored: Option<String>,
    pub chain_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    pub policy: TlsPolicy,
    /// What its CA says of it, in DER: stapled to handshakes (RFC 6066 § 8).
    pub ocsp: Option<Vec<u8>>,
    /// Clients show certificates of their own.
    pub clients: Option<ClientCertificates>,
}

/// Whose clients are let in by a certificate of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM roots: one of them signed a client's certificate, or signed who did.
    pub ca_pem: Vec<u8>,
    /// Clients without one are let in as well.
    pub optional: bool,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("name", &self.name).field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsPolicy {
    /// TLS 1.2 and 1.3.
    #[default]
    Modern,
    /// TLS 1.3 alone.
    Strict,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Telemetry {
    pub access_log: Option<AccessLog>,
    /// Answers carry `x-tidegate-revision`.
    pub revision_header: bool,
    /// `None`: no collector is told anything.
    pub otlp: Option<std::sync::Arc<crate::Otlp>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// `None`: standard output.
    pub file: Option<std::path::PathBuf>,
    /// Bytes after which the file is rotated; `None`: never.
    pub rotate_bytes: Option<u64>,
    /// How many rotated files are kept.
    pub keep: u32,
    /// Request and response headers that are logged by name, values redacted where they are secret.
    pub headers: Vec<http::HeaderName>,
}

/// HTTP/3 beside the TLS listeners, and how clients hear of it (`Alt-Svc`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http3 {
    /// Where clients reach it; `None`: the listener's own port.
    pub port: Option<u16>,
    /// How long they may remember.
    pub max_age: std::time::Duration,
}
