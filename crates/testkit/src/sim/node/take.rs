//! How a request gets permits of one limit, and how they come back.

use std::rc::Rc;

use tidegate_model::Permits;
use tidegate_quota::cell::{Take, Ticket};
use tidegate_quota::holding::{Drawn, Reservation};
use tidegate_quota::protocol::{Key, Nature};
use tidegate_quota::{Cell, guard};

use super::requests::Request;
use super::{Known, Place};
use crate::sim::oracle::{Admission, Mark};
use crate::sim::world::World;

/// What a request holds of one limit.
pub(in crate::sim) struct Hold {
    pub(super) key: Key,
    pub(super) cell: Rc<Cell>,
    pub(super) what: What,
    pub(super) mark: Mark,
}

pub(super) enum What {
    Lease(Ticket),
    /// From the partition reserve, which takes nothing back.
    Reserve,
    /// In use for as long as the call runs; by its number.
    Place(u64),
    Promised(Reservation),
}

pub(super) enum Took {
    Held(Hold),
    Short,
    Dead,
}

impl World {
    pub(super) fn take(&mut self, node: usize, known: Known, cost: Permits, request: &mut Request) -> Took {
        match known.nature() {
            Nature::InUse => self.take_place(node, known, cost),
            Nature::Spent if known.promised => self.take_promised(node, known, cost, request),
            Nature::Spent | Nature::Refilled => self.take_plain(node, known, cost),
        }
    }

    fn take_plain(&mut self, node: usize, known: Known, cost: Permits) -> Took {
        loop {
            let cell = Rc::clone(&self.slot(node, known).cell);
            let life = self.nodes[node].life;
            let (mut stamp, mut tag) = (0, 0);
            let take = cell.take(cost, || {
                self.slot(node, known).taken += cost.0;
                self.dawdle(node);
                (stamp, tag) = (self.now, self.window_of(node, known.key));
                self.nodes[node].boot.read(self.now)
            });
            if self.nodes[node].life != life {
                return Took::Dead;
            }
            match take {
                Take::Taken(ticket) => {
                    self.list(node, known.key);
                    let admission = Admission::of(known.key, node, stamp, cost.0, tag);
                    self.trace(|| format!("node {node} took, {admission:?}, cell {cell:?}"));
                    let mark = self.oracle.admit(admission);
                    return Took::Held(Hold { key: known.key, cell, what: What::Lease(ticket), mark });
                }
                Take::Burnt(_) => self.list(node, known.key),
                Take::Short if self.draw(node, known, cost) == Drawn::There => {}
                Take::Short => return self.take_reserved(node, known, cost),
            }
        }
    }

    /// What a node's part of the rate has brought.
    pub(super) fn draw(&mut self, node: usize, known: Known, cost: Permits) -> Drawn {
        if known.nature() != Nature::Refilled {
            return Drawn::Nothing;
        }
        // Both are read under the holding's lock: no draw comes between.
        let (boot, raw) = (self.nodes[node].boot.read(self.now), self.nodes[node].raw.read(self.now));
        let slot = self.slot(node, known);
        let cell = Rc::clone(&slot.cell);
        slot.holding.draw(&cell, cost, boot, raw)
    }

    fn take_place(&mut self, node: usize, known: Known, cost: Permits) -> Took {
        let cell = Rc::clone(&self.slot(node, known).cell);
        let life = self.nodes[node].life;
        let Some(grab) = cell.grab(cost) else { return Took::Short };
        self.dawdle(node);
        if self.nodes[node].life != life {
            return Took::Dead;
        }
        let now = self.nodes[node].boot.read(self.now);
        self.list(node, known.key);
        let Take::Taken(ticket) = cell.stamp(grab, now) else {
            cell.ungrab(grab); // It admitted nobody.
            return Took::Short;
        };
        let admission = Admission::of(known.key, node, self.now, cost.0, 0);
        self.trace(|| format!("node {node} took a place, {admission:?}, cell {cell:?}"));
        let mark = self.oracle.admit(admission);
        let what = What::Place(self.occupy(node, known, &cell, ticket));
        Took::Held(Hold { key: known.key, cell, what, mark })
    }

