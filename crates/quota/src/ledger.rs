//! The replicated count.

use serde::{Deserialize, Serialize};

use crate::protocol::{Entry, Outcome};

/// The state of the quota group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {}

impl Ledger {
    /// Same state, same entry, same outcome: on every node, on every replay. Cannot fail, waits for nothing.
    pub fn apply(&mut self, _entry: &Entry) -> Outcome {
        Outcome::default()
    }

    /// Is any permit charged? While so, an idle leader appends a tick now and then.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        false
    }
}
