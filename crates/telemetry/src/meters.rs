//! What requests move. Every label has a bound: methods and classes are folded to a list, routes, upstreams and limits
//! come from the document and are cut at a thousand each, refusal codes come from our own list.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use http::Method;
use tidegate_model::Nanos;

use crate::meter::{Histogram, Laned};
use crate::record::{Cached, Record, Verdict};
use crate::spoken::ModelLane;

/// Series with names of their own; the rest share `other`.
pub(crate) const NAMED: usize = 1_000;
pub(crate) const OTHER: &str = "other";
/// Requests that no route took.
pub(crate) const NO_ROUTE: &str = "none";
const CODES: usize = 64;

pub(crate) const METHODS: [&str; 10] =
    ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", OTHER];
/// `none`: no answer was sent.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
pub(crate) const VERDICTS: [Verdict; 4] = [Verdict::Admitted, Verdict::Refused, Verdict::WouldRefuse, Verdict::Unsafe];

pub(crate) type RouteMeter = Laned<RouteLane>;
pub(crate) type ModelMeter = Laned<ModelLane>;
pub(crate) type UpstreamMeter = Laned<UpstreamLane>;
pub(crate) type LimitMeter = Laned<[AtomicU64; VERDICTS.len()]>;

#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) routes: Named<RouteMeter>,
    pub(crate) upstreams: Named<UpstreamMeter>,
    pub(crate) limits: Named<LimitMeter>,
    pub(crate) models: Named<ModelMeter>,
    pub(crate) refusals: Codes,
    /// Client connections that we ended.
    pub(crate) ended: Codes,
    unrouted: OnceLock<Arc<RouteMeter>>,
    flow: Laned<Flow>,
}

#[derive(Debug, Default)]
struct Flow {
    begun: AtomicU64,
    finished: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct RouteLane {
    pub(crate) requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    /// By the places of [`Cached::ALL`].
    pub(crate) cached: [AtomicU64; Cached::ALL.len()],
    pub(crate) duration: Histogram,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) cut: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct UpstreamLane {
    pub(crate) answers: [AtomicU64; CLASSES.len()],
    pub(crate) first_byte: Histogram,
    pub(crate) connect: Histogram,
    pub(crate) attempts: AtomicU64,
}

/// Meters by a name of the document.
#[derive(Debug)]
pub(crate) struct Named<T> {
    by_name: papaya::HashMap<Arc<str>, Arc<T>, foldhash::fast::RandomState>,
    other: Arc<T>,
}

impl<T: Default> Default for Named<T> {
    fn default() -> Self {
        Self { by_name: papaya::HashMap::default(), other: Arc::default() }
    }
}

impl<T: Default> Named<T> {
    /// The meter of this name, new or known.
    pub(crate) fn named(&self, name: &str) -> Arc<T> {
        let map = self.by_name.pin();
        if let Some(meter) = map.get(name) {
            return Arc::clone(meter);
        }
        // Racing threads may pass the bound by a few: it is a bound on memory, not a promise of a thousand.
        if map.len() >= NAMED || name == OTHER {
            return Arc::clone(&self.other);
        }
        Arc::clone(map.get_or_insert_with(name.into(), Arc::default))
    }

    pub(crate) fn each(&self, mut visit: impl FnMut(&str, &T)) {
        let map = self.by_name.pin();
        let mut all: Vec<_> = map.iter().collect();
        all.sort_unstable_by_key(|(name, _)| Arc::clone(name));
        for (name, meter) in all {
            visit(name, meter);
        }
        visit(OTHER, &self.other);
    }

