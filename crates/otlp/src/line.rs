//! Lines of the node's own log, as OpenTelemetry's records. They wait from the process's first one on: a collector that a
//! document names later is told of the last ones before.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry::logs::{AnyValue, Severity};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLoggerProvider};
use smallvec::smallvec;
use tidegate_telemetry::Also;

use crate::lane::Lane;
use crate::queue::Told;

/// While no document names a collector of logs, so many of the newest wait, and so many bytes of them.
const BEFORE: (usize, usize) = (256, 256 << 10);
/// Those that speak to the collector: what they say at finer levels about telling a line would be a line.
const SPEAKERS: [&str; 7] = ["h2", "hyper", "hyper_util", "opentelemetry", "rustls", "tonic", "tower"];

/// One line.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) record: SdkLogRecord,
    pub(crate) scope: InstrumentationScope,
}

impl Told for Line {
    const MOST_BYTES: usize = 8 << 20;

    fn size(&self) -> usize {
        let attributes = self.record.attributes_iter().map(|pair| size_of_val(pair) + text(&pair.1));
        size_of_val(self) + self.record.body().map_or(0, text) + attributes.sum::<usize>()
    }
}

fn text(value: &AnyValue) -> usize {
    match value {
        AnyValue::String(text) => text.as_str().len(),
        AnyValue::Bytes(bytes) => bytes.len(),
        AnyValue::ListAny(list) => list.iter().map(|value| size_of_val(value) + text(value)).sum(),
        AnyValue::Map(map) => map.values().map(|value| size_of_val(value) + text(value)).sum(),
        _ => 0,
    }
}

/// The lines of this process that wait for a collector.
#[derive(Clone)]
pub struct Lines(Arc<Inner>);

struct Inner {
    lane: Lane<Line>,
    /// So many may wait. None: nobody is told.
    most: AtomicUsize,
}

impl Lines {
    /// Those of the log that is set up with this beside it.
    #[must_use]
    pub fn hear() -> (Self, Also) {
        let lines = Self(Arc::new(Inner { lane: Lane::new("lines of the log"), most: AtomicUsize::new(0) }));
        // Who the node is, is said where the lines are told.
        let provider = SdkLoggerProvider::builder().with_resource(Resource::builder_empty().build());
        let provider = provider.with_log_processor(lines.clone()).build();
        (lines, Box::new(OpenTelemetryTracingBridge::new(&provider)))
    }

    pub(crate) fn lane(&self) -> &Lane<Line> {
        &self.0.lane
    }

    /// `most` may wait from now on. None: nobody is told.
    pub(crate) fn wanted(&self, most: Option<usize>) {
        self.0.most.store(most.unwrap_or(0), Relaxed);
        self.lane().keep(most.unwrap_or(BEFORE.0), if most.is_some() { Line::MOST_BYTES } else { BEFORE.1 });
    }
}

impl LogProcessor for Lines {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        let line = Line { record: record.clone(), scope: scope.clone() };
        let most = self.0.most.load(Relaxed);
        self.lane().put::<[Line; 1]>(smallvec![line], if most == 0 { BEFORE.0 + 1 } else { most });
        if most == 0 {
            self.lane().keep(BEFORE.0, BEFORE.1);
        }
    }

    fn event_enabled(&self, _: Severity, target: &str, _: Option<&str>) -> bool {
        let of = target.split("::").next().unwrap_or(target);
        !SPEAKERS.contains(&of) && !of.starts_with("opentelemetry")
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn said(count: usize, lines: impl Fn(&Lines)) -> Lines {
        let (heard, also) = Lines::hear();
        lines(&heard);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(also), || {
            for n in 0..count {
                tracing::warn!(n, why = "dry", "no water");
                tracing::debug!(target: "h2::proto", "a frame about a line");
            }
        });
        heard
    }

    #[test]
    fn a_line_keeps_its_level_its_text_and_its_fields() {
        let heard = said(1, |_| {});
        let batch = heard.lane().take();
        let [line] = &batch[..] else { panic!("{batch:?}") };
        assert_eq!(line.record.severity_number(), Some(Severity::Warn));
        assert_eq!(line.record.target().map(|target| target.as_ref()), Some(module_path!()));
        assert!(matches!(line.record.body(), Some(AnyValue::String(text)) if text.as_str() == "no water"));
        let fields: Vec<_> = line.record.attributes_iter().map(|(name, _)| name.as_str().to_owned()).collect();
        assert_eq!(fields, ["n", "why"]);
    }

    #[test]
    fn the_newest_wait_while_nobody_is_told_and_no_more_than_wanted_afterwards() {
        let heard = said(BEFORE.0 + 50, |_| {});
        assert_eq!((heard.lane().waiting(), heard.lane().dropped()), (BEFORE.0, 0), "what nobody wanted is not lost");
        let heard = said(100, |lines| lines.wanted(Some(64)));
        assert_eq!((heard.lane().waiting(), heard.lane().dropped()), (64, 36));
    }
}
