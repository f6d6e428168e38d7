//! Where requests go.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BesideRule, BreakerRule, HealthRule, OverloadRule};
use crate::units::{Share, Span};

/// A set of endpoints that serve the same thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamRule {
    /// Used by routes. Connections and counters are kept by it across documents.
    pub name: String,
    /// At least one.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<EndpointAddress>,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub balance: BalanceKind,
    /// How endpoints are spoken to.
    #[serde(default)]
    pub protocol: ProtocolKind,
    /// Bounds on waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<UpstreamTimes>,
    /// When a request is tried again. Default: once, when no connection could be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetryRules>,
    /// Open connections to one endpoint, per node. Default: 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Idle connections kept to one endpoint, per node. Default: 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_idle: Option<u32>,
    /// An idle connection is closed after this. Default: 55s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    /// For `https` endpoints. Default: the system's roots and the endpoint's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTlsRule>,
    /// Begin each connection with the PROXY protocol, so that endpoints learn the client's address; before TLS. A connection
    /// is then kept for requests of the same client connection alone; checks speak for themselves. Default: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocolKind>,
    /// Endpoints are asked whether they are well. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthRule>,
    /// When an endpoint is no longer asked. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerRule>,
    /// How many requests run here at once, and who waits. Default: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<OverloadRule>,
    /// Late answers are asked for a second time. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<BesideRule>,
}

/// Exactly one of `url`, `dns` (with `port`), `srv`, `file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointAddress {
    /// `http://10.0.0.5:8000` or `https://api.internal`: scheme, host and port, no path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A name, every address of which is an endpoint; looked up again as its time to live says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// A name with SRV records (`_http._tcp.users.internal`): each target of the best priority is an endpoint, by the
    /// records' ports and weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srv: Option<String>,
    /// The absolute path of a file on each node that lists endpoints in JSON: `[{"url": "http://10.0.0.5:8000", "weight":
    /// 2}]`. It is read again when it changes; while it is bad the last good list holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// With `dns`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// With `dns` and `srv`: speak TLS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub https: bool,
    /// With `url` and `dns`: its share of the requests, against the other endpoints; 0 takes none.
    #[serde(default = "one")]
    #[schemars(range(max = 65_535))]
    pub weight: u32,
}

pub(super) fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum BalanceKind {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The less loaded of two drawn at random.
    LeastRequest,
    /// At random, by weight.
    Random,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ProtocolKind {
    /// HTTP/1.1 in clear, what ALPN chooses over TLS.
    #[default]
    Auto,
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/2 alone; with prior knowledge (h2c) in clear. For gRPC.
    Http2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ProxyProtocolKind {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Bounds on waiting for an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTimes {
    /// To connect, TLS included; also to wait for a free connection. Default: 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Span>,
    /// From the end of the request head to the response head. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Span>,
    /// The whole exchange, retries included. Default: unbounded, for streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Span>,
    /// The longest silence between two parts of a body, either way. Default: 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Span>,
}

/// When a request is tried again, on another endpoint where there is one. Each further try that the upstream may have seen
/// takes a permit of all the route's limits anew; without one the last answer stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryRules {
    /// Tries after the first, 0 to 10; 0: nothing is sent twice. A kept connection that breaks as it is used again counts as
    /// a try, and what may be repeated is then sent once more whatever `on` says. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10))]
    pub max: Option<u32>,
    /// Share of the upstream's recent requests that may be retries. Default: 20%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Share>,
    /// `connect`: no connection; `reset`: it broke before the response head; `timeout`: no head within `first_byte`; or a
    /// status from 400 to 599. Default: [connect].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<RetryCause>>,
    /// Also retry methods that are not idempotent (POST, PATCH). What was never sent, or what an HTTP/2 upstream says that it
    /// did not look at (REFUSED_STREAM, GOAWAY), is retried whatever the method, as `connect`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsafe_methods: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryCause {
    Connect,
    Reset,
    Timeout,
    Status(u16),
}

impl Serialize for RetryCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Connect => serializer.serialize_str("connect"),
            Self::Reset => serializer.serialize_str("reset"),
            Self::Timeout => serializer.serialize_str("timeout"),
            Self::Status(status) => serializer.serialize_u16(*status),
        }
    }
}

impl<'de> Deserialize<'de> for RetryCause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Cause;
        impl Visitor<'_> for Cause {
            type Value = RetryCause;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`connect`, `reset`, `timeout` or a status from 400 to 599")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<RetryCause, E> {
                let status = u16::try_from(number).ok().filter(|status| (400..600).contains(status));
                status.map(RetryCause::Status).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RetryCause, E> {
                match text {
                    "connect" => Ok(RetryCause::Connect),
                    "reset" => Ok(RetryCause::Reset),
                    "timeout" => Ok(RetryCause::Timeout),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Cause)
    }
}

impl JsonSchema for RetryCause {
    fn schema_name() -> Cow<'static, str> {
        "RetryCause".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"type": "string", "enum": ["connect", "reset", "timeout"]},
            {"type": "integer", "minimum": 400, "maximum": 599}
        ]})
    }
}

/// TLS towards endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTlsRule {
    /// A file of PEM roots to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The name to verify and to send as SNI instead of the endpoint's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// A file with the certificate to show to endpoints that ask for one (mTLS), and its chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// With `cert`: a file with its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}
