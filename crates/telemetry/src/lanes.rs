//! A place per thread, so that threads do not fight over one cache line. A handful, shared when there are more threads.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(crate) const LANES: usize = 8;

/// Alone on its cache lines (two: the prefetcher reads pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// This thread's lane.
pub(crate) fn lane() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static LANE: Cell<usize> = const { Cell::new(usize::MAX) });
    let mut lane = LANE.get();
    if lane == usize::MAX {
        lane = NEXT.fetch_add(1, Relaxed) % LANES;
        LANE.set(lane);
    }
    lane
}
