//! The outcomes of recent requests, so that asking twice does once.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;

/// Drawn at random by whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RequestId(pub u128);

/// A request is retried for seconds; this is minutes of the busiest control log.
const KEPT: usize = 4096;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Recent {
    outcomes: BTreeMap<RequestId, Outcome>,
    /// Oldest first; the same ids as `outcomes`.
    order: VecDeque<RequestId>,
}

impl Recent {
    pub(crate) fn outcome(&self, request: RequestId) -> Option<&Outcome> {
        self.outcomes.get(&request)
    }

    pub(crate) fn remember(&mut self, request: RequestId, outcome: Outcome) {
        while KEPT <= self.order.len() {
            if let Some(oldest) = self.order.pop_front() {
                self.outcomes.remove(&oldest);
            }
        }
        if self.outcomes.insert(request, outcome).is_none() {
            self.order.push_back(request);
        }
    }
}
