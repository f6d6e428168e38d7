//! What goes on though its client left, because somebody wants to know what it costs: a few at once, and not for ever. Said by
//! `llm` of a request that waits for a provider (`hang_up: drain`), asked by the place that the request lives in.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::gate::{Count, Counted};

/// Nobody waits for these: after so long their provider is left alone.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);
/// At once on a node; more are cancelled.
const MOST: usize = 1_024;
static LEFT_ALONE: LazyLock<Count> = LazyLock::new(Count::default);

const GOES: u8 = 0;
const STAYS: u8 = 1;
const LEFT: u8 = 2;

/// Of one request: does it go with its client, does it stay, has the client left?
#[derive(Debug, Clone, Default)]
pub(crate) struct Stays(Arc<AtomicU8>);

/// It stays as long as this lives.
pub(crate) struct Staying<'s>(&'s Stays);

impl Stays {
    pub(crate) fn stay(&self) -> Staying<'_> {
        self.0.store(STAYS, Relaxed);
        Staying(self)
    }

    /// For the next request of its place.
    pub(crate) fn begin(&self) {
        self.0.store(GOES, Relaxed);
    }

    /// The client leaves. True: the request is to be heard to its end.
    pub(crate) fn leave(&self) -> bool {
        self.0.compare_exchange(STAYS, LEFT, Relaxed, Relaxed).is_ok()
    }

    pub(crate) fn has_left(&self) -> bool {
        self.0.load(Relaxed) == LEFT
    }
}

impl Drop for Staying<'_> {
    fn drop(&mut self) {
        // Who has left does not come back.
        let _left = self.0.0.compare_exchange(STAYS, GOES, Relaxed, Relaxed);
    }
}

/// One of few; `None`: there are enough.
pub(crate) fn alone() -> Option<Counted> {
    LEFT_ALONE.enter(MOST)
}
