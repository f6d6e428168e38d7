//! The way to a collector: connections of this binary, with TLS as the document has it. Without the cargo feature `otlp`
//! nothing is told, and documents that name a collector are refused (`inputs.rs`).

use std::sync::Arc;
use std::time::Duration;

use tidegate_telemetry::{Also, Telemetry};

#[cfg(feature = "otlp")]
pub(super) use tidegate_otlp::Lines;
#[cfg(feature = "otlp")]
use tidegate_otlp::{Collected, Transport};
#[cfg(feature = "otlp")]
use tidegate_policy::{Otlp, OtlpProtocol};

#[cfg(feature = "otlp")]
use crate::connect::Connector;

#[cfg(feature = "otlp")]
pub(super) struct Collector(Arc<Collected>);

#[cfg(feature = "otlp")]
impl Collector {
    /// From now on whatever collector the document of the time names is told of requests, and of `lines`. `name`: the node's.
    pub(super) fn start(telemetry: &Arc<Telemetry>, name: &str, lines: Lines) -> Self {
        let collected = Collected::start(telemetry, name, lines);
        tokio::spawn(Arc::clone(&collected).tell_forever(connect));
        Self(collected)
    }

    /// The last of a node that stops.
    pub(super) async fn flush(&self, within: Duration) {
        self.0.flush(connect, within).await;
    }
}

/// Hears the node's log from its first line on.
#[cfg(feature = "otlp")]
pub(super) fn hear() -> (Lines, Option<Also>) {
    let (lines, also) = Lines::hear();
    (lines, Some(also))
}

#[cfg(feature = "otlp")]
fn connect(rules: &Otlp) -> Result<Transport, String> {
    let alpn: &[&[u8]] = if rules.protocol == OtlpProtocol::Grpc { &[b"h2"] } else { &[b"http/1.1"] };
    let connector = match rules.endpoint.scheme_str() {
        Some("https") => Connector::tls(rules.authority.clone(), alpn).map_err(|why| why.to_string())?,
        _ => Connector::plain(),
    };
    match rules.protocol {
        OtlpProtocol::Grpc => Transport::grpc(&rules.endpoint, connector),
        OtlpProtocol::Http => Ok(Transport::http(connector)),
    }
}

#[cfg(not(feature = "otlp"))]
pub(super) struct Collector;

#[cfg(not(feature = "otlp"))]
#[derive(Clone)]
pub(super) struct Lines;

#[cfg(not(feature = "otlp"))]
pub(super) fn hear() -> (Lines, Option<Also>) {
    (Lines, None)
}

#[cfg(not(feature = "otlp"))]
impl Collector {
    pub(super) fn start(_: &Arc<Telemetry>, _: &str, _: Lines) -> Self {
        Self
    }

    pub(super) async fn flush(&self, _: Duration) {}
}
