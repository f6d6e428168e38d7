//! What holds for all listeners, and what is logged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OtlpRule;
use crate::units::{Size, Span};

/// What holds for all listeners. Their addresses are the node's own business: `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listeners {
    /// Addresses or networks of load balancers in front, whose `X-Forwarded-*` and `Forwarded` headers are believed.
    /// Default: nobody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<String>,
    /// Addresses or networks of load balancers in front whose connections begin with the PROXY protocol, version 1 or 2, clear
    /// or before TLS. Connections from there without it are closed. Default: nobody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proxy_protocol: Vec<String>,
    /// The cluster's keys of TLS session tickets are renewed after this, and no session is taken up again after it: 1m to 7d.
    /// Default: 6h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket_rotation: Option<Span>,
    /// Speak HTTP/3 on the UDP port of each TLS listener, too, with the same certificates: `http3: {}`. Needs a build with the
    /// cargo feature `h3`. Default: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http3: Option<Http3Rule>,
}

/// HTTP/3, and how clients that come over TCP are told of it (`Alt-Svc`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http3Rule {
    /// The UDP port that clients reach it at, where that is not the listener's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How long clients may remember: up to 365d. Default: 1d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
}

/// What is logged and told. Metrics are always on (`/metrics`).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TelemetryRules {
    /// One line per request. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLogRule>,
    /// Tell clients in `x-tidegate-revision` which revision of the document answered them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revision_header: bool,
    /// Traces and metrics for a collector of OpenTelemetry's. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpRule>,
}

/// One line per request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLogRule {
    /// How a line is written.
    #[serde(default)]
    pub format: AccessLogFormat,
    /// Where. Default: standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The file is rotated when it has this size, at least 1MiB. Default: never (SIGUSR1 reopens it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Size>,
    /// Rotated files that are kept. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep: Option<u32>,
    /// Request and response headers that are logged too; secret ones are redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AccessLogFormat {
    /// One JSON object per line.
    #[default]
    Json,
}
