//! A node at its bound of keys: a key that nobody uses is handed back for the one that somebody asks for, as `limiter` does it.

use tidegate_model::Nanos;
use tidegate_quota::guard;
use tidegate_quota::holding::Leaves;
use tidegate_quota::protocol::Key;

use super::requests::Request;
use super::{Known, Slot};
use crate::sim::oracle::shared;
use crate::sim::scenario::{MICRO, MILLI};
use crate::sim::world::{Event, World};

/// Whoever finds no room for his key waits for it no longer than this.
const ROOM_TAKES: u64 = 500 * MILLI;

impl World {
    /// The limit as this node may count it now: by the subject's own key, in a slot of its own. `None`: there is no room.
    pub(super) fn housed(&mut self, node: usize, known: Known) -> Option<Known> {
        if self.makes_room(node, known.key) {
            return Some(known);
        }
        // What was done once: several subjects shared a key on this node, whatever they have elsewhere.
        (!guard!("one-key-for-a-subject")).then(|| Known { key: shared(known.key), ..known })
    }

    /// Is there a slot for this key, or room for one? Otherwise another key is asked to leave.
    fn makes_room(&mut self, node: usize, key: Key) -> bool {
        let (room, life) = (self.scenario.room, self.nodes[node].life);
        let now = self.nodes[node].boot.read(self.now);
        let busy = self.nodes[node].busy;
        let slots = &mut self.nodes[node].slots;
        if slots.len() < room || slots.contains_key(&key) {
            return true;
        }
        let mut others: Vec<_> = slots.iter().map(|(key, slot)| (slot.leaves(now), slot.used, *key)).collect();
        others.sort_by_key(|(leaves, used, _)| (*leaves, *used));
        match others.first().copied() {
            // The node's one task forgets keys: not while it is in the middle of something.
            Some((Leaves::AtOnce, _, gone)) if !busy => {
                slots.remove(&gone);
                return slots.len() < room;
            }
            Some((Leaves::OnceTold | Leaves::AfterOthers, _, told)) if !slots.values().any(|slot| slot.leaving) => {
                slots.get_mut(&told).expect("listed above").leaving = true;
                self.list(node, told);
                self.after(300 * MICRO, Event::Pressed { node, life });
            }
            _ => {}
        }
        false
    }

    /// Comes again in a moment.
    pub(super) fn wait_for_room(&mut self, node: usize, mut request: Request) {
        if self.now < request.started + ROOM_TAKES {
            let life = self.nodes[node].life;
            self.after(MILLI, Event::TryAgain { node, life, request });
        } else {
            self.give_up_waiting(node, &mut request);
            self.decide(node, &request, false);
        }
    }

    /// Settled keys of a node that is full are forgotten at once.
    pub(super) fn see_off(&mut self, node: usize, key: Key) {
        let slots = &mut self.nodes[node].slots;
        let is_full = slots.len() >= self.scenario.room;
        if is_full && slots.get(&key).is_some_and(|slot| slot.is_settled()) {
            slots.remove(&key);
        }
    }
}

impl Slot {
    fn is_settled(&self) -> bool {
        self.missed == 0 && self.queued == 0 && self.holding.is_settled(&self.cell)
    }

    fn leaves(&self, now: Nanos) -> Leaves {
        match self.holding.leaves(&self.cell, now) {
            _ if self.is_settled() => Leaves::AtOnce,
            _ if self.queued > 0 => Leaves::NotNow,
            Leaves::AtOnce => Leaves::OnceTold, // It was refused something.
            leaves => leaves,
        }
    }
}
