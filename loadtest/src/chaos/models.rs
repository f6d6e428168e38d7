//! What the cluster keeps, as one would write it down on paper: a register that is set and read, and a document that is replaced
//! if it is still the one that was seen.

use super::linear::Model;

/// A register; 0 at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    Set(u64),
    Get(u64),
}

impl Model for Register {
    type Operation = Self;
    type State = u64;

    fn begin() -> u64 {
        0
    }

    fn step(state: &u64, operation: &Self) -> Option<u64> {
        match *operation {
            Self::Set(to) => Some(to),
            Self::Get(saw) => (*state == saw).then_some(saw),
        }
    }
}

/// What a reader of the document saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Read {
    pub(super) revision: u64,
    pub(super) text: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cas {
    Done,
    /// Another revision was there.
    Refused,
    Unknown,
}

/// The published document; each publication counts the revision on by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    Get(Read),
    Cas { expects: u64, text: u64, was: Cas },
}

impl Model for Document {
    type Operation = Self;
    type State = Read;

    fn begin() -> Read {
        Read { revision: 0, text: 0 }
    }

    fn step(state: &Read, operation: &Self) -> Option<Read> {
        match operation {
            Self::Get(saw) => (state == saw).then_some(*saw),
            Self::Cas { expects, was: Cas::Refused, .. } => (state.revision != *expects).then_some(*state),
            Self::Cas { expects, text, was: Cas::Done | Cas::Unknown } => {
                (state.revision == *expects).then_some(Read { revision: expects + 1, text: *text })
            }
        }
    }
}
