//! What a collector of OpenTelemetry's is told, in its own words (OTLP, protobuf): spans of requests and of their tries,
//! and metrics. Spans wait here, bounded, until the binary takes them to the collector; no request waits for that.
//!
//! Written by hand, as the lines of the access log are: a span is bytes from the moment that its request ends. Opened by
//! [`crate::Telemetry::apply`]; called by `proxy` through [`crate::Record`], by the binary's exporter.

mod calls;
mod metrics;
mod proto;
mod span;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};
use tidegate_model::Nanos;
use tidegate_policy::Otlp;

use self::calls::Calls;
use self::proto::Message;
use crate::meters::Meters;
use crate::record::Record;

/// Bytes of spans that wait, whatever the document says about their number.
const MOST_BYTES: usize = 64 << 20;

/// Spans on their way, and the metrics that only a collector is told.
#[derive(Debug, Default)]
pub struct Collected {
    on: AtomicBool,
    rules: ArcSwapOption<Otlp>,
    waiting: Mutex<Waiting>,
    count: AtomicUsize,
    calls: Calls,
    /// Who this node is.
    resource: ArcSwapOption<Vec<(String, String)>>,
    pub(crate) told: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) failed: AtomicU64,
    ready: Ready,
}

/// Rung when a good batch waits.
#[derive(Debug, Default)]
struct Ready(Mutex<Option<std::task::Waker>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Each a `Span`, with its tag and length: they can be put one behind the other.
    spans: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

/// Spans for one request to the collector.
#[derive(Debug)]
pub struct Batch {
    /// An `ExportTraceServiceRequest`.
    pub body: Vec<u8>,
    pub spans: usize,
}

/// So many are sent at once.
const BATCH: usize = 512;

impl Collected {
    pub(crate) fn follow(&self, rules: Option<&Arc<Otlp>>) {
        self.rules.store(rules.cloned());
        self.on.store(rules.is_some(), Relaxed);
        if rules.is_none_or(|rules| !rules.traces) {
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Waiting::default();
            self.count.store(0, Relaxed);
        }
        if rules.is_none() {
            self.calls.clear();
        }
        self.ring();
    }

    /// The one branch that requests pay when nothing is told to anybody.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    #[must_use]
    pub fn rules(&self) -> Option<Arc<Otlp>> {
        self.rules.load_full()
    }

    pub(crate) fn rules_now(&self) -> Guard<Option<Arc<Otlp>>> {
        self.rules.load()
    }

    /// Who this node is: attributes of its resource.
    pub fn is(&self, resource: Vec<(String, String)>) {
        self.resource.store(Some(Arc::new(resource)));
    }

    #[cold]
    pub(crate) fn finished(&self, record: &Record, took: Nanos, ended: Nanos) {
        let Some(rules) = &*self.rules.load() else { return };
        if rules.metrics {
            self.calls.count(record, took);
        }
        let Some(trace) = record.trace.as_ref().filter(|trace| trace.sampled && rules.traces) else { return };
        let mut own = Vec::with_capacity(1_024);
        let count = span::write(&mut own, record, trace, took, ended);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.ends.len() + count.len() > rules.queue || waiting.spans.len() + own.len() > MOST_BYTES {
            drop(waiting);
            self.dropped.fetch_add(count.len() as u64, Relaxed);
            return;
        }
        let before = waiting.spans.len();
        waiting.spans.extend_from_slice(&own);
        waiting.ends.extend(count.into_iter().map(|end| before + end));
        let ready = waiting.ends.len() >= BATCH;
        self.count.store(waiting.ends.len(), Relaxed);
        drop(waiting);
        if ready {
            self.ring();
        }
    }

    /// The next spans that wait; `None`: there are none.
    #[must_use]
    pub fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let spans = waiting.ends.len().min(BATCH);
        let end = *waiting.ends.get(spans.checked_sub(1)?)?;
        let taken: Vec<u8> = waiting.spans.drain(..end).collect();
        waiting.ends.drain(..spans);
        waiting.ends.iter_mut().for_each(|at| *at -= end);
        self.count.store(waiting.ends.len(), Relaxed);
        drop(waiting);
        let mut body = Vec::with_capacity(taken.len() + 512);
        Message::new(&mut body).message(1, |resource_spans| {
            resource_spans.message(1, |resource| self.resource(resource));
            resource_spans.message(2, |scope_spans| {
                scope_spans.message(1, scope);
                scope_spans.raw(&taken);
            });
        });
        Some(Batch { body, spans })
    }

    /// An `ExportMetricsServiceRequest` of all that was counted since `started`.
    pub(crate) fn metrics(&self, meters: &Meters, started: Nanos, now: Nanos) -> Vec<u8> {
        let mut body = Vec::with_capacity(16 << 10);
        Message::new(&mut body).message(1, |resource_metrics| {
            resource_metrics.message(1, |resource| self.resource(resource));
            resource_metrics.message(2, |scope_metrics| {
                scope_metrics.message(1, scope);
                metrics::write(scope_metrics, meters, &self.calls, (started, now));
            });
        });
        body
    }

    fn resource(&self, out: &mut Message<'_>) {
        let of_node = self.resource.load();
        let rules = self.rules.load();
        let named = rules.as_ref().map_or(&[][..], |rules| &rules.resource);
        let own = of_node.as_ref().map_or(&[][..], |own| own);
        // What the document says of the node is worth more.
        for (name, value) in own.iter().filter(|(name, _)| !named.iter().any(|(known, _)| known == name)).chain(named) {
            out.text_attribute(1, name, value);
        }
    }

    /// The collector took them, or they are lost: it refused them, or could not be reached for too long.
    pub fn note(&self, spans: usize, taken: bool) {
        let counter = if taken { &self.told } else { &self.dropped };
        counter.fetch_add(spans as u64, Relaxed);
    }

    /// An attempt to reach the collector failed.
    pub fn note_failure(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.count.load(Relaxed) as u64
    }

    fn ring(&self) {
        if let Some(waker) = self.ready.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    /// Wakes this task when a batch waits, or the document changed.
    pub fn wakes(&self, context: &std::task::Context<'_>) {
        *self.ready.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
    }

    /// Does a whole batch wait?
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.count.load(Relaxed) >= BATCH
    }
}

fn scope(out: &mut Message<'_>) {
    out.text(1, "tidegate");
    out.text(2, env!("CARGO_PKG_VERSION"));
}
