//! The metrics page: our counters in prometheus-client's words. Works only when somebody asks for it.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::log::Counts;
use crate::meter::{Laned, Total};
use crate::meters::{CLASSES, METHODS, Meters, NO_ROUTE, RouteLane, UpstreamLane, VERDICTS};
use crate::process;
use crate::record::Cached;
use crate::spoken::{FAILURES, ModelLane, Tokens};

/// Of what [`crate::Telemetry::render`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Samples shown of one registered metric.
const SAMPLES: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// One value of a registered metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

/// How long something took, all since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    pub labels: Vec<(&'static str, String)>,
    /// Seconds.
    pub sum: f64,
    /// Up to so many seconds, and how often, beyond the one before; the last is `f64::MAX`.
    pub buckets: Vec<(f64, u64)>,
}

pub(crate) struct Scrape {
    registry: Mutex<Registry>,
}

impl Scrape {
    pub(crate) fn new(meters: &Arc<Meters>, log: &Arc<Counts>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process { started: tidegate_clock::wall().0 / 1_000_000_000 }));
        registry.register_collector(Box::new(Requests { meters: Arc::clone(meters), log: Arc::clone(log) }));
        Self { registry: Mutex::new(registry) }
    }

    pub(crate) fn register(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        sample: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
    ) {
        let registered = Registered { name: format!("tidegate_{name}"), help, kind, sample };
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(registered));
    }

    pub(crate) fn register_times(
        &self,
        name: &'static str,
        help: &'static str,
        times: Box<dyn Fn() -> Vec<Times> + Send + Sync>,
    ) {
        let registered = RegisteredTimes { name: format!("tidegate_{name}"), help, times };
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(registered));
    }

    pub(crate) fn render(&self) -> String {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut page, &registry).expect("writing to a String cannot fail");
        page
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

struct Registered {
    name: String,
    help: &'static str,
    kind: Kind,
    sample: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl Collector for Registered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(&self.name, self.help, None, kind)?;
        for sample in (self.sample)().into_iter().take(SAMPLES) {
            let write = |metric: &mut MetricEncoder<'_>| match self.kind {
                Kind::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&sample.value, None),
                Kind::Gauge => metric.encode_gauge(&sample.value),
            };
            if sample.labels.is_empty() {
                write(&mut metric)?; // `name{}` would be legal, and odd.
            } else {
                labelled(&mut metric, sample.labels, write)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").field("name", &self.name).finish_non_exhaustive()
    }
}

struct RegisteredTimes {
    name: String,
    help: &'static str,
    times: Box<dyn Fn() -> Vec<Times> + Send + Sync>,
}

impl Collector for RegisteredTimes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(&self.name, self.help, None, MetricType::Histogram)?;
        for Times { labels, sum, buckets } in (self.times)().into_iter().take(SAMPLES) {
            let count = buckets.iter().map(|(_, count)| count).sum();
            labelled(&mut metric, labels, |metric| metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RegisteredTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredTimes").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Process {
    /// Seconds since 1970.
    started: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        gauge(e, "process_start_time_seconds", "When this process started, in seconds since 1970", self.started)?;
        let Some(usage) = process::usage() else { return Ok(()) };
        let cpu = usage.user_seconds + usage.system_seconds;
        counter(e, "process_cpu_seconds", "CPU time, user and system", cpu)?;
        counter(e, "process_cpu_user_seconds", "CPU time in user mode", usage.user_seconds)?;
        counter(e, "process_cpu_system_seconds", "CPU time in the kernel", usage.system_seconds)?;
        gauge(e, "process_resident_memory_bytes", "Resident memory", usage.resident_bytes)?;
        gauge(e, "process_open_fds", "Open file descriptors", usage.open_fds)?;
        gauge(e, "process_threads", "Threads", usage.threads)
    }
}

#[derive(Debug)]
struct Requests {
    meters: Arc<Meters>,
    log: Arc<Counts>,
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let e = &mut encoder;
        gauge(e, "tidegate_requests_in_flight", "Requests begun and not finished", self.meters.in_flight())?;
        self.routes(e)?;
        self.refusals(e)?;
        self.limits(e)?;
        self.models(e)?;
        self.upstreams(e)?;
        counter(e, "tidegate_access_log_lines", "Access log lines written", self.log.written())?;
        counter(e, "tidegate_access_log_dropped", "Access log lines dropped", self.log.dropped())
    }
}

