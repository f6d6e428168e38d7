//! A set of endpoints that serve the same thing, and how to call them.

use std::time::Duration;

use crate::{Beside, Breaker, Health, Overload};

/// Stable across documents: the upstream's name. Connections, health and counters are keyed by it.
pub type UpstreamId = std::sync::Arc<str>;

#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub id: UpstreamId,
    pub endpoints: Vec<Endpoint>,
    pub balance: Balance,
    pub protocol: Protocol,
    pub timeouts: UpstreamTimeouts,
    pub retries: Retries,
    /// Open connections to one endpoint; further requests wait for one, up to `timeouts.connect`.
    pub max_connections: usize,
    /// Idle connections kept to one endpoint.
    pub max_idle: usize,
    pub idle_timeout: Duration,
    pub tls: UpstreamTls,
    /// Each connection begins by saying for which client it is made.
    pub announce: Option<Announce>,
    pub breaker: Option<Breaker>,
    pub health: Option<Health>,
    /// `None`: as many requests run as come.
    pub overload: Option<Overload>,
    /// Requests whose answers are late are asked a second time.
    pub hedge: Option<Beside>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://10.0.0.5:8000`: a fixed host, a name is resolved when connecting.
    Url { https: bool, host: String, port: u16, weight: u32 },
    /// Every address of a name is an endpoint; looked up again as its time to live says.
    Dns { https: bool, name: String, port: u16, weight: u32 },
    /// Every target of a name's SRV records of the best priority; their weights are the records'.
    Srv { https: bool, name: String },
    /// What a file of this node lists, read again when it changes.
    File { path: String },
}

impl Upstream {
    /// Is HTTP/2 spoken with any of it, as gRPC needs?
    #[must_use]
    pub fn may_speak_http2(&self) -> bool {
        let tls = |endpoint: &Endpoint| match endpoint {
            Endpoint::Url { https, .. } | Endpoint::Dns { https, .. } | Endpoint::Srv { https, .. } => *https,
            Endpoint::File { .. } => true,
        };
        match self.protocol {
            Protocol::Auto => self.endpoints.iter().any(tls),
            Protocol::Http1 => false,
            Protocol::Http2 => true,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Smooth weighted round robin.
    #[default]
    RoundRobin,
    /// The less loaded of two drawn at random, load = requests in flight / weight.
    LeastRequest,
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1 in clear; what ALPN says over TLS.
    #[default]
    Auto,
    Http1,
    /// HTTP/2 with prior knowledge (h2c) in clear.
    Http2,
}

/// The PROXY protocol, towards an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    V1,
    V2,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    pub connect: Duration,
    /// From the end of the request head to the response head.
    pub first_byte: Duration,
    /// The whole exchange, retries included; `None`: unbounded (streams).
    pub total: Option<Duration>,
    /// Longest silence between two parts of a body, either way.
    pub idle: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Retries {
    /// Tries after the first.
    pub max: u32,
    /// Share of this upstream's recent requests that may be retries, 0.0 to 1.0.
    pub budget: f64,
    pub on: Vec<RetryOn>,
    /// Retry methods that are not idempotent as well (RFC 9110 § 9.2.2).
    pub unsafe_methods: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection: the request was never sent, any method may be retried.
    Connect,
    /// The connection broke before the response head.
    Reset,
    /// No response head within `first_byte`.
    Timeout,
    Status(u16),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// PEM roots to trust instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Name to verify and to send as SNI instead of the endpoint's host.
    pub server_name: Option<String>,
    /// What we show when we are asked who we are.
    pub identity: Option<TlsIdentity>,
}

/// A certificate that we show as a client.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    pub chain_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsIdentity").finish_non_exhaustive()
    }
}
