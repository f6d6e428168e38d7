//! What happened since the limit was last looked at, counted by those who answer without a lock. A number may fall into the
//! window beside its own when that ends at the same moment: it is one of many.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use tidegate_overload::Seen;
use tokio::time::Instant;

use crate::endpoint::age;

/// Logarithms are counted in parts of one.
const PARTS: f64 = 65_536.0;

#[derive(Debug, Default)]
pub(super) struct Window {
    /// Answers count for the window their request began in.
    epoch: AtomicU64,
    /// Microseconds of [`age`].
    began: AtomicU64,
    answers: AtomicU32,
    sum: AtomicI64,
    squares: AtomicI64,
    failures: AtomicU32,
    peak: AtomicU32,
    full: AtomicBool,
}

impl Window {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    pub(super) fn ran(&self, running: u32) {
        if self.peak.load(Relaxed) < running {
            self.peak.fetch_max(running, Relaxed);
        }
    }

    /// Somebody found no room.
    pub(super) fn was_full(&self) {
        if !self.full.load(Relaxed) {
            self.full.store(true, Relaxed);
        }
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn answered(&self, epoch: u64, took: Duration) {
        if epoch != self.epoch() {
            return;
        }
        let ln = took.as_secs_f64().max(1e-6).ln();
        #[expect(clippy::cast_possible_truncation, reason = "logarithms of times are below a hundred")]
        let parts = |value: f64| (value * PARTS) as i64;
        self.sum.fetch_add(parts(ln), Relaxed);
        self.squares.fetch_add(parts(ln * ln), Relaxed);
        self.answers.fetch_add(1, Relaxed);
    }

    /// The window, if it is enough to judge by.
    pub(super) fn due(&self, limit: u32, now: Instant) -> Option<Seen> {
        let (answers, failures) = (self.answers.load(Relaxed), self.failures.load(Relaxed));
        let span = age(now).saturating_sub(Duration::from_micros(self.began.load(Relaxed)));
        let mut seen = Seen { answers, failures, span, ..Seen::default() };
        if !seen.is_enough(limit) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let whole = |parts: &AtomicI64| parts.load(Relaxed) as f64 / PARTS;
        (seen.sum, seen.squares) = (whole(&self.sum), whole(&self.squares));
        (seen.peak, seen.full) = (self.peak.load(Relaxed), self.full.load(Relaxed));
        Some(seen)
    }

    /// The next window. By one at a time.
    pub(super) fn begin(&self, running: u32, now: Instant) {
        self.epoch.fetch_add(1, Relaxed);
        self.began.store(super::micros(age(now)), Relaxed);
        self.answers.store(0, Relaxed);
        self.sum.store(0, Relaxed);
        self.squares.store(0, Relaxed);
        self.failures.store(0, Relaxed);
        self.peak.store(running, Relaxed);
        self.full.store(false, Relaxed);
    }
}

/// Wall time, as it was when this process first asked, and going on evenly: nodes probe together.
pub(super) fn wall(now: Instant) -> Duration {
    static OFFSET: OnceLock<Duration> = OnceLock::new();
    let since = age(now);
    let offset = OFFSET.get_or_init(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(since)
    });
    *offset + since
}
