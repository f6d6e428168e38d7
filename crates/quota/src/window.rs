//! Spend of the last W, in a ring of buckets. Each bucket carries its *latest* stamp, so a permit is never forgotten
//! early and at most W/256 (0.4 % of W) late.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_model::{Nanos, Permits};

use crate::guard;

const BUCKETS: u64 = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Oldest first. At most 258 of them: W spans 256 whole buckets and two cut ones. Never
    /// more than there are permits, so that the many small limits cost little.
    buckets: VecDeque<Bucket>,
    /// The sum of `buckets`.
    total: Permits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    latest: Nanos,
    spent: Permits,
}

impl Window {
    /// As it was written.
    pub(crate) fn of(buckets: VecDeque<Bucket>, total: Permits) -> Self {
        Self { buckets, total }
    }

    /// Permits still charged. Call [`Window::forget`] first.
    #[must_use]
    pub fn total(&self) -> Permits {
        self.total
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    pub fn charge(&mut self, spent: Permits, now: Nanos, window: Nanos) {
        if spent == Permits::ZERO {
            return;
        }
        let width = (window.0 / BUCKETS).max(1);
        self.total = match guard!("sums-saturate") {
            true => self.total.saturating_add(spent),
            false => Permits(self.total.0.wrapping_add(spent.0)),
        };
        match self.buckets.back_mut() {
            Some(last) if last.latest.0 / width == now.0 / width => {
                last.spent = last.spent.saturating_add(spent);
                if guard!("ring-stamped-with-the-latest") {
                    last.latest = now;
                }
            }
            _ => self.buckets.push_back(Bucket { latest: now, spent }),
        }
    }

    /// Drops what was charged a window or more ago.
    pub fn forget(&mut self, now: Nanos, window: Nanos) {
        let window = if guard!("spend-charged-for-w") { window } else { Nanos(window.0 / 32 * 31) };
        let lapsed = self.buckets.iter().take_while(|bucket| bucket.latest.saturating_add(window) <= now).count();
        if lapsed > 0 {
            self.buckets.drain(..lapsed);
            // Summed anew, not subtracted: a saturated total must not come back too small.
            self.total = self.buckets.iter().fold(Permits::ZERO, |sum, bucket| sum.saturating_add(bucket.spent));
        }
    }

    /// How long until `needed` more permits than now are free; `None`: not by waiting for this spend.
    #[must_use]
    pub fn frees(&self, needed: Permits, now: Nanos, window: Nanos) -> Option<Nanos> {
        let mut freed = Permits::ZERO;
        for bucket in &self.buckets {
            freed = freed.saturating_add(bucket.spent);
            if freed >= needed {
                return Some(bucket.latest.saturating_add(window).saturating_sub(now));
            }
        }
        None
    }

    /// When the last of it is forgotten.
    #[must_use]
    pub fn ends(&self, window: Nanos) -> Nanos {
        self.buckets.back().map_or(Nanos::ZERO, |last| last.latest.saturating_add(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Nanos = Nanos(25_600);

    #[test]
    fn spend_is_charged_for_a_whole_window_and_at_most_a_bucket_longer() {
        let mut window = Window::default();
        window.charge(Permits(3), Nanos(1_010), W);
        window.charge(Permits(4), Nanos(1_090), W); // the same bucket: both end with the later one
        window.forget(Nanos(1_090 + 25_599), W);
        assert_eq!(window.total(), Permits(7));
        window.forget(Nanos(1_090 + 25_600), W);
        assert_eq!(window.total(), Permits(0));
    }

    #[test]
    fn the_ring_is_bounded_whatever_is_charged() {
        let mut window = Window::default();
        for now in 0..100_000 {
            window.forget(Nanos(now), W);
            window.charge(Permits(1), Nanos(now), W);
            assert!(window.buckets.len() <= 258);
        }
    }

    #[test]
    fn it_tells_when_enough_comes_free() {
        let mut window = Window::default();
        window.charge(Permits(2), Nanos(100), W);
        window.charge(Permits(5), Nanos(400), W);
        assert_eq!(window.frees(Permits(2), Nanos(500), W), Some(Nanos(25_200)));
        assert_eq!(window.frees(Permits(3), Nanos(500), W), Some(Nanos(25_500)));
        assert_eq!(window.frees(Permits(8), Nanos(500), W), None);
    }

    #[test]
    fn a_hostile_spend_saturates_instead_of_wrapping() {
        let mut window = Window::default();
        window.charge(Permits(u64::MAX), Nanos(0), W);
        window.charge(Permits(9), Nanos(200), W);
        assert_eq!(window.total(), Permits(u64::MAX));
        window.forget(Nanos(25_600), W);
        assert_eq!(window.total(), Permits(9));
    }
}
