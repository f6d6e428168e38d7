//! The quota group's machine: the ledger, and when this replica last applied an entry to it.

use tidegate_model::Nanos;
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{Entry, Outcome};

use crate::codec;
use crate::replica::Machine;

#[derive(Default)]
pub(crate) struct Quota {
    pub(crate) ledger: Ledger,
    /// This machine's raw clock when it applied the last entry, or replayed it after a start; `None`: there is none.
    /// Later than the moment the entry was stamped, so time counted from here never runs ahead.
    pub(crate) applied_at: Option<Nanos>,
}

impl Machine for Quota {
    type Command = Entry;
    type Outcome = Outcome;

    fn apply(&mut self, _index: u64, entry: Entry) -> Outcome {
        self.applied_at = Some(tidegate_clock::raw());
        self.ledger.apply(&entry)
    }

    fn save(&self) -> Vec<u8> {
        codec::encode(&self.ledger)
    }

    fn hash(&self) -> [u8; 32] {
        codec::digest(&self.ledger)
    }

    #[cfg(debug_assertions)]
    fn spoil(&mut self) {
        self.ledger.apply(&Entry { dt: Nanos(1), command: tidegate_quota::protocol::Command::Tick });
    }

    fn restore(&mut self, _index: u64, bytes: &[u8]) -> Result<(), codec::Error> {
        self.ledger = codec::decode_bulk(bytes)?;
        self.applied_at = Some(tidegate_clock::raw());
        Ok(())
    }
}
