//! Where traces, metrics and logs go.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Share, Span};

/// A collector that takes OTLP: a span of each request, one of each try of an upstream or provider, and metrics, by the
/// semantic conventions for HTTP and generative AI. `traceparent` is taken from callers and told to upstreams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtlpRule {
    /// `http://127.0.0.1:4317`, `https://otlp.example.com/base`. Over HTTP, `/v1/traces`, `/v1/metrics` and `/v1/logs`
    /// are put behind its path; gRPC has none. Parts of it may be secrets: `${secrets.NAME}`.
    pub endpoint: String,
    /// How it is spoken to. Default: `http` at port 4318 and wherever the address has a path, `grpc` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<OtlpWire>,
    /// Sent along, by name. Keys are references to secrets: `${secrets.NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// With `https`: a file of certificates that sign the collector's, on every node. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Tell of spans? Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<bool>,
    /// Tell metrics? Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
    /// Tell the node's own log, what standard error has, line by line? Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<bool>,
    /// Share of the traces that begin here of which spans are told: `10%`, `0.1`. Metrics are of all requests. Default: 100%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Share>,
    /// A caller's `traceparent` says whether its trace is sampled; otherwise `sample` decides for those as well. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_based: Option<bool>,
    /// Between two reports of metrics, 1s to 1h. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Spans that wait for the collector, per node, and as many lines of the log; more are dropped and counted
    /// (`tidegate_otlp_dropped_spans_total`, `tidegate_otlp_dropped_log_records_total`). Default: 16384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_000_000))]
    pub queue: Option<u32>,
    /// Attributes of the resource beside `service.name`, `service.version` and `service.instance.id`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum OtlpWire {
    /// gRPC over HTTP/2.
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}
