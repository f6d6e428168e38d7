//! Where traces, metrics and logs go. What stands in the document is no secret: keys are references.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use tidegate_model::Feature;
use tidegate_policy::{Otlp, OtlpProtocol};

use super::secret::Secrets;
use super::{Report, certificate, header, references};
use crate::document::{OtlpRule, OtlpWire};
use crate::inputs::Inputs;
use crate::path::Path;
use crate::units::{Share, Span};

const INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3_600);
const QUEUE: u32 = 16_384;
const MOST_HEADERS: usize = 32;
const MOST_ATTRIBUTES: usize = 64;
const SHAPE: &str = "write `http://127.0.0.1:4317`";
/// The exporter's own.
const FIXED: [&str; 5] = ["content-type", "te", "user-agent", "content-encoding", "grpc-timeout"];

/// `None`: it cannot be told before its secrets are known, or it is wrong.
pub(super) fn compile(
    rule: &OtlpRule,
    secrets: &Secrets<'_>,
    inputs: &Inputs,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Option<Arc<Otlp>> {
    let OtlpRule {
        endpoint,
        protocol,
        headers,
        ca,
        traces,
        metrics,
        logs,
        sample,
        parent_based,
        interval,
        queue,
        attributes,
    } = rule;
    if inputs.lacks(Feature::Otlp) {
        let hint = "leave it out, or serve a build with the cargo feature `otlp` (the default has it)";
        report.hinted(path, "this node's program was built without OpenTelemetry", hint);
        return None;
    }
    let at = path.field("endpoint");
    let filled = secrets.fill_with(endpoint, &at, report, str::to_owned);
    let authority =
        ca.as_ref().and_then(|file| certificate::pem(file, "CERTIFICATE", inputs, &path.field("ca"), report));
    let interval = interval.map_or(INTERVAL, |Span(span)| span);
    if !(SHORTEST..=LONGEST).contains(&interval) {
        report.error(&path.field("interval"), "1s to 1h");
    }
    let queue = queue.unwrap_or(QUEUE);
    if !(64..=1_000_000).contains(&queue) {
        report.error(&path.field("queue"), "64 to 1000000");
    }
    if attributes.len() > MOST_ATTRIBUTES {
        report.error(&path.field("attributes"), format!("at most {MOST_ATTRIBUTES}"));
    }
    for name in attributes.keys().filter(|name| name.is_empty() || name.len() > 256) {
        report.error(&path.field("attributes").field(name), "1 to 256 bytes");
    }
    let headers = self::headers(headers, secrets, &path.field("headers"), report);
    let endpoint = match address(&filled.text) {
        _ if !filled.known => return None,
        Ok(endpoint) => endpoint,
        Err(why) => {
            report.hinted(&at, why, SHAPE);
            return None;
        }
    };
    if ca.is_some() && endpoint.scheme_str() != Some("https") {
        report.hinted(&path.field("ca"), "the collector is not spoken to over TLS", "write `https://` in `endpoint`");
    }
    let protocol = protocol.map_or_else(|| usual(&endpoint), wire);
    if protocol == OtlpProtocol::Grpc && !matches!(endpoint.path(), "" | "/") {
        report.hinted(&at, "gRPC has no path of the caller's choice", "leave the path out, or write `protocol: http`");
    }
    let Share(share) = sample.unwrap_or(Share(1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32 is at most that")]
    let sample = (share * 4_294_967_296.0).round() as u64;
    Some(Arc::new(Otlp {
        protocol,
        endpoint,
        headers,
        authority,
        traces: traces.unwrap_or(true),
        metrics: metrics.unwrap_or(true),
        logs: logs.unwrap_or(false),
        sample,
        parent_based: parent_based.unwrap_or(true),
        interval,
        queue: queue as usize,
        resource: attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    }))
}

fn wire(named: OtlpWire) -> OtlpProtocol {
    match named {
        OtlpWire::Grpc => OtlpProtocol::Grpc,
        OtlpWire::Http => OtlpProtocol::Http,
    }
}

fn usual(endpoint: &Uri) -> OtlpProtocol {
    let http = endpoint.port_u16() == Some(4318) || !matches!(endpoint.path(), "" | "/");
    if http { OtlpProtocol::Http } else { OtlpProtocol::Grpc }
}

/// The text may be secret: it is not repeated.
fn address(text: &str) -> Result<Uri, &'static str> {
    let endpoint = text.parse::<Uri>().map_err(|_| "it is no URL")?;
    match endpoint.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err("it is neither http nor https"),
    }
    if endpoint.host().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    if endpoint.query().is_some() || endpoint.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("a query, or a user in the address, is not sent");
    }
    Ok(endpoint)
}

fn headers(
    texts: &std::collections::BTreeMap<String, String>,
    secrets: &Secrets<'_>,
    path: &Path<'_>,
    report: &Report<'_>,
) -> Vec<(HeaderName, HeaderValue)> {
    if texts.len() > MOST_HEADERS {
        report.error(path, format!("at most {MOST_HEADERS}"));
    }
    let each = texts.iter().filter_map(|(text, value)| {
        let at = path.field(text);
        let name = header::changeable(text, &at, report)?;
        if FIXED.contains(&name.as_str()) {
            report.hinted(&at, "the exporter's own", "leave it out");
        }
        if header::is_secret(name.as_str()) && references(value).is_empty() {
            let hint = "list it in `secrets` and write `${secrets.NAME}`: documents are shown to who may read them";
            report.hinted(&at, "a key does not belong into the document", hint);
        }
        Some((name, header::filled(value, Some(secrets), &at, report)?))
    });
    each.collect()
}
