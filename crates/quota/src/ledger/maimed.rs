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
        maimed.counts.values_mut().for_each(super::Count::maim);
        maimed
    }
}
