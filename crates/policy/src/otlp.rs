//! Where traces, metrics and logs go.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

/// A collector of OpenTelemetry's.
#[derive(Clone, PartialEq, Eq)]
pub struct Otlp {
    /// Parts of it may be secret.
    pub endpoint: Uri,
    pub protocol: OtlpProtocol,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Certificates (PEM) that sign the collector's. `None`: the system's.
    pub authority: Option<Vec<u8>>,
    pub traces: bool,
    pub metrics: bool,
    /// The node's own log.
    pub logs: bool,
    /// Of traces that begin here: so many of 2^32.
    pub sample: u64,
    /// Whoever calls decides for traces that he began.
    pub parent_based: bool,
    /// Between two reports of metrics.
    pub interval: Duration,
    /// Spans that wait for the collector, and lines of the log.
    pub queue: usize,
    /// What is told of the node beside its name.
    pub resource: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
