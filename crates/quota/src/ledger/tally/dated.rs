//! Calendar windows and budgets: what was spent in the window that is open. Every grant and every spend belongs to the window
//! it was granted in, so Σ ≤ L in each needs no clock: after the next one has opened, nothing is granted for this one.

use serde::{Deserialize, Serialize};
use tidegate_model::{Nanos, Permits};

use super::super::windows::Window;
use super::lives::Lives;
use crate::guard;
use crate::protocol::{Alert, Batch, Item, Key, Kind, Period, Policy};

/// A count is looked at this often, to see whether its window is over.
const LOOK: Nanos = Nanos::from_secs(600);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dated {
    /// 0: none yet.
    number: u64,
    /// Reported, or held when a lease ended: it may have been spent.
    spent: Permits,
    /// What the window before left.
    carried: Permits,
    /// The highest threshold that was told of.
    told: u8,
    seen: Nanos,
    /// Written by [`Tally`](super::Tally), where there are some.
    #[serde(skip)]
    pub(crate) lives: Lives,
}

impl Dated {
    pub(super) fn with(self, lives: Lives) -> Self {
        Self { lives, ..self }
    }

    /// `true`: another window has begun. `charged`: at the end of the one before, of this maximum.
    pub(crate) fn turn(&mut self, window: &Window, charged: Permits, max: Permits, policy: &Policy) -> bool {
        if window.number <= self.number {
            return false;
        }
        let most = match &policy.kind {
            Kind::Budget(budget) if window.follows => budget.carry,
            _ => Permits::ZERO,
        };
        // A key that nobody remembers had used nothing, nor had one that nobody asked for in the window before this one.
        let carried = match &policy.kind {
            Kind::Budget(budget) if is_apart(self.number, window.number, budget.period) => max,
            _ => max.saturating_add(self.carried).saturating_sub(charged),
        };
        let carried = if guard!("carry-over-is-bounded") { carried.min(most) } else { carried };
        let (number, seen) = (window.number, self.seen);
        *self = Self { number, spent: Permits::ZERO, carried, told: 0, seen, lives: Lives::default() };
        true
    }

    /// The window's count begins anew.
    pub(super) fn reset(&mut self) {
        (self.spent, self.told) = (Permits::ZERO, 0);
        self.lives.clear(); // What lapsed is forgotten with the rest: nothing of it comes back.
    }

    pub(super) fn seen(&mut self, clock: Nanos) {
        self.seen = clock;
    }

    pub(super) fn spend(&mut self, spent: Permits) {
        self.spent = self.spent.saturating_add(spent);
    }

    /// So much was counted as spent when a lease lapsed, and this was.
    pub(crate) fn correct(&mut self, counted: Permits, spent: Permits) {
        self.spent = Permits(self.spent.0.saturating_sub(counted.0)).saturating_add(spent);
    }

    /// A process reports on a lease that has lapsed: all it may spend of it yet is what it says that it has.
    pub(crate) fn hear_late(&mut self, batch: &Batch, item: &Item) {
        if let Some(lapsed) = self.lives.take_before(batch.node, batch.incarnation, item.epoch, batch.seq) {
            let kept = if guard!("late-report-keeps-what-is-reserved") { item.have } else { Permits::ZERO };
            let spent = item.spent.saturating_add(kept).saturating_sub(lapsed.spent);
            self.correct(lapsed.outstanding, spent);
        }
    }

    pub(super) fn spent(&self) -> Permits {
        self.spent
    }

    pub(super) fn carried(&self) -> Permits {
        self.carried
    }

    pub(crate) fn alerts(&mut self, key: Key, policy: &Policy, alerts: &mut Vec<Alert>) {
        let Kind::Budget(budget) = &policy.kind else { return };
        let percent = u128::from(self.spent.0) * 100 / u128::from(policy.max.0.max(1));
        let passed =
            budget.alerts.iter().copied().filter(|alert| {
                (*alert > self.told || !guard!("threshold-told-once")) && u128::from(*alert) <= percent
            });
        for percent in passed {
            alerts.push(Alert { key, window: self.number, percent, spent: self.spent, max: policy.max });
        }
        self.told =
            budget.alerts.iter().copied().filter(|alert| u128::from(*alert) <= percent).fold(self.told, u8::max);
    }

    pub(super) fn ends(&self, policy: &Policy) -> Option<Nanos> {
        let fresh = match &policy.kind {
            Kind::Budget(budget) => budget.carry.min(policy.max),
            _ => Permits::ZERO,
        };
        let is_new = self.spent == Permits::ZERO && (self.carried == fresh || !guard!("used-up-budget-is-remembered"));
        (!is_new).then(|| self.seen.saturating_add(LOOK))
    }
}

/// Was there a window between these two? They are numbered by the minutes that they begin in, and none is half as long again as
/// another one.
fn is_apart(before: u64, after: u64, period: Period) -> bool {
    after.saturating_sub(before).saturating_mul(600) > period.seconds().saturating_mul(14)
}
