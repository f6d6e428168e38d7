//! What a request may touch, and nothing else. Assembled once by `tidegate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tidegate_auth::Keys;
use tidegate_limiter::Limiter;
use tidegate_policy::Snapshot;
use tidegate_telemetry::Telemetry;
use tidegate_upstream::Upstreams;

use crate::bounds::Bounds;

/// Shared by all listeners and runtimes of a node. A clone shares everything; a runtime of its own may be given its own
/// `upstreams`, so that a pooled connection stays on the core that opened it.
#[derive(Clone)]
pub struct Gate {
    /// The published policy; a request takes one and keeps it.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub keys: Arc<Keys>,
    pub limiter: Arc<Limiter>,
    pub upstreams: Arc<Upstreams>,
    pub telemetry: Arc<Telemetry>,
    pub bounds: Bounds,
    /// Set by `tidegate` while this node has been cut off for longer than `max_staleness`: keys may have been revoked
    /// without it knowing, so routes that ask for one answer 503.
    pub keys_stale: Arc<AtomicBool>,
    /// Requests between first byte in and last byte out, on all listeners.
    pub in_flight: Count,
    /// Open client connections, tunnels included, on all listeners.
    pub connections: Count,
}

/// A number of things that live for a while.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicUsize>);

/// Counts itself down when dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Count {
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, unless there are `most` already.
    pub(crate) fn enter(&self, most: usize) -> Option<Counted> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.0.clone());
        (before < most).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("in_flight", &self.in_flight.now()).finish_non_exhaustive()
    }
}
