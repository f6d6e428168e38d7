//! Owner mode between nodes: what `limiter` does with messages, done with events.

use tidegate_quota::guard;
use tidegate_quota::owner::{is_small, owner_of};
use tidegate_quota::protocol::Key;

use super::Known;
use super::requests::Request;
use crate::sim::scenario::{MICRO, MILLI, SECOND};
use crate::sim::world::{Event, World, node_id, node_of};

/// An owner that does not answer for so long is asked no more for a while. Longer than it may wait for the leader.
const PATIENCE: u64 = 400 * MILLI;
const SHUNNED: u64 = SECOND;

/// Whose request it is, when it is another node's.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Origin {
    pub(in crate::sim) node: usize,
    pub(in crate::sim) life: u32,
    pub(in crate::sim) request: u64,
}

impl World {
    /// The node to ask for permits of a key; `None`: this one.
    fn owner(&self, node: usize, known: Known) -> Option<usize> {
        let ids: Vec<_> = (0..self.nodes.len()).map(|at| node_id(at, self.nodes[at].joined)).collect();
        let boot = self.nodes[node].boot.read(self.now);
        let crowded = self.nodes[node].slots.get(&known.key).is_some_and(|slot| boot < slot.holding.crowded_until());
        if !crowded && !is_small(known.max, ids.len()) || !guard!("small-keys-have-an-owner") {
            return None;
        }
        let owner = node_of(owner_of(known.key, &ids)?);
        (owner != node && self.nodes[node].shuns[owner] <= self.now).then_some(owner)
    }

    /// Sends a request to the owner of its key, if that is another node. Returned: this node decides it.
    pub(super) fn forward(&mut self, node: usize, request: Request, known: Known, cost: u64) -> Option<Request> {
        if request.asks.len() != 1 || request.origin.is_some() || !known.suits_owners() {
            return Some(request);
        }
        let Some(owner) = self.owner(node, known) else { return Some(request) };
        let (life, id) = (self.nodes[node].life, self.nodes[node].next_number());
        self.nodes[node].away.insert(id, request);
        let origin = Origin { node, life, request: id };
        self.after(PATIENCE, Event::Shun { node, life, owner, request: id });
        if !self.nodes[node].cut && !self.nodes[owner].cut {
            let gathered = self.random.below(MILLI);
            self.after(gathered + 50 * MICRO, Event::Errand { node: owner, origin, key: known.key, cost });
        }
        None
    }

    /// Another node's request reaches the owner.
    pub(in crate::sim) fn errand(&mut self, node: usize, origin: Origin, key: Key, cost: u64) {
        let known = self.nodes[node].known.iter().position(|known| known.key == key && known.active);
        let (true, Some(limit)) = (self.nodes[node].up && !self.nodes[node].cut, known) else { return };
        let request = Request {
            asks: vec![(limit, cost)],
            started: self.now,
            waits_for: key,
            origin: Some(origin),
            ticket: None,
            patient: None,
        };
        self.attempt(node, request);
    }

    pub(super) fn fetched(&mut self, node: usize, origin: Origin, taken: bool) {
        if !self.nodes[node].cut {
            self.transmit(|| Event::Fetched { node: origin.node, life: origin.life, request: origin.request, taken });
        }
    }

    pub(in crate::sim) fn brought(&mut self, node: usize, request: u64, taken: bool) {
        if self.nodes[node].cut {
            return;
        }
        let Some(request) = self.nodes[node].away.remove(&request) else { return };
        self.decide(node, &request, taken);
    }

    /// No answer: this node asks for a lease of its own.
    pub(in crate::sim) fn shun(&mut self, node: usize, owner: usize, request: u64) {
        let Some(request) = self.nodes[node].away.remove(&request) else { return };
        self.nodes[node].shuns[owner] = self.now + SHUNNED;
        self.attempt(node, request);
    }
}
