//! Token buckets: every stretch of time τ, against burst + rate × τ.

use super::{Bound, Counter};
use crate::sim::scenario::Sort;

impl Counter {
    /// The first stretch that admits more: the bucket as it would be with a true clock, and with all nodes taking from it in
    /// person. A lowered burst binds a lease after its entry, a lowered rate at once; a reset fills it; a grant is there
    /// once.
    pub(super) fn overdrawn(&self) -> Option<String> {
        // In permits × window, so that nothing is rounded.
        let window = u128::from(self.window);
        let mut turns: Vec<u64> =
            self.bounds.iter().flat_map(|b| [b.from, b.until, b.replaced]).filter(|at| *at < u64::MAX).collect();
        turns.extend(&self.resets);
        turns.sort_unstable();
        let mut turns = turns.into_iter().peekable();
        let mut extras = self.extras.clone();
        let (mut level, mut before) = (u128::MAX, 0);
        for admission in &self.admitted {
            while let Some(turn) = turns.next_if(|turn| *turn < admission.at) {
                // A raised burst is there at once for who has not used the bucket.
                let raised = self.allowed(turn, turn).saturating_sub(self.allowed(before, before));
                level = level.saturating_add(u128::from(raised) * window);
                level = if self.resets.contains(&turn) { u128::MAX } else { self.filled(level, before, turn) };
                before = turn;
            }
            level = self.filled(level, before, admission.at);
            before = admission.at;
            let mut missing = (u128::from(admission.cost) * window).saturating_sub(level);
            level = level.saturating_sub(u128::from(admission.cost) * window);
            for extra in extras.iter_mut().filter(|e| e.since <= admission.at && admission.at <= e.until) {
                let part = missing.div_ceil(window).min(u128::from(extra.left));
                extra.left -= u64::try_from(part).expect("no more than there were");
                level += (part * window).saturating_sub(missing);
                missing = missing.saturating_sub(part * window);
            }
            if missing > 0 {
                let (at, short) = (admission.at as f64 / 1e9, missing as f64 / window as f64);
                let most = self.allowed(admission.at, admission.at);
                return Some(format!(
                    "{} taken at {at:.6} s, {short:.3} more than a bucket of {most} holds",
                    admission.cost
                ));
            }
        }
        None
    }

    fn filled(&self, level: u128, from: u64, to: u64) -> u128 {
        // A part of a rate that is too large ends when its holder has said so, or with its lease.
        let ends = |bound: &Bound| if self.sort == Sort::Smooth { bound.until } else { bound.replaced };
        let rates = self.bounds.iter().filter(|bound| bound.from <= from && from < ends(bound));
        let rate = rates.map(|bound| bound.rate).max().unwrap_or(0);
        let come = u128::from(to - from) * u128::from(rate);
        level.saturating_add(come).min(u128::from(self.allowed(to, to)) * u128::from(self.window))
    }
}
