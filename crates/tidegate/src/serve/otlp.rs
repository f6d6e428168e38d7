//! Takes what telemetry has for a collector there: batches of spans as they come, metrics now and then. A collector that
//! is down holds up nobody: spans wait in their bounded queue, and what it does not take in some tries is lost and counted.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use tidegate_policy::{Otlp, OtlpProtocol};
use tidegate_telemetry::{Batch, Telemetry};
use tokio::time::{Instant, timeout, timeout_at};

use crate::connect::Connector;

/// Spans that are fewer than a batch wait so long.
const LINGER: Duration = Duration::from_secs(1);
const ATTEMPT: Duration = Duration::from_secs(10);
/// Tries of one batch, and the pauses between them.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MOST_ANSWER: usize = 64 << 10;

type Client = legacy::Client<Connector, Full<Bytes>>;

#[derive(Debug, Clone, Copy)]
enum What {
    Traces,
    Metrics,
}

/// Why a collector did not take something.
enum Refused {
    /// Another try may help.
    Later(String),
    /// None will.
    Never(String),
}

/// One collector, as the document has it.
struct Exporter {
    rules: Arc<Otlp>,
    client: Client,
}

/// As long as this node runs: tells whatever collector the document of the time names.
pub(super) async fn tell_forever(telemetry: Arc<Telemetry>) {
    let mut well = true;
    loop {
        let Some(rules) = telemetry.collected().rules() else {
            changed(&telemetry, None).await;
            continue;
        };
        match Exporter::new(&rules) {
            Ok(exporter) => exporter.tell(&telemetry, &mut well).await,
            Err(why) => {
                tracing::error!(%why, "the collector of traces and metrics cannot be spoken to");
                changed(&telemetry, Some(&rules)).await;
            }
        }
    }
}

