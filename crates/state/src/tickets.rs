//! Keys of TLS session tickets, sealed before they come here: what one node hands out, every node takes.
//!
//! ```text
//! generation   n-2       n-1        n
//!            previous  current    next        a rotation adds n+1 and forgets n-2
//! ```
//! Tickets are made with the last but one: a node that has not heard of the newest rotation yet can open them even so.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, Revision};

use crate::outcome::{Change, Outcome};

/// Of a sealed key, in bytes.
const LONGEST: usize = 1024;
const KEPT: usize = 3;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TicketKeys {
    /// Keys there ever were.
    generation: u64,
    /// The newest last.
    keys: VecDeque<TicketKey>,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TicketKey {
    pub generation: u64,
    pub sealed: Vec<u8>,
    pub made_at: Millis,
}

impl TicketKeys {
    /// Of the newest key; 0: there is none.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The newest first: next, current, previous.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &TicketKey> {
        self.keys.iter().rev()
    }

    /// The name that a key is sealed under.
    #[must_use]
    pub fn sealing(generation: u64) -> String {
        format!("tls-ticket-key-{generation}")
    }

    /// The same key.
    pub(crate) fn reseal(&mut self, generation: u64, sealed: Vec<u8>) {
        if let Some(key) = self.keys.iter_mut().find(|key| key.generation == generation) {
            key.sealed = sealed;
        }
    }

    /// `after`: the generation that whoever asks has seen. Two who ask at once rotate once.
    pub(crate) fn rotate(&mut self, after: u64, sealed: &[u8], at: Millis) -> (Outcome, Vec<Change>) {
        if LONGEST < sealed.len() {
            return (Outcome::TooLarge { limit: LONGEST as u64 }, Vec::new());
        }
        let (true, Some(generation)) = (after == self.generation, after.checked_add(1)) else {
            return (Outcome::Conflict { current: Revision(self.generation) }, Vec::new());
        };
        self.generation = generation;
        self.keys.push_back(TicketKey { generation, sealed: sealed.to_vec(), made_at: at });
        while KEPT < self.keys.len() {
            self.keys.pop_front();
        }
        (Outcome::Done, vec![Change::TicketKeys])
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").field("generation", &self.generation).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations(keys: &TicketKeys) -> Vec<u64> {
        keys.keys().map(|key| key.generation).collect()
    }

    #[test]
    fn three_keys_are_kept_and_two_who_rotate_at_once_rotate_once() {
        let mut keys = TicketKeys::default();
        for after in 0..5 {
            assert_eq!(keys.rotate(after, b"sealed", Millis(after)), (Outcome::Done, vec![Change::TicketKeys]));
            let late = keys.rotate(after, b"other", Millis(after));
            assert_eq!(late, (Outcome::Conflict { current: Revision(after + 1) }, Vec::new()));
        }
        assert_eq!(generations(&keys), [5, 4, 3]);
        assert_eq!(keys.rotate(5, &[0; LONGEST + 1], Millis(9)).0, Outcome::TooLarge { limit: 1024 });
        assert!(!format!("{keys:?}").contains("sealed"));
    }
}