    /// Under the holding's lock, so no report is cut in between.
    fn take_promised(&mut self, node: usize, known: Known, cost: Permits, request: &mut Request) -> Took {
        let boot = self.nodes[node].boot.read(self.now);
        let ticket = request.ticket.filter(|(key, _)| *key == known.key).map(|(_, ticket)| ticket);
        let slot = self.slot(node, known);
        let cell = Rc::clone(&slot.cell);
        let before = cell.left();
        let kept = ticket.and_then(|ticket| slot.holding.redeem(&cell, ticket, || boot));
        let redeemed = kept.is_some();
        let reservation = kept.or_else(|| slot.holding.reserve(&cell, cost, || boot));
        let tag = slot.window;
        if reservation.is_none() {
            slot.taken += before.saturating_sub(cell.left()).0; // Taken too late: spent, for nobody.
        }
        if redeemed {
            request.ticket = None;
        }
        self.list(node, known.key);
        let Some(reservation) = reservation else { return Took::Short };
        let admission = Admission { open_until: u64::MAX, ..Admission::of(known.key, node, self.now, cost.0, tag) };
        self.trace(|| format!("node {node} reserved, {admission:?}, cell {cell:?}"));
        let mark = self.oracle.admit(admission);
        Took::Held(Hold { key: known.key, cell, what: What::Promised(reservation), mark })
    }

    fn take_reserved(&mut self, node: usize, known: Known, cost: Permits) -> Took {
        let (now, at) = (self.nodes[node].boot.read(self.now), self.now);
        let slot = self.slot(node, known);
        if !known.share || !slot.holding.reserve.take(cost, known.window, now) {
            return Took::Short;
        }
        let left = slot.holding.reserve.size();
        let (cell, informed) = (Rc::clone(&slot.cell), slot.informed);
        self.trace(|| format!("node {node} took {cost} of the {left} reserved of {:?}", known.key.limit));
        let mark = self.oracle.admit(Admission { informed, ..Admission::of(known.key, node, at, cost.0, 0) });
        Took::Held(Hold { key: known.key, cell, what: What::Reserve, mark })
    }

    /// Of a request that was refused by another of its limits: nobody was admitted with any of it, put back or burnt.
    pub(super) fn undo(&mut self, node: usize, held: Vec<Hold>) {
        for hold in &held {
            self.oracle.revoke(hold.mark);
        }
        if guard!("all-or-none") {
            self.give_back(node, held);
        }
    }

    pub(in crate::sim) fn give_back(&mut self, node: usize, held: Vec<Hold>) {
        for hold in held {
            match hold.what {
                What::Lease(ticket) => {
                    if !hold.cell.put_back(ticket) {
                        continue;
                    }
                    self.oracle.revoke(hold.mark);
                    if let Some(slot) = self.nodes[node].slots.get_mut(&hold.key)
                        && Rc::ptr_eq(&slot.cell, &hold.cell)
                    {
                        slot.taken = slot.taken.wrapping_sub(ticket.cost.0);
                    }
                }
                What::Reserve => {}
                What::Place(id) => self.vacate(node, id),
                What::Promised(reservation) => self.settle(node, hold.key, reservation, &[hold.mark], 0),
            }
        }
    }

    pub(super) fn window_of(&self, node: usize, key: Key) -> u64 {
        self.nodes[node].slots.get(&key).map_or(0, |slot| slot.window)
    }

    pub(super) fn occupy(&mut self, node: usize, known: Known, cell: &Rc<Cell>, ticket: Ticket) -> u64 {
        let id = self.nodes[node].next_number();
        self.nodes[node].places.push(Place { key: known.key, cell: Rc::clone(cell), ticket, id });
        self.count_live_places(known.key);
        id
    }

    pub(super) fn vacate(&mut self, node: usize, id: u64) {
        let places = &mut self.nodes[node].places;
        if let Some(at) = places.iter().position(|place| place.id == id) {
            let Place { key, cell, ticket, .. } = places.swap_remove(at);
            cell.put_back(ticket);
            self.list(node, key);
        }
    }
}
