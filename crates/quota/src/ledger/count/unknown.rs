//! Holders that nobody knows: of a cluster that this one took the place of.

use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use super::{Count, Record};
use crate::protocol::Policy;

/// No cluster has a node of this id.
const NOBODY: NodeId = NodeId(0);

impl Count {
    /// All there is of the key is held since `at`, by nobody knows whom.
    pub(in crate::ledger) fn held_by_unknown(at: Nanos, policy: &Policy) -> Self {
        let mut count = Self::new(at, policy);
        count.tally.grant(policy.max);
        count.records.push(Record {
            node: NOBODY,
            incarnation: Incarnation(0),
            epoch: 0,
            seq: 0,
            spent: Permits::ZERO,
            outstanding: policy.max,
            pace: policy.max, // Not idle: there is nobody to be asked for them.
            want: Permits::ZERO,
            recalled: Nanos::ZERO,
            heard: at,
            lapses: at.saturating_add(policy.ttl).saturating_add(policy.kind.lingers()),
        });
        count
    }

    /// By an operator's word there are no such holders.
    pub(super) fn forget_unknown(&mut self) {
        self.records.retain(|record| record.node != NOBODY);
    }

    /// Its holders are gone, and what they held may have been spent.
    pub(in crate::ledger) fn settle(&mut self) {
        let held = self.outstanding();
        self.tally.lapse(held);
        if let Some(dated) = self.tally.dated() {
            dated.lives.clear();
        }
        self.records.clear();
        self.reserves.clear();
        self.held.clear();
    }

    /// So much is spent, by whomever.
    pub(in crate::ledger) fn spend(&mut self, spent: Permits, clock: Nanos, policy: &Policy) {
        self.tally.spend(spent, clock, policy);
    }
}
