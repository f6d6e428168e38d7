//! What a client may still spend. The caller brings the time.

use super::{FRAME, Now};

/// So much at once, and so much in the long run.
#[derive(Debug)]
pub(crate) struct Bucket {
    left: u32,
    /// What time gives, and what else can be earned.
    most: u32,
    most_earned: u32,
    per_second: u32,
    /// When it was found empty the last time.
    filled: u64,
}

impl Bucket {
    pub(crate) fn new(frames: u32, per_second: u32, most_earned: u32) -> Self {
        let [most, most_earned, per_second] = [frames, most_earned, per_second].map(|n| n.saturating_mul(FRAME));
        Self { left: most, most, most_earned: most_earned.max(most), per_second, filled: 0 }
    }

    #[inline]
    pub(crate) fn take(&mut self, cost: u32, now: Now<'_>) -> bool {
        if self.left < cost {
            self.refill(now());
        }
        let paid = self.left >= cost;
        self.left = self.left.saturating_sub(if paid { cost } else { 0 });
        paid
    }

    #[inline]
    pub(crate) fn earn(&mut self, worth: u32) {
        self.left = self.left.saturating_add(worth).min(self.most_earned);
    }

    #[cold]
    pub(super) fn refill(&mut self, now: u64) {
        let gained = now.saturating_sub(self.filled).saturating_mul(self.per_second.into()) / 1_000;
        if gained > 0 {
            self.filled = now; // Not sooner: what is less than one would be lost.
        }
        self.left = self.left.saturating_add(u32::try_from(gained).unwrap_or(u32::MAX)).min(self.most);
    }
}