/// Who this node is, to a collector.
pub(super) fn introduce(telemetry: &Telemetry, name: &str) {
    let resource =
        [("service.name", "tidegate"), ("service.version", env!("CARGO_PKG_VERSION")), ("service.instance.id", name)];
    telemetry.collected().is(resource.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
}

/// Waits for other rules.
async fn changed(telemetry: &Telemetry, rules: Option<&Arc<Otlp>>) {
    poll_fn(|context| {
        telemetry.collected().wakes(context);
        if telemetry.collected().rules().as_ref() == rules { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}

/// The last of a node that stops.
pub(super) async fn flush(telemetry: &Telemetry, within: Duration) {
    let Some(rules) = telemetry.collected().rules() else { return };
    let Ok(exporter) = Exporter::new(&rules) else { return };
    let all = async {
        while let Some(batch) = telemetry.collected().take() {
            let sent = exporter.send(What::Traces, Bytes::from(batch.body)).await;
            telemetry.collected().note(batch.spans, sent.is_ok());
        }
        if rules.metrics {
            let _best_effort = exporter.send(What::Metrics, Bytes::from(telemetry.collected_metrics())).await;
        }
    };
    let _best_effort = timeout(within, all).await;
}

impl Exporter {
    fn new(rules: &Arc<Otlp>) -> Result<Self, String> {
        let grpc = rules.protocol == OtlpProtocol::Grpc;
        let alpn: &[&[u8]] = if grpc { &[b"h2"] } else { &[b"http/1.1"] };
        let connector = match rules.endpoint.scheme_str() {
            Some("https") => Connector::tls(rules.authority.clone(), alpn).map_err(|why| why.to_string())?,
            _ => Connector::plain(),
        };
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.http2_only(grpc).pool_max_idle_per_host(1).pool_idle_timeout(Duration::from_secs(60));
        Ok(Self { rules: Arc::clone(rules), client: builder.build(connector) })
    }

    /// Until the document says otherwise.
    async fn tell(&self, telemetry: &Telemetry, well: &mut bool) {
        let collected = telemetry.collected();
        let mut metrics_at = Instant::now() + self.rules.interval;
        while collected.rules().as_ref() == Some(&self.rules) {
            let wakes = (Instant::now() + LINGER).min(metrics_at);
            let rung = poll_fn(|context| {
                collected.wakes(context);
                let changed = collected.rules().as_ref() != Some(&self.rules);
                if changed || collected.is_ready() { Poll::Ready(()) } else { Poll::Pending }
            });
            let _whichever = timeout_at(wakes, rung).await;
            while let Some(batch) = collected.take() {
                self.deliver(telemetry, batch, well).await;
                if collected.rules().as_ref() != Some(&self.rules) {
                    return;
                }
            }
            if Instant::now() >= metrics_at {
                metrics_at = Instant::now() + self.rules.interval;
                if self.rules.metrics {
                    let body = Bytes::from(telemetry.collected_metrics());
                    if let Err(Refused::Later(why) | Refused::Never(why)) = self.send(What::Metrics, body).await {
                        collected.note_failure();
                        warn(well, &why);
                    }
                }
            }
        }
    }

    async fn deliver(&self, telemetry: &Telemetry, batch: Batch, well: &mut bool) {
        let collected = telemetry.collected();
        let body = Bytes::from(batch.body);
        let mut pause = FIRST_PAUSE;
        for again in (0..TRIES).rev() {
            let why = match self.send(What::Traces, body.clone()).await {
                Ok(()) => {
                    if !std::mem::replace(well, true) {
                        tracing::info!("the collector of traces and metrics is reached again");
                    }
                    return collected.note(batch.spans, true);
                }
                Err(Refused::Never(why)) => {
                    collected.note_failure();
                    warn(well, &why);
                    break;
                }
                Err(Refused::Later(why)) => why,
            };
            collected.note_failure();
            warn(well, &why);
            if again > 0 && collected.rules().as_ref() == Some(&self.rules) {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
        collected.note(batch.spans, false);
    }

    async fn send(&self, what: What, body: Bytes) -> Result<(), Refused> {
        let exchange = async {
            match self.rules.protocol {
                OtlpProtocol::Http => self.post(what, body).await,
                OtlpProtocol::Grpc => self.call(what, &body).await,
            }
        };
        timeout(ATTEMPT, exchange).await.unwrap_or_else(|_| Err(Refused::Later(format!("no answer in {ATTEMPT:?}"))))
    }

    fn request(&self, path: &str, kind: &'static str, body: Bytes) -> Result<Request<Full<Bytes>>, Refused> {
        let mut parts = self.rules.endpoint.clone().into_parts();
        let base = self.rules.endpoint.path().trim_end_matches('/');
        parts.path_and_query = Some(format!("{base}{path}").parse().map_err(never)?);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_parts(parts).map_err(never)?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &self.rules.headers {
            headers.insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    async fn post(&self, what: What, body: Bytes) -> Result<(), Refused> {
        let path = match what {
            What::Traces => "/v1/traces",
            What::Metrics => "/v1/metrics",
        };
        let request = self.request(path, "application/x-protobuf", body)?;
        let answer = self.client.request(request).await.map_err(|why| Refused::Later(reason(&why)))?;
        let status = answer.status();
        // What it says is not read further than needed to use the connection again.
        let _rest = Limited::new(answer.into_body(), MOST_ANSWER).collect().await;
        match status {
            _ if status.is_success() => Ok(()),
            // OTLP/HTTP: these may be tried again.
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(Refused::Later(format!("it answered {status}"))),
            _ => Err(Refused::Never(format!("it answered {status}"))),
        }
    }

    async fn call(&self, what: What, body: &Bytes) -> Result<(), Refused> {
        let path = match what {
            What::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            What::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        };
        let mut framed = BytesMut::with_capacity(body.len() + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(body.len()).map_err(never)?);
        framed.extend_from_slice(body);
        let mut request = self.request(path, "application/grpc", framed.freeze())?;
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        *request.version_mut() = http::Version::HTTP_2;
        let answer = self.client.request(request).await.map_err(|why| Refused::Later(reason(&why)))?;
        let (head, body) = answer.into_parts();
        let rest = Limited::new(body, MOST_ANSWER).collect().await;
        let rest = rest.map_err(|why| Refused::Later(why.to_string()))?;
        let code = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse::<u32>().ok();
        match rest.trailers().and_then(code).or_else(|| code(&head.headers)) {
            Some(0) => Ok(()),
            // The codes that OTLP/gRPC lets be tried again.
            Some(code @ (1 | 4 | 8 | 10 | 11 | 14 | 15)) => Err(Refused::Later(format!("it answered code {code}"))),
            Some(code) => Err(Refused::Never(format!("it answered code {code}"))),
            None => Err(Refused::Never(format!("it answered {}, and that is not gRPC", head.status))),
        }
    }
}

fn never(why: impl std::fmt::Display) -> Refused {
    Refused::Never(why.to_string())
}

/// Once, until it works again: the metric counts the rest.
fn warn(well: &mut bool, why: &str) {
    if std::mem::replace(well, false) {
        tracing::warn!(why, "the collector of traces and metrics does not take what it is told");
    }
}

/// With what lies behind it. The address is not named: it may be secret.
fn reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        reason = format!("{reason}: {error}");
        source = error.source();
    }
    reason
}
