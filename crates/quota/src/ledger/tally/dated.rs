//! Calendar windows and budgets: what was spent in the window that is open. Every grant and every spend belongs to the window
//! it was granted in, so Σ ≤ L in each needs no clock: after the next one has opened, nothing is granted for this one.

use serde::{Deserialize, Serialize};
use tidegate_model::{Nanos, Permits};

use super::super::windows::Window;
use crate::guard;
use crate::protocol::{Alert, Key, Kind, Policy};

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
}

impl Dated {
    /// `true`: another window has begun. `charged`: at the end of the one before.
    pub(crate) fn turn(&mut self, window: &Window, charged: Permits, policy: &Policy) -> bool {
        if window.number <= self.number {
            return false;
        }
        let most = match &policy.kind {
            Kind::Budget(budget) if window.follows => budget.carry,
            _ => Permits::ZERO,
        };
        // A key that nobody remembers had used nothing.
        let carried = policy.max.saturating_add(self.carried).saturating_sub(charged);
        let carried = if guard!("carry-over-is-bounded") { carried.min(most) } else { carried };
        *self = Self { number: window.number, spent: Permits::ZERO, carried, told: 0, seen: self.seen };
        true
    }

    /// The window's count begins anew.
    pub(super) fn reset(&mut self) {
        (self.spent, self.told) = (Permits::ZERO, 0);
    }

    pub(super) fn seen(&mut self, clock: Nanos) {
        self.seen = clock;
    }

    pub(super) fn spend(&mut self, spent: Permits) {
        self.spent = self.spent.saturating_add(spent);
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
