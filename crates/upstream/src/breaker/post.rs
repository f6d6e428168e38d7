//! What all upstreams of this node share with whoever connects it to its cluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::ruling::{Place, Ruling};

/// What the cluster holds of endpoints, as one table.
#[derive(Debug, Default)]
pub struct Rulings {
    /// Of the newest change of any of them: places without a ruling are closed since then.
    epoch: u64,
    by_upstream: HashMap<String, HashMap<String, Ruling>>,
}

impl Rulings {
    #[must_use]
    pub fn new(epoch: u64, all: impl IntoIterator<Item = (Place, Ruling)>) -> Self {
        let mut by_upstream: HashMap<String, HashMap<String, Ruling>> = HashMap::new();
        for (place, ruling) in all {
            by_upstream.entry(place.upstream).or_default().insert(place.endpoint, ruling);
        }
        Self { epoch, by_upstream }
    }

    pub(crate) fn of(&self, upstream: &str, endpoint: &str) -> Ruling {
        let known = self.by_upstream.get(upstream).and_then(|endpoints| endpoints.get(endpoint));
        known.copied().unwrap_or(Ruling { epoch: self.epoch, ..Ruling::default() })
    }

    /// The weight that holds: nothing is sent to what is drained.
    pub(crate) fn weight(&self, upstream: &str, endpoint: &str, documented: u32) -> u32 {
        let ruling = self.of(upstream, endpoint);
        if ruling.drained { 0 } else { ruling.weight.unwrap_or(documented) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Post {
    /// This node's id; 0: it has no cluster.
    pub(crate) me: AtomicU64,
    /// The cluster is there to decide.
    pub(crate) live: AtomicBool,
    /// Nodes of the cluster; 0 or 1: it is alone.
    pub(crate) size: AtomicUsize,
    pub(crate) rulings: ArcSwap<Rulings>,
    /// The live nodes, as last heard.
    pub(crate) nodes: ArcSwap<Vec<u64>>,
    /// There is something to tell, at once.
    pub(crate) news: Arc<Notify>,
}

impl Post {
    pub(crate) fn me(&self) -> u64 {
        self.me.load(Relaxed)
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Relaxed)
    }

    /// The nodes that find out together whether an endpoint is sick.
    pub(crate) fn judges(&self) -> u32 {
        if self.is_live() { u32::try_from(self.size.load(Relaxed)).unwrap_or(u32::MAX).max(1) } else { 1 }
    }
}
