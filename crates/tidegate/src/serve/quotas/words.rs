//! What nodes say to each other about counters.

use serde::{Deserialize, Serialize};
use tidegate_limiter::Key;
use tidegate_model::LimitId;
use tidegate_proxy::Sighting;
use tidegate_quota::ledger::Detail;
use tidegate_quota::protocol::Note;

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// To the quota leader: put the orders into your log, at least up to this epoch.
    Settle { epoch: u64 },
    /// To the quota leader.
    Details(Vec<Key>),
    /// To the quota leader: the busiest by what was spent, or by its part of the maximum.
    Busiest { limit: Option<LimitId>, by_part: bool, most: u32 },
    /// What do you know of these?
    Seen(Vec<Key>),
    /// Of whom did you refuse most?
    Refused { limit: Option<LimitId>, most: u32 },
    /// To the quota leader: for your log.
    Note(Note),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Nothing,
    Settled(Result<(), String>),
    /// Of counters whose limit is known.
    Details(Result<Vec<Detail>, String>),
    Seen(Vec<(Key, Seen)>),
}

/// What a node knows of a counter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) limit: String,
    pub(super) words: String,
    pub(super) refused: u64,
    pub(super) would_refuse: u64,
}

impl From<Sighting> for Seen {
    fn from(sighting: Sighting) -> Self {
        let Sighting { limit, words, refused, would_refuse } = sighting;
        Self { limit, words, refused, would_refuse }
    }
}

impl Seen {
    /// What another node knows of the same.
    pub(super) fn join(&mut self, other: Self) {
        self.refused = self.refused.saturating_add(other.refused);
        self.would_refuse = self.would_refuse.saturating_add(other.would_refuse);
        if self.words.is_empty() {
            (self.limit, self.words) = (other.limit, other.words);
        }
    }

    pub(super) fn no(&self) -> u64 {
        self.refused.saturating_add(self.would_refuse)
    }
}
