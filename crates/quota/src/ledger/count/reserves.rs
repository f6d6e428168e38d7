//! Partition reserves: leases of a few permits in any window, for an hour, for nodes that may be cut off.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use super::Count;
use crate::guard;
use crate::protocol::{Batch, Item, Kind, Policy, RESERVE_TTL};

/// Partition reserves take at most a quarter of a limit, a node at most 1/32.
/// (but one permit, where that is less than a quarter). Made smaller, it stays charged until its node has agreed.
const RESERVE_OF_NODE: u64 = 32;
const RESERVE_OF_ALL: u64 = 4;
const MOST_FORMER: usize = 8;

/// A partition reserve: charged whole, whatever is spent of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reserve {
    pub(super) node: NodeId,
    incarnation: Incarnation,
    /// Of the newest batch of that incarnation that spoke of it.
    seq: u64,
    pub(super) permits: Permits,
    pub(super) lapses: Nanos,
    /// Earlier lives of the node: what still arrives from them changes nothing.
    former: VecDeque<Incarnation>,
}

impl Count {
    /// Opens, renews, shrinks or ends a node's partition reserve; returns what the node may count on from this answer on.
    pub(super) fn reserve(&mut self, batch: &Batch, item: &Item, clock: Nanos, policy: &Policy) -> Permits {
        let Kind::Sliding { window } = policy.kind else { return Permits::ZERO };
        let charge = RESERVE_TTL.saturating_add(window);
        let Some(at) = self.reserves.iter().position(|reserve| reserve.node == batch.node) else {
            return if item.reserve { self.open_reserve(batch, clock, policy) } else { Permits::ZERO };
        };
        // After a lowering there may be room for the older reserves only.
        let older = self.reserves[..at].iter().fold(Permits::ZERO, |sum, r| sum.saturating_add(r.permits));
        let room = reserves_of(policy).saturating_sub(older);
        let target = if item.reserve { reserve_of(policy).min(room) } else { Permits::ZERO };
        let reserve = &mut self.reserves[at];
        if reserve.incarnation != batch.incarnation {
            // The node was started anew. Its earlier life may have spent the reserve a moment ago; the new one knows.
            let former = !item.reserve || item.reserved != Permits::ZERO || reserve.former.contains(&batch.incarnation);
            if former && guard!("reserve-not-ended-by-a-former-life") {
                return Permits::ZERO;
            }
            if reserve.former.len() == MOST_FORMER {
                reserve.former.pop_front();
            }
            reserve.former.push_back(reserve.incarnation);
            reserve.incarnation = batch.incarnation;
        } else if batch.seq <= reserve.seq && guard!("reserve-not-ended-by-a-late-batch") {
            return Permits::ZERO; // Late: its holder no longer listens.
        }
        reserve.seq = batch.seq;
        let target =
            if item.reserve && !guard!("reserve-shrinks") { reserve.permits } else { target.min(reserve.permits) };
        // What the node no longer counts on may have been spent up to now: charged for one more window.
        let kept = match guard!("reserve-shrinks-by-agreement") {
            true => target.max(item.reserved.min(reserve.permits)),
            false => target,
        };
        let ended = reserve.permits.saturating_sub(kept);
        reserve.permits = kept;
        if target != Permits::ZERO {
            reserve.lapses = clock.saturating_add(charge);
        }
        if kept == Permits::ZERO {
            self.reserves.remove(at);
        }
        if guard!("reserve-ended-is-charged") {
            self.tally.spend(ended, clock, policy);
        }
        target
    }

    fn open_reserve(&mut self, batch: &Batch, clock: Nanos, policy: &Policy) -> Permits {
        let reserved = self.reserves.iter().fold(Permits::ZERO, |sum, r| sum.saturating_add(r.permits));
        let permits = reserve_of(policy).min(self.free(policy));
        if permits == Permits::ZERO || reserved.saturating_add(permits) > reserves_of(policy) {
            return Permits::ZERO;
        }
        self.reserves.push(Reserve {
            node: batch.node,
            incarnation: batch.incarnation,
            seq: batch.seq,
            permits,
            lapses: clock.saturating_add(RESERVE_TTL).saturating_add(policy.kind.lingers()),
            former: VecDeque::new(),
        });
        permits
    }
}

/// A node's part of a limit as its partition reserve.
fn reserve_of(policy: &Policy) -> Permits {
    Permits((policy.max.0 / RESERVE_OF_NODE).max(1)).min(reserves_of(policy))
}

/// What all partition reserves together may take.
fn reserves_of(policy: &Policy) -> Permits {
    Permits(policy.max.0 / RESERVE_OF_ALL)
}
