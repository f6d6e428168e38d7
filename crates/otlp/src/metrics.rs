//! The metrics that a collector is told, by OpenTelemetry's SDK: histograms of each request, and counters that stand in
//! the node's meters anyway and are read when somebody asks. Cumulative, from when the document first named a collector.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter, MeterProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Stream, Temporality};
use tidegate_model::Nanos;
use tidegate_telemetry::{ModelSums, Record, Telemetry};

use crate::calls::Calls;
use crate::span::SCOPE;

/// Series of one metric; the SDK tells what would be more as one with `otel.metric.overflow`.
const SERIES: usize = 2_000;
const REQUESTS: &str = "tidegate.requests";
/// Series of requests: routes, methods and classes are a thousand, ten and six at most. The rest is left out.
const MOST_COUNTED: usize = 20_000;

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) resource: Resource,
    reader: Reader,
    calls: Calls,
    /// Lets go of its instruments when it is dropped.
    _provider: SdkMeterProvider,
}

impl Metrics {
    pub(crate) fn new(resource: Resource, telemetry: &Weak<Telemetry>) -> Self {
        let reader = Reader(Arc::new(ManualReader::builder().with_temporality(Temporality::Cumulative).build()));
        let builder = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(reader.clone());
        let provider = builder
            .with_view(|instrument| {
                let limit = if instrument.name() == REQUESTS { MOST_COUNTED + 1 } else { SERIES };
                Stream::builder().with_cardinality_limit(limit).build().ok()
            })
            .build();
        let meter = provider.meter_with_scope(SCOPE.clone());
        requests(&meter, telemetry);
        models(&meter, telemetry);
        Self { resource, reader, calls: Calls::new(&meter), _provider: provider }
    }

    pub(crate) fn count(&self, record: &Record, took: Nanos) {
        self.calls.count(record, took);
    }

    /// All of it, as it stands now. `None`: nothing was counted.
    pub(crate) fn read(&self) -> Option<ResourceMetrics> {
        let mut metrics = ResourceMetrics::default();
        self.reader.collect(&mut metrics).ok()?;
        let any = metrics.scope_metrics().any(|scope| scope.metrics().next().is_some());
        any.then_some(metrics)
    }
}

fn requests(meter: &Meter, telemetry: &Weak<Telemetry>) {
    let telemetry = Weak::clone(telemetry);
    let counter = meter.u64_observable_counter(REQUESTS).with_unit("{request}");
    let counter = counter.with_description("Requests by route, method and class of the answer");
    counter
        .with_callback(move |out| {
            let Some(telemetry) = telemetry.upgrade() else { return };
            let mut left = MOST_COUNTED;
            telemetry.each_route(|route, method, class, count| {
                if left > 0 {
                    left -= 1;
                    let names = [
                        KeyValue::new("http.route", route.to_owned()),
                        KeyValue::new("http.request.method", method),
                        KeyValue::new("class", class),
                    ];
                    out.observe(count, &names);
                }
            });
        })
        .build();
}

fn models(meter: &Meter, telemetry: &Weak<Telemetry>) {
    let each = |name: &'static str, unit: &'static str, help: &'static str, of: fn(ModelSums) -> u64| {
        let telemetry = Weak::clone(telemetry);
        let callback = move |out: &dyn AsyncInstrument<u64>| {
            let Some(telemetry) = telemetry.upgrade() else { return };
            telemetry.each_model(|model, sums| {
                if of(sums) > 0 {
                    out.observe(of(sums), &[KeyValue::new("tidegate.llm.model", model.to_owned())]);
                }
            });
        };
        let counter = meter.u64_observable_counter(name).with_unit(unit).with_description(help);
        counter.with_callback(callback).build();
    };
    each("tidegate.llm.cost", "{nanodollar}", "What calls cost, in billionths of a dollar", |of| of.cost_nanos);
    let help = "Deployments that failed before another one was asked";
    each("tidegate.llm.fallbacks", "{deployment}", help, |of| of.fallbacks);
    each("tidegate.llm.cache.hits", "{call}", "Calls answered from the cache", |of| of.cache_hits);
    let help = "Tokens that answers from the cache would have taken";
    each("tidegate.llm.cache.saved_tokens", "{token}", help, |of| of.saved_tokens);
}

/// Read by us, when the interval of the document is over: the SDK's own periodic reader is a thread that blocks on the
/// collector, with an interval that cannot be changed.
#[derive(Debug, Clone)]
struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}
