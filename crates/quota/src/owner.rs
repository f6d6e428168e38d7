//! Owner mode: a key too small to be held in slices is held by one node, and the others ask that node.
//!
//! ```text
//!   other node ──Take{key, cost}──▶ owner: takes from its own cell, as for itself ──Taken{at} | Refused{retry}──▶ other node
//!              ──Back{token}──────▶ owner: puts back into the generation it came from, or not at all
//! ```
//! The owner is simply the holder of an ordinary lease: the ledger does not know about it, and nothing that is exact rests
//! on everybody naming the same one. A permit is admitted at the instant that the owner stamps it. Whoever gets no answer
//! asks the leader for a lease of his own.
//!
//! Pure. Asked by `limiter`, which sends and serves [`Errand`]s, and by the simulation.

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use crate::guard;
use crate::protocol::{Key, Kind};

/// Below so many permits for each node, a key has an owner from the start: slices of a few permits lie idle most of the
/// time, and each of them costs an entry in the log.
const PER_NODE: u64 = 10;
/// A node that asks for more than this a second keeps a lease even of a crowded key: a report carries more than one message.
const BUSY: f64 = 30.0;
/// Errands of one message.
pub const MOST_ERRANDS: usize = 2_048;

/// One thing that a node asks the owner of a key for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    Take {
        key: Key,
        cost: Permits,
    },
    /// Nobody was admitted with it after all.
    Back(Token),
}

/// What became of a [`Errand::Take`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fetched {
    /// At this instant of the owner's clock; without a token it does not come back.
    Taken { at: Nanos, token: Option<Token> },
    /// There are none, for so long as far as is known.
    Refused { retry: Nanos },
    /// This node cannot say: it knows no such limit, or hears of no leader.
    Elsewhere,
}

/// What a permit needs to find back. Means something to the owner only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Of the process that gave it.
    pub incarnation: Incarnation,
    pub slot: u32,
    pub life: u32,
    pub packed: u64,
    pub at: Nanos,
}

/// Whom to ask for permits of a key: the same answer on every node that knows the same nodes, and a node that goes away
/// moves its own keys only.
#[must_use]
pub fn owner_of(key: Key, nodes: &[NodeId]) -> Option<NodeId> {
    let weight = |node: &NodeId| mix(mix(key.limit.0 ^ node.0.rotate_left(32)) ^ halves(key));
    nodes.iter().copied().max_by_key(|node| (weight(node), *node))
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
fn halves(key: Key) -> u64 {
    (key.subject.0 >> 64) as u64 ^ key.subject.0 as u64
}

/// SplitMix64's last step.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Has a key with so many permits an owner from the start?
#[must_use]
pub const fn is_small(max: Permits, nodes: usize) -> bool {
    nodes > 1 && max.0 < PER_NODE * nodes as u64
}

/// Permits that are spent when they are taken can be taken elsewhere.
#[must_use]
pub const fn suits(kind: &Kind) -> bool {
    matches!(kind, Kind::Sliding { .. } | Kind::Bucket { .. } | Kind::Smooth { .. })
}

/// Is a key too crowded for slices? Recalls tell: a second one within D, given or taken, says that slices of it are in the
/// wrong place again and again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Crowd {
    recalled: Option<Nanos>,
    until: Nanos,
}

impl Crowd {
    /// Permits were called back, from here or for here.
    pub(crate) fn press(&mut self, now: Nanos, ttl: Nanos) {
        let again = self.recalled.is_some_and(|before| before < now && now <= before.saturating_add(ttl));
        if again && guard!("called-back-twice-has-an-owner") {
            self.until = now.saturating_add(ttl);
        }
        self.recalled = Some(now);
    }

    /// Until when this node asks the key's owner, if it wants so many a second.
    pub(crate) fn until(&self, per_second: f64) -> Nanos {
        if per_second < BUSY { self.until } else { Nanos::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{LimitId, Subject};

    use super::*;

    const NODES: [NodeId; 4] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4)];

    fn owners(nodes: &[NodeId]) -> Vec<NodeId> {
        let key = |subject: u64| Key { limit: LimitId(1), subject: Subject(u128::from(mix(subject)) << 64 | 7) };
        (1..4_001).map(|subject| owner_of(key(subject), nodes).expect("there are nodes")).collect()
    }

    #[test]
    fn owners_share_the_keys_and_a_node_that_goes_moves_only_its_own() {
        let (all, fewer) = (owners(&NODES), owners(&NODES[..3]));
        for node in NODES {
            let part = all.iter().filter(|owner| **owner == node).count();
            assert!((850..1_150).contains(&part), "{node} owns {part} of 4,000");
        }
        assert!(all.iter().zip(&fewer).all(|(before, after)| *before == NodeId(4) || before == after));
        assert_eq!(owner_of(Key { limit: LimitId(1), subject: Subject(1) }, &[]), None);
    }

    #[test]
    fn a_second_recall_within_a_lease_crowds_a_key_for_whoever_asks_seldom() {
        let (ttl, mut crowd) = (Nanos(100), Crowd::default());
        crowd.press(Nanos(50), ttl);
        assert_eq!(crowd.until(1.0), Nanos::ZERO, "one alone is the price of a first request elsewhere");
        crowd.press(Nanos(151), ttl);
        assert_eq!(crowd.until(1.0), Nanos::ZERO, "too long ago");
        crowd.press(Nanos(251), ttl);
        assert_eq!((crowd.until(1.0), crowd.until(31.0)), (Nanos(351), Nanos::ZERO));
    }

    #[test]
    fn a_limit_of_a_few_permits_for_each_node_has_an_owner_from_the_start() {
        assert!(is_small(Permits(20), 3) && !is_small(Permits(30), 3) && !is_small(Permits(1), 1));
    }
}
