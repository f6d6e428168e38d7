//! Whether Redis is asked at all. Closed until it failed a few times in a row; then open: nobody asks, and one keeper
//! in the background tries again from time to time. Its success closes it: no request ever pays for the probe.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Breaker {
    failures: AtomicU32,
    threshold: u32,
    open: AtomicBool,
    opened: AtomicU64,
}

impl Breaker {
    /// Open until the first probe went well.
    pub(crate) fn new(threshold: u32) -> Self {
        let open = AtomicBool::new(true);
        Self { failures: AtomicU32::new(0), threshold: threshold.max(1), open, opened: AtomicU64::new(0) }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Times it opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn went_well(&self) {
        // Written only when there is something to forget: this is on every hit's path.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// `true`: this failure opened it.
    pub(crate) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel) + 1;
        failures >= self.threshold && self.trip()
    }

    /// `true`: it was closed.
    pub(crate) fn trip(&self) -> bool {
        let tripped = !self.open.swap(true, Ordering::AcqRel);
        if tripped {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        tripped
    }

    pub(crate) fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.open.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_once() {
        let breaker = Breaker::new(3);
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.failed() && !breaker.failed());
        breaker.went_well();
        assert!(!breaker.failed() && !breaker.failed() && breaker.failed() && !breaker.failed());
        assert!(breaker.is_open() && breaker.opened() == 1);
        breaker.close();
        assert!(!breaker.is_open());
    }
}
