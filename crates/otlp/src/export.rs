//! OpenTelemetry's exporters for one collector, as the document has it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter as _};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tidegate_policy::Otlp;
use tonic::metadata::MetadataMap;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber as _;

use crate::lane::Exports;
use crate::line::Line;
use crate::partial::Ear;
use crate::tell::Sent;
use crate::transport::{ATTEMPT, Attempts, Post, Poster, Transport};

/// For all attempts to tell one thing, with the pauses that the collector asks for.
const WHOLE: Duration = Duration::from_secs(60);

pub(crate) struct Exporters {
    pub(crate) spans: Exporter<SpanExporter>,
    pub(crate) metrics: Exporter<MetricExporter>,
    pub(crate) lines: Exporter<LogExporter>,
}

/// One for each kind of things that are told: spans, metrics, lines of the log.
type Each<'a> = &'a [Arc<Attempts>; 3];

/// An exporter, and what is known about its attempts.
pub(crate) struct Exporter<T> {
    exporter: T,
    attempts: Arc<Attempts>,
    ear: Ear,
    dispatch: Dispatch,
}

impl Exporters {
    /// `failed`: counts attempts that failed.
    pub(crate) fn new(
        rules: &Otlp,
        resource: &Resource,
        transport: &Transport,
        failed: &Arc<AtomicU64>,
    ) -> Result<Self, String> {
        let each = std::array::from_fn(|_| Attempts::new(failed));
        let (mut spans, metrics, mut lines) = match transport {
            Transport::Grpc(channel) => grpc(rules, channel, &each),
            Transport::Http(post) => over_http(rules, post, &each),
        }
        .map_err(|why| why.to_string())?;
        spans.set_resource(resource);
        lines.set_resource(resource);
        let [of_spans, of_metrics, of_lines] = each;
        Ok(Self {
            spans: Exporter::new(spans, of_spans),
            metrics: Exporter::new(metrics, of_metrics),
            lines: Exporter::new(lines, of_lines),
        })
    }
}

type Built = Result<(SpanExporter, MetricExporter, LogExporter), opentelemetry_otlp::ExporterBuildError>;

fn grpc(rules: &Otlp, channel: &tonic::transport::Channel, [of_spans, of_metrics, of_lines]: Each<'_>) -> Built {
    let metadata = MetadataMap::from_headers(rules.headers.iter().cloned().collect::<HeaderMap>());
    let each = |attempts: &Arc<Attempts>| {
        let (attempts, metadata) = (Arc::clone(attempts), metadata.clone());
        move |mut request: tonic::Request<()>| {
            attempts.begin();
            // The document's, and no others: not those of the environment.
            *request.metadata_mut() = metadata.clone();
            Ok::<_, tonic::Status>(request)
        }
    };
    let builder = SpanExporter::builder().with_tonic().with_protocol(Protocol::Grpc).with_timeout(WHOLE);
    let spans = builder.with_channel(channel.clone()).with_retry_policy(retries()).with_interceptor(each(of_spans));
    let builder = MetricExporter::builder().with_tonic().with_protocol(Protocol::Grpc).with_timeout(WHOLE);
    let metrics = builder.with_channel(channel.clone()).with_retry_policy(retries()).with_interceptor(each(of_metrics));
    let builder = LogExporter::builder().with_tonic().with_protocol(Protocol::Grpc).with_timeout(WHOLE);
    let lines = builder.with_channel(channel.clone()).with_retry_policy(retries()).with_interceptor(each(of_lines));
    Ok((spans.build()?, metrics.build()?, lines.build()?))
}

fn over_http(rules: &Otlp, post: &Post, [of_spans, of_metrics, of_lines]: Each<'_>) -> Built {
    let client = |attempts: &Arc<Attempts>| Poster {
        post: Arc::clone(post),
        headers: rules.headers.clone(),
        attempts: Arc::clone(attempts),
    };
    let base = rules.endpoint.to_string();
    let base = base.trim_end_matches('/');
    let builder = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_timeout(WHOLE);
    let spans = builder.with_endpoint(format!("{base}/v1/traces")).with_retry_policy(retries());
    let builder = MetricExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_timeout(WHOLE);
    let metrics = builder.with_endpoint(format!("{base}/v1/metrics")).with_retry_policy(retries());
    let builder = LogExporter::builder().with_http().with_protocol(Protocol::HttpBinary).with_timeout(WHOLE);
    let lines = builder.with_endpoint(format!("{base}/v1/logs")).with_retry_policy(retries());
    let (spans, metrics) = (spans.with_http_client(client(of_spans)), metrics.with_http_client(client(of_metrics)));
    Ok((spans.build()?, metrics.build()?, lines.with_http_client(client(of_lines)).build()?))
}

/// Three after the first. A collector that says when to come again is heard, for up to half a minute.
fn retries() -> RetryPolicy {
    let policy = RetryPolicy::recommended().with_max_retries(3);
    policy.with_initial_delay(Duration::from_millis(500)).with_max_delay(Duration::from_secs(5))
}

impl<T> Exporter<T> {
    fn new(exporter: T, attempts: Arc<Attempts>) -> Self {
        let ear = Ear::default();
        let dispatch = ear.dispatch();
        Self { exporter, attempts, ear, dispatch }
    }

    /// `Ok(Some(…))`: it did not take all of it.
    async fn send(&self, export: impl Future<Output = OTelSdkResult>) -> Sent {
        self.attempts.anew();
        let export = Box::pin(export.with_subscriber(self.dispatch.clone())); // It is kilobytes large.
        // A collector may begin an answer and never end it: no deadline of the exporter's holds then.
        match tokio::time::timeout(WHOLE + ATTEMPT, export).await {
            Ok(Ok(())) => Ok(self.ear.take()),
            Ok(Err(why)) => Err(self.attempts.gave_up(why.to_string())),
            Err(_) => Err(self.attempts.gave_up(format!("no answer in {:?}", WHOLE + ATTEMPT))),
        }
    }
}

impl Exports<SpanData> for Exporter<SpanExporter> {
    async fn tell(&self, batch: Vec<SpanData>) -> Sent {
        self.send(self.exporter.export(batch)).await
    }
}

impl Exports<Line> for Exporter<LogExporter> {
    async fn tell(&self, batch: Vec<Line>) -> Sent {
        let lines: Vec<_> = batch.iter().map(|line| (&line.record, &line.scope)).collect();
        self.send(self.exporter.export(LogBatch::new(&lines))).await
    }
}

impl Exporter<MetricExporter> {
    pub(crate) async fn tell(&self, metrics: &ResourceMetrics) -> Sent {
        self.send(self.exporter.export(metrics)).await
    }
}
