//! A ledger as a snapshot would hold it that left something out: the mutation gate's, no other.

use super::Ledger;
use crate::guard;

impl Ledger {
    #[must_use]
    pub fn maimed(&self) -> Self {
        let mut maimed = self.clone();
        if !guard!("snapshot-holds-policies") {
            maimed.policies.clear();
        }
        if !guard!("snapshot-holds-removed-nodes") {
            maimed.removed.clear();
        }
        if !guard!("snapshot-holds-the-clock") {
            maimed.clock = tidegate_model::Nanos::ZERO;
        }
        if !guard!("snapshot-holds-closed-processes") {
            maimed.aftermath.forget_closed();
        }
        if !guard!("snapshot-holds-windows") {
            maimed.windows = super::Windows::default();
        }
        if !guard!("snapshot-holds-orders") {
            (maimed.orders, maimed.rates) = Default::default();
        }
        maimed.counts.values_mut().for_each(super::Count::maim);
        maimed
    }
}
