//! The record of a request, and what becomes of it: a line of the access log, counters, histograms.
//!
//! Owns the access log's file and its writer thread, and the metrics that requests move. Knows no socket, no cluster,
//! no limit's arithmetic: the binary adds those at scrape time with [`Telemetry::register`]; and no collector of
//! OpenTelemetry's: one more [`Listener`] is told of each request. Called by `proxy` through [`Record`], by `tidegate`
//! (start, reopen, flush) and by `admin` ([`Telemetry::render`]). No request waits for it.

mod file;
mod json;
mod lanes;
mod line;
mod listener;
mod log;
mod meter;
mod meters;
mod node_log;
mod process;
mod readings;
mod record;
pub mod redact;
mod scene;
mod scrape;
mod spoken;
mod trace;
mod usage;

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::HeaderName;
use tidegate_policy::{AccessLog, RouteId, UpstreamId};

use listener::Heard;
use log::Log;
use meters::Meters;
use scrape::Scrape;

pub use listener::Listener;
pub use node_log::{Also, LogFormat, init_logs};
pub use readings::ModelSums;
pub use record::{Cached, Cut, Record, Standing, Standings, Try, Verdict};
pub use redact::is_secret;
pub use scene::Scene;
pub use scrape::{CONTENT_TYPE, Kind, Sample, Times};
pub use spoken::{Bodies, Cost, Spoken, Tokens};
pub use trace::Trace;

/// Everything this node tells about itself.
#[derive(Debug)]
pub struct Telemetry {
    log: Log,
    meters: Arc<Meters>,
    scrape: Scrape,
    settings: ArcSwapOption<AccessLog>,
    used: usage::Used,
    heard: Heard,
}

impl Telemetry {
    /// # Errors
    /// The access log cannot be opened.
    pub fn start(policy: &tidegate_policy::Telemetry) -> io::Result<Arc<Self>> {
        let meters = Arc::new(Meters::default());
        let log = Log::start()?;
        let scrape = Scrape::new(&meters, &log.counts());
        let telemetry = Arc::new(Self {
            log,
            meters,
            scrape,
            settings: ArcSwapOption::empty(),
            used: usage::Used::default(),
            heard: Heard::default(),
        });
        telemetry.apply(policy)?;
        Ok(telemetry)
    }

    /// A new snapshot: its access log settings from now on.
    ///
    /// # Errors
    /// The new access log cannot be opened; the old one stays.
    pub fn apply(&self, policy: &tidegate_policy::Telemetry) -> io::Result<()> {
        let old = self.settings.load();
        if old.as_deref() != policy.access_log.as_ref() {
            let same_sink = matches!((old.as_deref(), &policy.access_log), (Some(a), Some(b)) if is_same_sink(a, b));
            if !same_sink {
                self.log.direct(policy.access_log.as_ref())?;
            }
            self.settings.store(policy.access_log.clone().map(Arc::new));
        }
        self.heard.follow(policy.otlp.as_ref());
        Ok(())
    }

    /// A new snapshot: forgets the metrics of routes and upstreams that it no longer names.
    pub fn retain(&self, routes: &[RouteId], upstreams: &[UpstreamId]) {
        self.meters.retain(routes, upstreams);
    }

    /// SIGUSR1: opens the access log's file anew, after something else renamed it.
    pub fn reopen(&self) {
        self.log.reopen();
    }

    /// Waits until every line written so far has reached the file. Not for request paths.
    pub fn flush(&self) {
        self.log.flush();
    }

    /// `/metrics`, in the format of [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self) -> String {
        self.scrape.render()
    }

    /// What language models were used since the last call of this.
    #[must_use]
    pub fn take_usage(&self) -> Vec<tidegate_state::usage::Row> {
        self.used.take()
    }

    /// Tells one more of each request, as `telemetry.otlp` of the document says. Only the first that asks for it.
    pub fn listen(&self, listener: Arc<dyn Listener>) {
        self.heard.by(listener);
    }

    pub(crate) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Adds a metric that is computed at each scrape. `name` without `tidegate_` and without `_total`.
    /// At most 10,000 samples of it are shown.
    pub fn register(
        &self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        sample: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.scrape.register(name, help, kind, Box::new(sample));
    }

    /// Adds a histogram that is computed at each scrape, as [`register`](Self::register) does.
    pub fn register_times(
        &self,
        name: &'static str,
        help: &'static str,
        times: impl Fn() -> Vec<Times> + Send + Sync + 'static,
    ) {
        self.scrape.register_times(name, help, Box::new(times));
    }

    /// Access log lines that were dropped because the writer could not keep up or the disk refused them.
    #[must_use]
    pub fn dropped_lines(&self) -> u64 {
        self.log.counts().dropped()
    }

    /// We ended a client's connection. `reason`: a word of ours, one of a few.
    pub fn connection_ended(&self, reason: &'static str) {
        self.meters.ended.count(reason);
    }

    pub(crate) fn begun(&self) {
        self.meters.begun();
    }

    pub(crate) fn is_logging(&self) -> bool {
        self.log.is_on()
    }

    pub(crate) fn settings(&self) -> arc_swap::Guard<Option<Arc<AccessLog>>> {
        self.settings.load()
    }

    /// The names of headers to log, if any.
    pub(crate) fn with_logged_headers(&self, each: impl FnMut(&HeaderName)) {
        if let Some(settings) = &*self.settings() {
            settings.headers.iter().for_each(each);
        }
    }

    pub(crate) fn finished(&self, record: &Record) {
        let took = tidegate_clock::boot().saturating_sub(record.started);
        self.meters.finished(record, took);
        if self.heard.is_on() {
            self.heard.finished(record, took, tidegate_clock::wall());
        }
        if let Some(spoken) = &record.spoken {
            self.used.count(record, spoken, tidegate_clock::wall().0);
        }
        if record.has_line() && self.log.is_on() {
            self.log.push(|out| line::write(out, record, took, tidegate_clock::wall()));
        }
    }
}

fn is_same_sink(a: &AccessLog, b: &AccessLog) -> bool {
    a.file == b.file && a.rotate_bytes == b.rotate_bytes && a.keep == b.keep
}
