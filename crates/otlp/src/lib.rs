//! What a collector of OpenTelemetry's is told, by OpenTelemetry's own crates: spans of requests and of their tries,
//! metrics, and the node's own log. Spans and lines wait here, bounded, until they are taken there; nobody waits for that.
//!
//! The only crate that names `opentelemetry`. Told of each request by `telemetry`; knows no document, no certificate and
//! no socket: `tidegate` brings connections as a [`Transport`]. Behind the binary's feature `otlp`.

mod calls;
mod export;
mod lane;
mod line;
mod metrics;
mod partial;
mod queue;
mod span;
mod tell;
mod transport;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use tidegate_model::Nanos;
use tidegate_policy::Otlp;
use tidegate_telemetry::{Kind, Listener, Record, Sample, Telemetry};
use tokio::sync::watch;

use crate::lane::Lane;
use crate::metrics::Metrics;

pub use line::Lines;
pub use transport::{Post, Transport};

/// What is on its way to the collector.
pub struct Collected {
    telemetry: Weak<Telemetry>,
    /// Who this node is.
    own: [KeyValue; 3],
    rules: ArcSwapOption<Otlp>,
    /// Says that the rules are others.
    changes: watch::Sender<()>,
    spans: Lane<SpanData>,
    lines: Lines,
    metrics: ArcSwapOption<Metrics>,
    /// Attempts that failed.
    failed: Arc<AtomicU64>,
    /// The collector does not take metrics.
    trouble: AtomicBool,
}

impl Collected {
    /// Listens to what requests come to from now on, and puts `tidegate_otlp_*` on the metrics page. `name`: the node's.
    /// `lines`: of its log.
    #[must_use]
    pub fn start(telemetry: &Arc<Telemetry>, name: &str, lines: Lines) -> Arc<Self> {
        let own = [
            KeyValue::new("service.name", "tidegate"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", name.to_owned()),
        ];
        let collected = Arc::new(Self {
            telemetry: Arc::downgrade(telemetry),
            own,
            rules: ArcSwapOption::empty(),
            changes: watch::Sender::new(()),
            spans: Lane::new("spans"),
            lines,
            metrics: ArcSwapOption::empty(),
            failed: Arc::default(),
            trouble: AtomicBool::new(false),
        });
        collected.register(telemetry);
        telemetry.listen(Arc::clone(&collected) as _);
        collected
    }

    /// What the document says of the node is worth more.
    fn resource(&self, rules: &Otlp) -> Resource {
        let named = rules.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
        Resource::builder_empty().with_attributes(self.own.clone()).with_attributes(named).build()
    }

    fn register(self: &Arc<Self>, telemetry: &Telemetry) {
        let each = |name, help, kind, of: fn(&Self) -> u64| {
            let it = Arc::clone(self);
            #[expect(clippy::cast_precision_loss, reason = "2^53 spans are more than a node lives to tell")]
            let sample = move || vec![Sample { labels: vec![], value: of(&it) as f64 }];
            telemetry.register(name, help, kind, sample);
        };
        let help = "Spans that wait for the collector";
        each("otlp_waiting_spans", help, Kind::Gauge, |it| it.spans.waiting() as u64);
        each("otlp_spans", "Spans that the collector took", Kind::Counter, |it| it.spans.told());
        let help = "Spans lost: too many waited, or the collector did not take them";
        each("otlp_dropped_spans", help, Kind::Counter, |it| it.spans.dropped());
        let help = "Lines of the node's log that wait for the collector";
        each("otlp_waiting_log_records", help, Kind::Gauge, |it| it.lines.lane().waiting() as u64);
        let help = "Lines of the node's log that the collector took";
        each("otlp_log_records", help, Kind::Counter, |it| it.lines.lane().told());
        let help = "Lines of the node's log lost to the collector: too many waited, or it did not take them";
        each("otlp_dropped_log_records", help, Kind::Counter, |it| it.lines.lane().dropped());
        let help = "Attempts to reach the collector that failed";
        each("otlp_failed_exports", help, Kind::Counter, |it| it.failed.load(Relaxed));
    }
}

impl Listener for Collected {
    fn follow(&self, rules: Option<&Arc<Otlp>>) {
        self.rules.store(rules.cloned());
        if rules.is_none_or(|rules| !rules.traces) {
            self.spans.clear();
        }
        self.lines.wanted(rules.filter(|rules| rules.logs).map(|rules| rules.queue));
        match rules.filter(|rules| rules.metrics) {
            None => self.metrics.store(None),
            Some(rules) => {
                let resource = self.resource(rules);
                // What was counted stays, unless the node is another one now.
                if self.metrics.load().as_ref().is_none_or(|metrics| metrics.resource != resource) {
                    self.metrics.store(Some(Arc::new(Metrics::new(resource, &self.telemetry))));
                }
            }
        }
        self.changes.send_replace(());
    }

    fn finished(&self, record: &Record, took: Nanos, ended: Nanos) {
        let rules = self.rules.load();
        let Some(rules) = rules.as_ref() else { return };
        if let Some(metrics) = &*self.metrics.load() {
            metrics.count(record, took);
        }
        let Some(trace) = record.trace.as_ref().filter(|trace| trace.sampled && rules.traces) else { return };
        if self.spans.waiting() >= rules.queue {
            return self.spans.lost(span::number(record)); // Nothing is put together for nobody.
        }
        self.spans.put(span::spans(record, trace, took, ended), rules.queue);
    }
}
