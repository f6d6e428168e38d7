//! What becomes of the leases of a dead process, by the word of its journal.

use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use super::{Count, Record};
use crate::guard;
use crate::protocol::{Closed, Policy, Rest};

impl Count {
    /// A lease of a dead process: spent as far as its journal says, and the rest is free.
    pub(in crate::ledger) fn close(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        closed: &Closed,
        clock: Nanos,
        policy: &Policy,
    ) {
        let is_it = |record: &Record| record.is_of(node, incarnation) && record.epoch == closed.epoch;
        if let Some(at) = self.records.iter().position(is_it) {
            let record = self.records.remove(at);
            let since = closed.spent.map(|spent| spent.saturating_sub(record.spent));
            let spent = if guard!("dead-lease-charged-to-its-mark") { since } else { Some(Permits::ZERO) };
            self.tally.spend(spent.unwrap_or(record.outstanding), clock, policy);
        }
        if let Some(dated) = self.tally.dated()
            && let Some(lapsed) = dated.lives.take(node, incarnation, closed.epoch)
            && let Some(spent) = closed.spent
        {
            dated.correct(lapsed.outstanding, spent.saturating_sub(lapsed.spent));
        }
    }

    /// All other leases of a dead process.
    pub(in crate::ledger) fn close_all(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        rest: Rest,
        clock: Nanos,
        policy: &Policy,
    ) {
        let dead = self.records.extract_if(.., |record| record.is_of(node, incarnation));
        let held = dead.fold(Permits::ZERO, |sum, record| sum.saturating_add(record.outstanding));
        if rest == Rest::Spent || !guard!("whole-journal-names-what-was-spent") {
            self.tally.spend(held, clock, policy);
        }
        if let Some(dated) = self.tally.dated() {
            let lapsed = dated.lives.end(node, incarnation);
            if rest == Rest::Unspent {
                dated.correct(lapsed, Permits::ZERO);
            }
        }
    }

    /// A lease of a process that journals claims more than is charged: nothing of it comes back, whatever its journal says.
    pub(super) fn forfeit(&mut self, at: usize, clock: Nanos, policy: &Policy) {
        let Record { node, incarnation, outstanding, .. } = self.records[at];
        if self.tally.lives().is_of(node, incarnation) {
            self.records.remove(at);
            self.tally.spend(outstanding, clock, policy);
        }
    }
}
