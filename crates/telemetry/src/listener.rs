//! Somebody beside log and metrics who is told of each request that ends: a collector, by the crate that speaks to one.
//! Here are the branch that requests pay when nobody listens, and the rules that their traces follow. Knows no OTLP.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use tidegate_model::Nanos;
use tidegate_policy::Otlp;

use crate::record::Record;

/// Told on the threads of requests: it may not wait.
pub trait Listener: Send + Sync {
    /// Other rules are in effect from now on. `None`: there is nothing to tell.
    fn follow(&self, rules: Option<&Arc<Otlp>>);

    /// A request is over. `ended`: wall clock.
    fn finished(&self, record: &Record, took: Nanos, ended: Nanos);
}

/// Who listens, and what for.
#[derive(Default)]
pub(crate) struct Heard {
    on: AtomicBool,
    rules: ArcSwapOption<Otlp>,
    listener: OnceLock<Arc<dyn Listener>>,
}

impl Heard {
    /// Whoever listened first stays.
    pub(crate) fn by(&self, listener: Arc<dyn Listener>) {
        let rules = self.rules.load_full();
        self.listener.get_or_init(|| listener).follow(rules.as_ref());
        self.on.store(rules.is_some(), Relaxed);
    }

    pub(crate) fn follow(&self, rules: Option<&Arc<Otlp>>) {
        if self.rules.load().as_ref() == rules {
            return;
        }
        self.rules.store(rules.cloned());
        if let Some(listener) = self.listener.get() {
            listener.follow(rules);
            self.on.store(rules.is_some(), Relaxed);
        }
    }

    /// The one branch that requests pay when nothing is told to anybody.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    pub(crate) fn rules(&self) -> Guard<Option<Arc<Otlp>>> {
        self.rules.load()
    }

    #[cold]
    pub(crate) fn finished(&self, record: &Record, took: Nanos, ended: Nanos) {
        if let Some(listener) = self.listener.get() {
            listener.finished(record, took, ended);
        }
    }
}

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heard").field("on", &self.on).finish_non_exhaustive()
    }
}
