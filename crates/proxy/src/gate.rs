//! What a request may touch, and nothing else. Assembled once by `tidegate`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tidegate_auth::Keys;
use tidegate_cache::Cache;
use tidegate_limiter::Limiter;
use tidegate_policy::Snapshot;
use tidegate_telemetry::Telemetry;
use tidegate_upstream::Upstreams;

use crate::blocks::Blocks;
use crate::bounds::Bounds;
use crate::challenges::Challenges;
use crate::issuers::Issuers;
use crate::llm::{Fleet, Tokens};
use crate::pressure::Pressure;
use crate::seen::Seen;

/// Shared by all listeners and runtimes of a node. A clone shares everything; a runtime of its own may be given its own
/// `upstreams`, so that a pooled connection stays on the core that opened it.
#[derive(Clone)]
pub struct Gate {
    /// The published policy; a request takes one and keeps it.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub keys: Arc<Keys>,
    /// Whose tokens are good.
    pub issuers: Arc<Issuers>,
    pub limiter: Arc<Limiter>,
    pub upstreams: Arc<Upstreams>,
    pub telemetry: Arc<Telemetry>,
    /// `None`: this node keeps no responses.
    pub cache: Option<Arc<Cache>>,
    pub bounds: Bounds,
    /// Set by `tidegate` while this node has been cut off for longer than `max_staleness`: keys may have been revoked
    /// without it knowing, so routes that ask for one answer 503.
    pub keys_stale: Arc<AtomicBool>,
    /// Who is refused by an operator's order.
    pub blocks: Arc<Blocks>,
    /// What certificate authorities that look over HTTP are answered.
    pub challenges: Arc<Challenges>,
    /// Whom this node saw lately, by name.
    pub seen: Arc<Seen>,
    /// What is known of deployments of language models.
    pub fleet: Arc<Fleet>,
    /// What proves to providers who we are, where that ends and is fetched anew.
    pub tokens: Arc<Tokens>,
    /// Requests between first byte in and last byte out, on all listeners.
    pub in_flight: Count,
    /// Open client connections, tunnels included, on all listeners.
    pub connections: Count,
    /// Those of them that have nothing to do and have given up what a request needs.
    pub resting: Count,
    /// What this node is short of.
    pub pressure: Arc<Pressure>,
}

/// A number of things that live for a while. Each core counts in a lane of its own.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<[Lane; LANES]>);

/// Cores beyond share lanes.
const LANES: usize = 8;

/// Alone on its cache lines (two: the prefetcher reads pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(AtomicUsize);

/// Counts itself down when dropped.
#[derive(Debug)]
pub(crate) struct Counted(Count);

impl Count {
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum()
    }

    /// One more, unless there are `most` already.
    pub(crate) fn enter(&self, most: usize) -> Option<Counted> {
        self.begin(0, most).then(|| Counted(self.clone()))
    }

    /// As [`Count::enter`], for things that come so often that a lane must count for itself, and without a guard: who
    /// was let in calls [`Count::end`]. The other lanes are looked at only when this one holds a good part of `most`,
    /// so that the bound may be passed by an eighth of it.
    pub(crate) fn begin(&self, lane: usize, most: usize) -> bool {
        let before = self.0[lane % LANES].0.fetch_add(1, Ordering::Relaxed);
        let may = before < most / (8 * LANES) || self.now() <= most;
        if !may {
            self.end(lane);
        }
        may
    }

    pub(crate) fn end(&self, lane: usize) {
        self.0[lane % LANES].0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.end(0);
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("in_flight", &self.in_flight.now()).finish_non_exhaustive()
    }
}
