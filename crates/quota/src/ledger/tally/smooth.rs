//! A smooth limit: a bucket whose *rate* is held in parts. What nobody holds of it is a bucket as any other, with the part
//! of the rate that nobody holds.
//!
//! ```text
//!   Σ parts of the rate ≤ r      level + Σ room held ≤ B      a holder's permits ≤ the room it holds
//! ```
//! Asked by [`Count`](super::super::count::Count), which lets time pass here before it changes who holds what.

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use super::bucket::Bucket;
use crate::guard;
use crate::protocol::{Flow, Kind, Policy, Rate};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ledger) struct Smooth {
    rest: Bucket,
    shares: Vec<Share>,
}

/// A part of the rate that one epoch of one process may refill itself with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ledger) struct Share {
    pub(in crate::ledger) node: NodeId,
    pub(in crate::ledger) incarnation: Incarnation,
    pub(in crate::ledger) epoch: u64,
    pub(in crate::ledger) flow: Flow,
}

impl Share {
    fn is_of(&self, other: &Self) -> bool {
        self.node == other.node && self.incarnation == other.incarnation && self.epoch == other.epoch
    }
}

impl Smooth {
    pub(super) fn full(burst: Permits, rate: Rate, clock: Nanos) -> Self {
        Self { rest: Bucket::full(burst, rate, clock), shares: Vec::new() }
    }

    pub(super) fn level(&self) -> Permits {
        self.rest.level()
    }

    pub(super) fn refill(&mut self, clock: Nanos, held: Permits, policy: &Policy) {
        let rest = Flow::of(rate_of(policy)).saturating_sub(self.held());
        let rate = if guard!("share-leaves-the-rest") { rest.rate() } else { rate_of(policy) };
        self.rest.refill_at(rate, clock, held, policy);
    }

    pub(super) fn take(&mut self, granted: Permits) {
        self.rest.take(granted);
    }

    /// The mutation gate's, no other: room comes back empty.
    pub(super) fn put(&mut self, unspent: Permits) {
        self.rest.put(unspent);
    }

    pub(super) fn is_full_at(&self, policy: &Policy) -> Option<Nanos> {
        self.rest.is_full_at(policy)
    }

    /// All that is held.
    pub(in crate::ledger) fn held(&self) -> Flow {
        self.shares.iter().fold(Flow::ZERO, |sum, share| sum.saturating_add(share.flow))
    }

    /// What one holder has.
    pub(in crate::ledger) fn of(&self, who: &Share) -> Flow {
        self.shares.iter().find(|share| share.is_of(who)).map_or(Flow::ZERO, |share| share.flow)
    }

    pub(in crate::ledger) fn set(&mut self, share: Share) {
        self.shares.retain(|old| !old.is_of(&share));
        if share.flow != Flow::ZERO {
            self.shares.push(share);
        }
    }

    /// Leases have lapsed: their parts with them.
    pub(in crate::ledger) fn retain(&mut self, lives: impl Fn(&Share) -> bool) {
        self.shares.retain(lives);
    }
}

fn rate_of(policy: &Policy) -> Rate {
    match policy.kind {
        Kind::Smooth { rate } | Kind::Bucket { rate } => rate,
        _ => Rate { permits: 0, per: Nanos::SECOND },
    }
}