    fn retain(&self, names: &[Arc<str>]) {
        let names: HashSet<&str> = names.iter().map(|name| &**name).collect();
        self.by_name.pin().retain(|name, _| names.contains(&**name));
    }
}

/// Refusals by code, ends of connections by reason. Codes are literals of ours, so a short list that only grows is enough.
#[derive(Debug)]
pub(crate) struct Codes {
    known: [(OnceLock<&'static str>, AtomicU64); CODES],
    other: AtomicU64,
}

impl Default for Codes {
    fn default() -> Self {
        Self { known: [const { (OnceLock::new(), AtomicU64::new(0)) }; CODES], other: AtomicU64::new(0) }
    }
}

impl Codes {
    pub(crate) fn count(&self, code: &'static str) {
        let slot = self.known.iter().find(|(known, _)| *known.get_or_init(|| code) == code);
        slot.map_or(&self.other, |(_, count)| count).fetch_add(1, Relaxed);
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let known = self.known.iter().filter_map(|(code, count)| Some((*code.get()?, count.load(Relaxed))));
        known.chain([(OTHER, self.other.load(Relaxed))])
    }
}

impl Meters {
    pub(crate) fn begun(&self) {
        self.flow.mine().begun.fetch_add(1, Relaxed);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        // Finished first: read the other way round, a request could end in between and make it negative.
        let finished = self.flow.sum(|lane| lane.finished.load(Relaxed));
        self.flow.sum(|lane| lane.begun.load(Relaxed)).saturating_sub(finished)
    }

    pub(crate) fn unrouted(&self) -> &RouteMeter {
        self.unrouted.get_or_init(Arc::default)
    }

    pub(crate) fn retain(&self, routes: &[Arc<str>], upstreams: &[Arc<str>]) {
        self.routes.retain(routes);
        self.upstreams.retain(upstreams);
    }

    pub(crate) fn finished(&self, record: &Record, took: Nanos) {
        self.flow.mine().finished.fetch_add(1, Relaxed);
        let scene = &*record.scene;
        let along = record.route.and_then(|at| scene.route_meter(at));
        along.unwrap_or_else(|| self.unrouted()).mine().count(record, took);
        if let (Some(route), Some(target)) = (record.route, record.towards)
            && record.attempts > 0
            && let Some(meter) = scene.upstream_meter(route, target)
        {
            meter.mine().count(record);
        }
        if let Some(spoken) = &record.spoken {
            let meter = self.models.named(&spoken.model);
            meter.mine().count(spoken);
            if record.cache.is_some_and(Cached::is_hit) {
                meter.mine().hits.fetch_add(1, Relaxed);
            }
            meter.mine().failed(record.tries.iter().filter_map(|tried| tried.error));
        }
        if let Some(code) = record.refusal {
            self.refusals.count(code);
        }
        for standing in &record.limits {
            if let Some(meter) = scene.limit_meter(standing.limit) {
                let verdict = VERDICTS.iter().position(|v| *v == standing.verdict).unwrap_or(0);
                meter.mine()[verdict].fetch_add(1, Relaxed);
            }
        }
    }
}

impl RouteLane {
    fn count(&self, record: &Record, took: Nanos) {
        self.requests[method(&record.method)][class(record.status)].fetch_add(1, Relaxed);
        if let Some(cached) = record.cache {
            self.cached[cached as usize].fetch_add(1, Relaxed);
        }
        self.duration.observe(took);
        self.bytes_in.fetch_add(record.bytes_in, Relaxed);
        self.bytes_out.fetch_add(record.bytes_out, Relaxed);
        if record.cut.is_some() {
            self.cut.fetch_add(1, Relaxed);
        }
    }
}

impl UpstreamLane {
    fn count(&self, record: &Record) {
        self.attempts.fetch_add(u64::from(record.attempts), Relaxed);
        // A status without a first byte is our own answer, not the upstream's.
        let status = if record.first_byte.is_some() { record.status } else { 0 };
        self.answers[class(status)].fetch_add(1, Relaxed);
        if let Some(first_byte) = record.first_byte {
            self.first_byte.observe(first_byte.into());
        }
        if let Some(connect) = record.connect {
            self.connect.observe(connect.into());
        }
    }
}

fn method(method: &Method) -> usize {
    METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1)
}

fn class(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}
