//! What the cluster agreed on about endpoints of upstreams: breakers, health, weights and drains set by hand.
//!
//! Whether an endpoint is sick is judged elsewhere; here a verdict counts if nothing was decided since the judge looked.
//! An endpoint that is as the document says has no ruling, so that the list is as long as there is trouble.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_model::{Millis, NodeId};

use crate::MAX_NAME;
use crate::outcome::{Change, Outcome};

/// Rulings kept; more trouble than that is left to each node.
const MOST: usize = 20_000;
const MAX_WEIGHT: u32 = 65_535;

/// An endpoint of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub upstream: String,
    /// `10.0.0.5:8000`
    pub endpoint: String,
}

/// What holds for one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Ruling {
    /// Of the change that made it so.
    pub epoch: u64,
    pub at: Millis,
    pub breaker: Breaker,
    pub unhealthy: bool,
    /// Instead of the document's.
    pub weight: Option<u32>,
    pub drained: bool,
}

/// Positional: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Breaker {
    #[default]
    Closed,
    Open {
        round: u32,
    },
    /// This node may send one request.
    HalfOpen {
        round: u32,
        node: NodeId,
    },
}

/// A verdict on one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub place: Place,
    /// The epoch of the ruling that was judged, 0 when there was none: another one in between makes this void.
    pub replaces: u64,
    pub what: What,
}

/// Positional: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Breaker(Breaker),
    Unhealthy(bool),
}

/// Set by hand. Positional: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Set {
    /// `None`: as the document says.
    Weight(Option<u32>),
    Drained(bool),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoints {
    /// Grows with each change of any ruling.
    epoch: u64,
    rulings: BTreeMap<Place, Ruling>,
}

impl Endpoints {
    pub fn rulings(&self) -> impl Iterator<Item = (&Place, &Ruling)> {
        self.rulings.iter()
    }

    #[must_use]
    pub fn ruling(&self, place: &Place) -> Option<&Ruling> {
        self.rulings.get(place)
    }

    /// Of the newest change.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn judge(&mut self, verdicts: &[Verdict], at: Millis) -> (Outcome, Vec<Change>) {
        let mut changed = false;
        for Verdict { place, replaces, what } in verdicts {
            let now = self.rulings.get(place).copied().unwrap_or_default();
            if now.epoch != *replaces || (now.epoch == 0 && !self.has_room(place)) {
                continue;
            }
            let next = match *what {
                What::Breaker(breaker) => Ruling { breaker, ..now },
                What::Unhealthy(unhealthy) => Ruling { unhealthy, ..now },
            };
            changed |= self.put(place, next, at);
        }
        (Outcome::Done, if changed { vec![Change::Endpoints] } else { Vec::new() })
    }

    pub(crate) fn set(&mut self, place: &Place, set: Set, at: Millis) -> (Outcome, Vec<Change>) {
        if let Set::Weight(Some(weight)) = set
            && weight > MAX_WEIGHT
        {
            return (Outcome::TooLarge { limit: u64::from(MAX_WEIGHT) }, Vec::new());
        }
        if place.upstream.len() > MAX_NAME || place.endpoint.len() > MAX_NAME {
            return (Outcome::TooLarge { limit: MAX_NAME as u64 }, Vec::new());
        }
        if !self.has_room(place) {
            return (Outcome::Full, Vec::new());
        }
        let now = self.rulings.get(place).copied().unwrap_or_default();
        let next = match set {
            Set::Weight(weight) => Ruling { weight, ..now },
            Set::Drained(drained) => Ruling { drained, ..now },
        };
        let changed = self.put(place, next, at);
        (Outcome::Done, if changed { vec![Change::Endpoints] } else { Vec::new() })
    }

    fn has_room(&self, place: &Place) -> bool {
        let short = place.upstream.len() <= MAX_NAME && place.endpoint.len() <= MAX_NAME;
        short && (self.rulings.len() < MOST || self.rulings.contains_key(place))
    }

    fn put(&mut self, place: &Place, next: Ruling, at: Millis) -> bool {
        let now = self.rulings.get(place).copied().unwrap_or_default();
        if next == now {
            return false;
        }
        self.epoch += 1;
        let plain = Ruling { epoch: 0, at: Millis(0), ..next };
        if plain == Ruling::default() {
            self.rulings.remove(place);
        } else {
            self.rulings.insert(place.clone(), Ruling { epoch: self.epoch, at, ..next });
        }
        true
    }
}
