//! What was admitted in the last window, and over the whole run, as the clients saw it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::generator::Counts;

pub(crate) struct Window {
    length: Duration,
    samples: VecDeque<(Instant, Counts)>,
    /// Where counting begins: one window after the start, when the limit is in full use.
    first: Option<(Instant, Counts)>,
    began: Instant,
}

impl Window {
    pub(crate) fn new(length: Duration) -> Self {
        Self { length, samples: VecDeque::new(), first: None, began: Instant::now() }
    }

    pub(crate) fn sample(&mut self, counts: Counts) {
        let now = Instant::now();
        if self.first.is_none() && now - self.began >= self.length {
            self.first = Some((now, counts));
        }
        self.samples.push_back((now, counts));
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= self.length) {
            self.samples.pop_front();
        }
    }

    /// Over one window's length, up to the last sample.
    pub(crate) fn admitted(&self) -> u64 {
        self.spread().map_or(0, |(first, last)| last.admitted - first.admitted)
    }

    /// Of all requests in the last window.
    pub(crate) fn per_second(&self, of: impl Fn(Counts) -> u64) -> f64 {
        #[expect(clippy::cast_precision_loss)]
        self.spread().map_or(0.0, |(first, last)| (of(last) - of(first)) as f64 / self.length.as_secs_f64())
    }

    fn spread(&self) -> Option<(Counts, Counts)> {
        Some((self.samples.front()?.1, self.samples.back()?.1))
    }

    /// Admitted since counting began, as a share of what `max` per window allows in that time.
    pub(crate) fn admitted_share(&self, max: u64) -> f64 {
        let (Some((from, first)), Some((to, last))) = (self.first, self.samples.back()) else { return 0.0 };
        let windows = (*to - from).as_secs_f64() / self.length.as_secs_f64();
        #[expect(clippy::cast_precision_loss)]
        let (admitted, max) = ((last.admitted - first.admitted) as f64, max as f64);
        if windows > 0.0 { admitted / (max * windows) } else { 0.0 }
    }
}