impl Requests {
    fn routes(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests by route, method and class of the answer (none: no answer was sent)";
        let mut metric = e.encode_descriptor("tidegate_requests", help, None, MetricType::Counter)?;
        self.each_route(|route, lanes| {
            for (m, method) in METHODS.iter().enumerate() {
                for (c, class) in CLASSES.iter().enumerate() {
                    let value = lanes.sum(|lane| lane.requests[m][c].load(Relaxed));
                    let labels = [("route", route), ("method", *method), ("class", *class)];
                    count_if(&mut metric, labels, value)?;
                }
            }
            Ok(())
        })?;
        let help = "Requests of routes with a cache: what came from it, or why the upstream was asked";
        let mut metric = e.encode_descriptor("tidegate_cache_requests", help, None, MetricType::Counter)?;
        self.each_route(|route, lanes| {
            for (place, result) in Cached::ALL.iter().enumerate() {
                let value = lanes.sum(|lane| lane.cached[place].load(Relaxed));
                count_if(&mut metric, [("route", route), ("result", result.name())], value)?;
            }
            Ok(())
        })?;
        self.route_counter(e, "tidegate_request_bytes", "Bytes of request bodies", |lane| &lane.bytes_in)?;
        self.route_counter(e, "tidegate_response_bytes", "Bytes of response bodies", |lane| &lane.bytes_out)?;
        self.route_counter(e, "tidegate_requests_cut", "Answers that broke off after their first byte", |lane| {
            &lane.cut
        })?;
        let help = "From the request's head to the end of the answer";
        let name = "tidegate_request_duration_seconds";
        let mut metric = e.encode_descriptor(name, help, None, MetricType::Histogram)?;
        self.each_route(|route, lanes| {
            histogram(&mut metric, [("route", route)], &Total::of(lanes, |lane: &RouteLane| &lane.duration))
        })
    }

