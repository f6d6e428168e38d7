//! What operators ordered about limits, as far as a node need know: how much a subject may have at most, and what goes into
//! the decision log. What is granted, the ledger decides.

use std::collections::HashMap;

use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_quota::evidence::Record;
use tidegate_quota::protocol::Key;

use crate::admit::{Ask, Limiter};

/// The most that single subjects may take, where that is not what their limit says.
pub type Ceilings = HashMap<Key, Permits>;

impl Limiter {
    /// Takes the place of what was said before.
    pub fn set_ceilings(&self, ceilings: Ceilings) {
        self.ceilings.store(ceilings.into());
    }

    /// Forgets what the leader said about when to ask again: operators may have ordered something else since.
    pub fn ask_anew(&self) {
        for slot in self.table.all() {
            slot.cover(clock::boot(), Nanos::ZERO);
        }
    }

    /// A cost above it is refused at once: waiting would not help.
    pub(crate) fn ceiling(&self, ask: &Ask<'_>) -> Permits {
        self.ceilings.load().get(&ask.key()).copied().unwrap_or(ask.limit.max)
    }

    /// Writes something down for the judge of decision logs, if one is kept.
    pub fn note(&self, record: impl FnOnce(Nanos) -> Record) {
        if let Some(log) = self.decisions() {
            log.write(record(clock::boot()));
        }
    }
}
