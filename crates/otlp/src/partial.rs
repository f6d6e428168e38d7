//! What a collector did not take of what it took. OpenTelemetry's exporters do not return that: they say it as an event
//! of `tracing`. This hears it, and keeps all else that they say (addresses, bodies of answers) from the node's log.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// Of what a collector says.
const LONGEST: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) refused: u64,
    pub(crate) why: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Option<Partial>>>);

impl Ear {
    /// For the one exporter that is listened to.
    pub(crate) fn dispatch(&self) -> Dispatch {
        Dispatch::new(self.clone())
    }

    /// What was heard since the last call of this.
    pub(crate) fn take(&self) -> Option<Partial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "opentelemetry-otlp" && metadata.name().ends_with(".PartialSuccess")
    }

    fn event(&self, event: &Event<'_>) {
        let mut heard = Partial::default();
        event.record(&mut heard);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Partial {
    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name().starts_with("rejected_") {
            self.refused = u64::try_from(value).unwrap_or(0);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "error_message" {
            self.why = value.chars().take(LONGEST).collect();
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
