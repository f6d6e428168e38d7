//! A part of a smooth limit's rate: room for some permits, and what this node refills it with by itself.
//!
//! ```text
//!   bank ──draw──▶ cell ──take──▶ admitted          bank + cell ≤ room, at every instant
//!     ▲
//!     └── flow × time, on the raw clock: at most as fast as real time
//! ```
//! The cell holds a small part of the room, so that a call that finds it short fills it from the bank, under the holding's
//! lock, and time is counted there: when permits of the cell are taken nobody knows, so the bank fills up no further
//! than room − what the cell was last filled to.
//!
//! *Why no stretch τ gives more than room + flow × τ.* Let e be the first draw in it. What is there after e is at most room.
//! What is admitted before e was in the cell, and counts as there. After e comes flow × the rest of τ.

use tidegate_model::{Nanos, Permits};

use super::{Asked, Holding};
use crate::cell::{self, Cell};
use crate::guard;
use crate::pace;
use crate::protocol::{Flow, Nature, holder_time, log_time};

/// The part of the room that is in the cell at a time.
const IN_THE_CELL: u64 = 4;
/// A rate below this is no demand: what is held is handed back.
const SOME: f64 = 0.5;
/// Demand is averaged over this.
const WHILE: Nanos = Nanos::SECOND;

/// What [`Holding::draw`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawn {
    /// The cell holds enough, or did a moment ago.
    There,
    /// It will be there after this time, if nobody else comes.
    In(Nanos),
    /// No part of the rate is held, or too little room.
    Nothing,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The leader says to hold no more.
    most: Permits,
    flow: Flow,
    /// Granted, and counted from the next draw on.
    next_flow: Option<Flow>,
    bank: Permits,
    /// What the cell was last filled to.
    filled: Permits,
    /// Raw time up to here has brought its whole permits.
    since: Option<Nanos>,
    /// Taken since the last report.
    taken: Permits,
    /// Taken, and spent or given back as soon as all limits of a call are there: it keeps its place in the room.
    reserved: Permits,
    /// Grows each time all is lost: what was reserved before is nobody's.
    life: u64,
    /// Of costs that sleep until their permits have come.
    queued: Permits,
    /// The leader said to hold less: to be told at once.
    lowered: bool,
}

/// What an answer grants.
pub(super) struct Grant {
    pub(super) granted: Permits,
    pub(super) keep: Permits,
    pub(super) flow: Flow,
    pub(super) free: Permits,
    pub(super) ttl: Nanos,
}

impl Shared {
    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn reserve(&mut self, cost: Permits) {
        self.reserved = self.reserved.saturating_add(cost);
    }

    /// What the rate has brought since the last draw. `raw`: a clock that is not slewed, and may stand still.
    fn come(&mut self, raw: Nanos, room: Permits) {
        if let Some(since) = self.since {
            let most = match guard!("share-fills-no-further-than-its-room") {
                true => room.saturating_sub(self.filled).saturating_sub(self.reserved),
                false => room,
            };
            let (come, took) = self.flow.rate().whole(log_time(raw.saturating_sub(since)));
            if come >= most.saturating_sub(self.bank) {
                self.since = Some(raw);
                self.bank = self.bank.max(most);
            } else {
                self.since = Some(since.saturating_add(took).saturating_add(Nanos(took.0 / 1_000)).min(raw));
                self.bank = self.bank.saturating_add(come);
            }
        } else {
            self.since = Some(raw);
        }
        if let Some(flow) = self.next_flow.take() {
            self.flow = flow;
            self.since = Some(raw);
        }
    }
}

impl Holding {
    /// The room that is held, full or empty.
    #[must_use]
    pub fn room(&self) -> Permits {
        match self.nature {
            Nature::Refilled => self.granted.saturating_sub(self.reported),
            Nature::Spent | Nature::InUse => Permits::ZERO,
        }
    }

    /// Fills the cell so that it holds `cost`, if that has come by now.
    pub fn draw(&mut self, cell: &Cell, cost: Permits, now: Nanos, raw: Nanos) -> Drawn {
        let room = self.room().min(self.shared.most);
        if self.nature != Nature::Refilled || room < cost || now >= cell.expiry() {
            return Drawn::Nothing;
        }
        self.shared.come(raw, room);
        // A cut first: what was taken before it is not put back into a cell that was filled up in its place.
        let left = self.take_stock(cell);
        let wanted = Permits((room.0 / IN_THE_CELL).max(cost.0)).saturating_sub(left);
        let moved = wanted.min(self.shared.bank);
        self.shared.bank = self.shared.bank.saturating_sub(moved);
        let added = cell.add(moved);
        self.shared.filled = left.saturating_add(added);
        if self.shared.filled >= cost {
            return Drawn::There;
        }
        if self.shared.flow == Flow::ZERO {
            return Drawn::Nothing;
        }
        let missing = cost.saturating_add(self.shared.queued).saturating_sub(self.shared.filled);
        let elapsed = raw.saturating_sub(self.shared.since.unwrap_or(raw));
        Drawn::In(self.shared.flow.rate().time(missing).saturating_sub(elapsed).max(Nanos(1)))
    }

