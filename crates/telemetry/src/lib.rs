//! The record of a request, and what becomes of it: a line of the access log, counters, histograms.

mod record;

use std::io;
use std::sync::Arc;

use http::HeaderName;

pub use record::{Cut, Record, Standing, Verdict};

#[derive(Debug)]
pub struct Telemetry {}

impl Telemetry {
    /// # Errors
    /// The access log cannot be opened.
    pub fn start(_policy: &tidegate_policy::Telemetry) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {}))
    }

    /// A new snapshot: its access log settings from now on.
    ///
    /// # Errors
    /// The new access log cannot be opened; the old one stays.
    pub fn apply(&self, _policy: &tidegate_policy::Telemetry) -> io::Result<()> {
        Ok(())
    }

    /// SIGUSR1: opens the access log's file anew, after something else renamed it.
    pub fn reopen(&self) {}

    /// Waits until every line written so far has reached the file.
    pub fn flush(&self) {}

    /// `/metrics`
    #[must_use]
    pub fn render(&self) -> String {
        String::new()
    }

    pub(crate) fn begun(&self) {}

    pub(crate) fn logged_headers(&self) -> Option<Arc<[HeaderName]>> {
        None
    }

    pub(crate) fn finished(&self, _record: &mut Record) {}
}
