//! Certificates from an authority.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An authority that is asked for certificates (ACME, RFC 8555), as Let's Encrypt is. Account, orders and keys are the cluster's,
/// sealed in its state; the node that leads it orders and renews, and every node answers the authority's challenges:
/// `http-01` on all HTTP listeners, `tls-alpn-01` on all TLS listeners.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeRules {
    /// URL of its directory. Default: Let's Encrypt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// You agree to the authority's terms of service. Without it nothing is ordered.
    pub terms_agreed: bool,
    /// E-mail addresses that the authority writes to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
    /// What is to be had, and kept fresh: renewed when two thirds of its life are over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<AcmeCertificateRule>,
    /// Which challenges are answered, the preferred first; after a refusal the next is tried. Default: `http-01`, `tls-alpn-01`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub challenges: Vec<AcmeChallengeKind>,
    /// Of the certificates' keys.
    #[serde(default)]
    pub key: AcmeKeyKind,
    /// A file of certificates (PEM) that sign the directory's, on every node. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// An account that you have with the authority already, where it wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_account: Option<AcmeExternalRule>,
}

/// One certificate for one or more hosts. It is served to whoever asks for one of them; `certificates[].stored` names it where more
/// is to be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeCertificateRule {
    /// Unique: `tidegate cert ls` shows it.
    pub name: String,
    /// Host names, without wildcards. The authority must reach this cluster by each of them.
    #[schemars(length(min = 1))]
    pub hosts: Vec<String>,
}

/// Another account that vouches for ours (RFC 8555 § 7.3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeExternalRule {
    /// What the authority calls it.
    pub kid: String,
    /// `${secrets.NAME}`: its key, in base64url as the authority gives it out.
    pub hmac: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum AcmeChallengeKind {
    /// The authority looks on port 80.
    #[serde(rename = "http-01")]
    Http01,
    /// The authority looks on port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AcmeKeyKind {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
}