    /// A cost begins to sleep until it has come, and ends: later ones come after it.
    pub fn queue(&mut self, cost: Permits) {
        self.shared.queued = self.shared.queued.saturating_add(cost);
    }

    pub fn unqueue(&mut self, cost: Permits) {
        self.shared.queued = self.shared.queued.saturating_sub(cost);
    }

    /// Does a cost sleep until it has come, or is one of a call that is not decided yet?
    pub(super) fn shared_is_waited_for(&self) -> bool {
        self.shared.queued != Permits::ZERO || self.shared.reserved != Permits::ZERO
    }

    /// Notes what was taken from the cell; what is left of it.
    fn take_stock(&mut self, cell: &Cell) -> Permits {
        let left = if guard!("refilled-cell-is-cut") { cell.cut(cell::MOST).0 } else { cell.left() };
        self.shared.taken = self.shared.taken.saturating_add(self.shared.filled.saturating_sub(left));
        self.shared.filled = left;
        left
    }

    pub(super) fn shared_is_due(&self, now: Nanos, reminder: Nanos) -> bool {
        let holds = self.room() != Permits::ZERO || !self.settled;
        self.shared.lowered || holds && now >= self.told.saturating_add(reminder)
    }

    /// The room held from now on, and what is wanted of the rate a second.
    pub(super) fn count_shared(&mut self, cell: &Cell, around: super::Surroundings) -> (Permits, Permits) {
        self.take_stock(cell);
        let taken = std::mem::take(&mut self.shared.taken);
        self.demand.saw(taken, super::Surroundings { window: WHILE, ..around });
        let wanted = around.queued.max(around.waiting) != Permits::ZERO || self.shared.queued != Permits::ZERO;
        let idle = around.leaving || self.demand.per_second < SOME && !wanted;
        let most = if idle { Permits::ZERO } else { self.shared.most };
        let keep = self.room().min(most);
        self.shrink(cell, keep);
        // Room that is given up counts as spent: what was in it is worth a moment of the rate.
        self.reported = self.granted.saturating_sub(keep);
        if keep == Permits::ZERO {
            self.end_share();
        }
        self.shared.lowered = false;
        (keep, if idle { Permits::ZERO } else { Permits((self.demand.per_second.ceil() as u64).max(1)) })
    }

    /// Part of the rate that is counted on, now or from the next draw on.
    pub(super) fn flow(&self) -> Flow {
        self.shared.next_flow.unwrap_or_default().max(self.shared.flow)
    }

    /// Holds no more permits than there is room for.
    fn shrink(&mut self, cell: &Cell, room: Permits) {
        let (left, _) = cell.cut(room);
        self.shared.filled = left;
        self.shared.bank = self.shared.bank.min(room.saturating_sub(left).saturating_sub(self.shared.reserved));
    }

    /// A reservation ends; what was not used of it is in the bank again, if there is room.
    pub(super) fn give_back_to_share(&mut self, life: u64, cost: Permits, used: Permits) -> Permits {
        if life != self.shared.life && guard!("reserved-of-this-share") {
            return Permits::ZERO;
        }
        self.shared.reserved = self.shared.reserved.saturating_sub(cost);
        let room = self.room().min(self.shared.most).saturating_sub(self.shared.reserved);
        let free = room.saturating_sub(self.shared.filled).saturating_sub(self.shared.bank);
        let back = cost.saturating_sub(used).min(free);
        self.shared.bank = self.shared.bank.saturating_add(back);
        back
    }

    /// A renewed share.
    pub(super) fn hold_share(&mut self, cell: &Cell, asked: &Asked, grant: &Grant, now: Nanos) {
        if guard!("lapsed-emptied-before-an-answer") {
            self.lapse(cell, now);
        }
        self.take_stock(cell);
        // Lowered at once, whether or not this came in time.
        self.shared.lowered |= grant.keep < self.room() || grant.flow < self.flow();
        self.shared.most = grant.keep;
        if grant.flow <= self.shared.flow {
            self.shared.flow = grant.flow;
            self.shared.next_flow = None;
        }
        self.shrink(cell, self.room().min(grant.keep));
        self.settled = grant.keep == Permits::ZERO && asked.have == Permits::ZERO;
        let expiry = asked.sent.saturating_add(holder_time(grant.ttl));
        if now >= expiry {
            return;
        }
        cell.renew(expiry.max(cell.expiry()));
        let more = grant.keep.saturating_sub(asked.have);
        self.granted = self.granted.saturating_add(more);
        self.shared.bank = self.shared.bank.saturating_add(grant.granted.min(more));
        if grant.flow > self.shared.flow {
            match guard!("share-raised-from-then-on") {
                true => self.shared.next_flow = Some(grant.flow),
                false => self.shared.flow = grant.flow,
            }
        }
        let answered = pace::Answered { want: asked.want, granted: more, free: grant.free, max: asked.max };
        self.pace.answered(&answered, WHILE, cell.left(), now);
    }

    /// Nothing is held any more.
    pub(super) fn end_share(&mut self) {
        let (queued, life) = (self.shared.queued, self.shared.life + 1);
        self.shared = Shared { queued, life, ..Shared::default() };
    }
}