    fn route_counter(
        &self,
        e: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&RouteLane) -> &AtomicU64,
    ) -> fmt::Result {
        let mut metric = e.encode_descriptor(name, help, None, MetricType::Counter)?;
        self.each_route(|route, lanes| {
            count_if(&mut metric, [("route", route)], lanes.sum(|lane| of(lane).load(Relaxed)))
        })
    }

    fn each_route(&self, mut visit: impl FnMut(&str, &Laned<RouteLane>) -> fmt::Result) -> fmt::Result {
        let mut result = visit(NO_ROUTE, self.meters.unrouted());
        self.meters.routes.each(|name, lanes| {
            if result.is_ok() {
                result = visit(name, lanes);
            }
        });
        result
    }

    fn refusals(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Requests refused, by code";
        let mut metric = e.encode_descriptor("tidegate_refusals", help, None, MetricType::Counter)?;
        self.meters.refusals.each().try_for_each(|(code, value)| count_if(&mut metric, [("code", code)], value))?;
        let help = "Client connections that we ended, by reason";
        let mut metric = e.encode_descriptor("tidegate_connections_ended", help, None, MetricType::Counter)?;
        self.meters.ended.each().try_for_each(|(reason, value)| count_if(&mut metric, [("reason", reason)], value))
    }

    fn limits(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "What limits said to requests";
        let mut metric = e.encode_descriptor("tidegate_limit_decisions", help, None, MetricType::Counter)?;
        let mut result = Ok(());
        self.meters.limits.each(|name, lanes| {
            for (index, verdict) in VERDICTS.iter().enumerate() {
                let value = lanes.sum(|lane| lane[index].load(Relaxed));
                let labels = [("limit", name), ("verdict", verdict.name())];
                result = result.and_then(|()| count_if(&mut metric, labels, value));
            }
        });
        result
    }

    fn models(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls of language models that an answer was asked for";
        self.model_counter(e, "tidegate_llm_calls", help, |lane| &lane.calls)?;
        let help = "Deployments that failed before another one was asked";
        self.model_counter(e, "tidegate_llm_fallbacks", help, |lane| &lane.fallbacks)?;
        let help = "Deployments that were asked beside a late one";
        self.model_counter(e, "tidegate_llm_hedges", help, |lane| &lane.hedges)?;
        let help = "Calls that one of those answered first";
        self.model_counter(e, "tidegate_llm_hedges_won", help, |lane| &lane.hedges_won)?;
        let help = "Tries of deployments that failed, by kind of error";
        let mut metric = e.encode_descriptor("tidegate_llm_failed_tries", help, None, MetricType::Counter)?;
        self.each_model(|model, lanes| {
            for (place, kind) in FAILURES.iter().enumerate() {
                let value = lanes.sum(|lane| lane.failures[place].load(Relaxed));
                count_if(&mut metric, [("model", model), ("kind", *kind)], value)?;
            }
            Ok(())
        })?;
        let help = "What calls cost, in billionths of a dollar";
        self.model_counter(e, "tidegate_llm_cost_nanos", help, |lane| &lane.cost_nanos)?;
        let help = "Calls whose price nobody knows";
        self.model_counter(e, "tidegate_llm_unpriced_calls", help, |lane| &lane.unpriced)?;
        let help = "Calls answered from the cache";
        self.model_counter(e, "tidegate_llm_cache_hits", help, |lane| &lane.hits)?;
        let help = "Tokens that answers from the cache would have taken";
        self.model_counter(e, "tidegate_llm_saved_tokens", help, |lane| &lane.saved)?;
        let help = "Tokens by model and class; classes do not overlap";
        let mut metric = e.encode_descriptor("tidegate_llm_tokens", help, None, MetricType::Counter)?;
        self.each_model(|model, lanes| {
            for (place, class) in Tokens::NAMES.iter().enumerate() {
                let value = lanes.sum(|lane| lane.tokens[place].load(Relaxed));
                count_if(&mut metric, [("model", model), ("class", *class)], value)?;
            }
            Ok(())
        })?;
        let help = "From the call to the first token";
        let mut metric = e.encode_descriptor("tidegate_llm_first_token_seconds", help, None, MetricType::Histogram)?;
        self.each_model(|model, lanes| {
            histogram(&mut metric, [("model", model)], &Total::of(lanes, |lane: &ModelLane| &lane.first_token))
        })?;
        let help = "Between two tokens of a stream, the first apart";
        let name = "tidegate_llm_time_per_output_token_seconds";
        let mut metric = e.encode_descriptor(name, help, None, MetricType::Histogram)?;
        self.each_model(|model, lanes| {
            histogram(&mut metric, [("model", model)], &Total::of(lanes, |lane: &ModelLane| &lane.per_token))
        })
    }

    fn model_counter(
        &self,
        e: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&ModelLane) -> &AtomicU64,
    ) -> fmt::Result {
        let mut metric = e.encode_descriptor(name, help, None, MetricType::Counter)?;
        self.each_model(|model, lanes| {
            count_if(&mut metric, [("model", model)], lanes.sum(|lane| of(lane).load(Relaxed)))
        })
    }

    fn each_model(&self, mut visit: impl FnMut(&str, &Laned<ModelLane>) -> fmt::Result) -> fmt::Result {
        let mut result = Ok(());
        self.meters.models.each(|name, lanes| {
            if result.is_ok() {
                result = visit(name, lanes);
            }
        });
        result
    }

    fn upstreams(&self, e: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls of upstreams by class of the answer (none: there was none)";
        let mut metric = e.encode_descriptor("tidegate_upstream_requests", help, None, MetricType::Counter)?;
        self.each_upstream(|name, lanes| {
            for (index, class) in CLASSES.iter().enumerate() {
                let value = lanes.sum(|lane| lane.answers[index].load(Relaxed));
                count_if(&mut metric, [("upstream", name), ("class", *class)], value)?;
            }
            Ok(())
        })?;
        let help = "Tries, the first included";
        let mut metric = e.encode_descriptor("tidegate_upstream_attempts", help, None, MetricType::Counter)?;
        self.each_upstream(|name, lanes| {
            count_if(&mut metric, [("upstream", name)], lanes.sum(|lane| lane.attempts.load(Relaxed)))
        })?;
        let help = "From the call to the answer's head";
        let name = "tidegate_upstream_first_byte_seconds";
        let mut metric = e.encode_descriptor(name, help, None, MetricType::Histogram)?;
        self.each_upstream(|name, lanes| {
            histogram(&mut metric, [("upstream", name)], &Total::of(lanes, |lane: &UpstreamLane| &lane.first_byte))
        })?;
        let help = "How long new connections took";
        let name = "tidegate_upstream_connect_seconds";
        let mut metric = e.encode_descriptor(name, help, None, MetricType::Histogram)?;
        self.each_upstream(|name, lanes| {
            histogram(&mut metric, [("upstream", name)], &Total::of(lanes, |lane: &UpstreamLane| &lane.connect))
        })
    }

    fn each_upstream(&self, mut visit: impl FnMut(&str, &Laned<UpstreamLane>) -> fmt::Result) -> fmt::Result {
        let mut result = Ok(());
        self.meters.upstreams.each(|name, lanes| {
            if result.is_ok() {
                result = visit(name, lanes);
            }
        });
        result
    }
}

fn gauge(e: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    e.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn counter(
    e: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl prometheus_client::encoding::EncodeCounterValue,
) -> fmt::Result {
    let mut metric = e.encode_descriptor(name, help, None, MetricType::Counter)?;
    metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
}

/// Series that never counted anything are left out.
fn count_if(metric: &mut MetricEncoder<'_>, labels: impl EncodeLabelSet, value: u64) -> fmt::Result {
    if value == 0 {
        return Ok(());
    }
    labelled(metric, labels, |metric| metric.encode_counter::<NoLabelSet, _, f64>(&value, None))
}

fn histogram(metric: &mut MetricEncoder<'_>, labels: impl EncodeLabelSet, total: &Total) -> fmt::Result {
    if total.count == 0 {
        return Ok(());
    }
    labelled(metric, labels, |metric| {
        metric.encode_histogram::<NoLabelSet>(total.sum, total.count, &total.buckets, None)
    })
}

fn labelled(
    metric: &mut MetricEncoder<'_>,
    labels: impl EncodeLabelSet,
    write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    write(&mut metric.encode_family(&labels)?)
}
