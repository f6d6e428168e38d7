//! Permits that are paid for after the fact: an upper bound is reserved, and what was used is settled when it is known.
//!
//! ```text
//!   cell ──reserve(bound)──▶ reserved ──settle(used)──▶ spent: used, cell: the rest
//!                                                       used > bound: from the cell, and what it lacks is debt,
//!                                                       which the next grant pays before anybody else has of it
//! ```
//! What is reserved is *outstanding*: reports say `have`, so it is renewed with its lease, and never charged as spent before
//! it is. All of this happens under the holding's lock, so no report is cut in between.

use std::collections::VecDeque;

use tidegate_model::{Nanos, Permits};

use super::Holding;
use crate::cell::{Cell, Take};
use crate::guard;
use crate::protocol::Nature;

/// Costs that wait at a time, per key.
const MOST_WAITING: usize = 64;
/// Who was refused and comes again within this long finds what was granted for him meanwhile.
const TURN: Nanos = Nanos::from_millis(250);

/// Permits set aside. Settled once, by value.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is not settled stays outstanding for ever"]
pub struct Reservation {
    epoch: u64,
    /// The life of the part of a rate that it was taken of.
    share: u64,
    pub cost: Permits,
    /// The instant of admission.
    pub at: Nanos,
}

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub refunded: Permits,
    /// Beyond the reservation, and not there: taken from the next grant.
    pub owed: Permits,
}

#[derive(Debug, Default)]
pub(super) struct Promised {
    reserved: Permits,
    debt: Permits,
    waiting: VecDeque<Waiting>,
    next: u64,
    turn: Option<Turn>,
    /// The last grant was all that the largest cost lacked: it is for that one.
    whole: bool,
}

/// A cost that waits for its permits. What it is granted is kept for it, so that small ones cannot take it away.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    cost: Permits,
    kept: Permits,
}

/// The place of a cost that was refused while the leader gathered for it: who comes again at once is not there in between,
/// and what is granted then is his nevertheless. All of it or nothing.
#[derive(Debug)]
struct Turn {
    cost: Permits,
    kept: Permits,
    /// Counted from the next report.
    until: Option<Nanos>,
}

impl Turn {
    /// Is this the one who comes again, or one who wants about as much?
    fn is_of(&self, cost: Permits) -> bool {
        cost.0 >= self.cost.0.div_ceil(2).max(2)
    }
}

impl Promised {
    /// Reserved, or kept for somebody who waits.
    pub(super) fn held(&self) -> Permits {
        let reserved = if guard!("reservation-stays-outstanding") { self.reserved } else { Permits::ZERO };
        reserved.saturating_add(self.kept())
    }

    pub(super) fn debt(&self) -> Permits {
        self.debt
    }

    /// Kept for those who wait, and who may come again.
    pub(super) fn kept(&self) -> Permits {
        let absent = self.turn.as_ref().map_or(Permits::ZERO, |turn| turn.kept);
        self.waiting.iter().fold(absent, |sum, waiting| sum.saturating_add(waiting.kept))
    }

    /// Kept for one who wants so much, and is not there.
    pub(super) fn kept_for(&self, cost: Permits) -> Permits {
        self.turn.as_ref().filter(|turn| turn.is_of(cost)).map_or(Permits::ZERO, |turn| turn.kept)
    }

    /// Of a grant that meets all of the largest cost that waited or was refused.
    pub(super) fn granted_whole(&mut self, whole: bool) {
        self.whole = whole;
    }

    /// What was kept for one who did not come again.
    pub(super) fn end_turn(&mut self, now: Nanos) -> Permits {
        match &mut self.turn {
            Some(Turn { kept, until: Some(until), .. }) if now >= *until => {
                let kept = *kept;
                self.turn = None;
                kept
            }
            Some(turn) => {
                turn.until.get_or_insert(now.saturating_add(TURN));
                Permits::ZERO
            }
            None => Permits::ZERO,
        }
    }

    /// What the one who lacks most lacks; `None`: nobody waits.
    pub(super) fn largest_missing(&self) -> Option<Permits> {
        self.waiting.iter().map(|waiting| waiting.cost.saturating_sub(waiting.kept)).max()
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.held() == Permits::ZERO && self.debt == Permits::ZERO
    }

    /// What is kept for costs that are not whole yet: each of several nodes could keep a part, and wait for the others' for
    /// ever. The ledger gathers for one of them at a time, and grants it whole.
    pub(super) fn give_up_parts(&mut self) -> Permits {
        let parts = self.waiting.iter_mut().filter(|waiting| waiting.kept < waiting.cost);
        parts.fold(Permits::ZERO, |sum, waiting| sum.saturating_add(std::mem::take(&mut waiting.kept)))
    }

    /// What is left of a grant for everybody.
    pub(super) fn share_out(&mut self, granted: Permits) -> Permits {
        let paid = if guard!("debt-is-paid-first") { granted.min(self.debt) } else { Permits::ZERO };
        self.debt = self.debt.saturating_sub(paid);
        let left = self.keep_for_the_largest(granted.saturating_sub(paid));
        self.keep(left)
    }

    /// What was granted for a large cost is not for small ones that came before it; returns the rest.
    fn keep_for_the_largest(&mut self, left: Permits) -> Permits {
        if !std::mem::take(&mut self.whole) || !guard!("granted-to-whom-it-was-gathered-for") {
            return left;
        }
        let missing = |cost: Permits, kept: Permits| cost.saturating_sub(kept);
        let largest = self.waiting.iter_mut().rev().max_by_key(|waiting| missing(waiting.cost, waiting.kept));
        let present = largest.as_ref().map_or(Permits::ZERO, |waiting| missing(waiting.cost, waiting.kept));
        let (lacks, kept) = match (&mut self.turn, largest) {
            (Some(turn), _) if missing(turn.cost, turn.kept) > present => {
                (missing(turn.cost, turn.kept), &mut turn.kept)
            }
            (_, Some(waiting)) => (present, &mut waiting.kept),
            (_, None) => return left,
        };
        if lacks > left {
            return left;
        }
        *kept = kept.saturating_add(lacks);
        left.saturating_sub(lacks)
    }

    /// For those who wait, first come, first served; returns the rest.
    pub(super) fn keep(&mut self, mut left: Permits) -> Permits {
        for waiting in &mut self.waiting {
            let more = waiting.cost.saturating_sub(waiting.kept).min(left);
            waiting.kept = waiting.kept.saturating_add(more);
            left = left.saturating_sub(more);
        }
        left
    }

    /// What was held is not charged any more; who waits goes on waiting.
    pub(super) fn begin_anew(&mut self) {
        self.reserved = Permits::ZERO;
        self.turn = None;
        self.waiting.iter_mut().for_each(|waiting| waiting.kept = Permits::ZERO);
    }

    /// Takes over what is kept for one who wants so much.
    fn resume(&mut self, cost: Permits) -> Permits {
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.is_of(cost)) else { return Permits::ZERO };
        let kept = turn.kept.min(cost);
        turn.kept = turn.kept.saturating_sub(kept);
        turn.cost = turn.kept;
        if turn.kept == Permits::ZERO {
            self.turn = None;
        }
        kept
    }

    /// Somebody leaves who wants so much: what is everybody's of what was kept for him.
    fn keep_turn(&mut self, cost: Permits, kept: Permits) -> Permits {
        let is_whole = kept == cost;
        let has_another = self.turn.as_ref().is_some_and(|turn| turn.cost >= cost);
        if cost.0 < 2 || has_another || !guard!("turn-kept-between-tries") {
            return kept;
        }
        let before = self.turn.take().map_or(Permits::ZERO, |turn| turn.kept);
        self.turn = Some(Turn { cost, kept: if is_whole { kept } else { Permits::ZERO }, until: None });
        if is_whole { before } else { before.saturating_add(kept) }
    }
}

impl Holding {
    /// Takes `cost` out of the cell and keeps it outstanding. `None`: it is not there, or the lease has ended.
    pub fn reserve(&mut self, cell: &Cell, cost: Permits, now: impl FnOnce() -> Nanos) -> Option<Reservation> {
        if self.promised.kept_for(cost).saturating_add(cell.left()) >= cost && cell.left() < cost {
            return self.resume(cell, cost, now);
        }
        let Take::Taken(ticket) = cell.take(cost, now) else { return None };
        match self.nature {
            Nature::Refilled => self.shared.reserve(cost),
            _ => self.promised.reserved = self.promised.reserved.saturating_add(cost),
        }
        Some(Reservation { epoch: self.epoch, share: self.shared.life(), cost, at: ticket.at })
    }

    /// With what was kept for one who comes again, and the rest out of the cell.
    fn resume(&mut self, cell: &Cell, cost: Permits, now: impl FnOnce() -> Nanos) -> Option<Reservation> {
        let missing = cost.saturating_sub(self.promised.kept_for(cost));
        // Taken from the cell even where nothing is missing: the lease's end is asked there.
        let Take::Taken(taken) = cell.take(missing, now) else { return None };
        self.promised.resume(cost);
        self.promised.reserved = self.promised.reserved.saturating_add(cost);
        Some(Reservation { epoch: self.epoch, share: self.shared.life(), cost, at: taken.at })
    }

    /// Queues a cost that [`Holding::reserve`] did not find. `None`: too many wait.
    pub fn wait(&mut self, cost: Permits) -> Option<u64> {
        if self.promised.waiting.len() == MOST_WAITING {
            return None;
        }
        self.promised.next += 1;
        let ticket = self.promised.next;
        let kept = self.promised.resume(cost);
        let waiting = Waiting { ticket, cost, kept };
        if kept == Permits::ZERO {
            self.promised.waiting.push_back(waiting);
        } else {
            self.promised.waiting.push_front(waiting);
        }
        Some(ticket)
    }

    /// As [`Holding::reserve`], with what was kept for this ticket.
    pub fn redeem(&mut self, cell: &Cell, ticket: u64, now: impl FnOnce() -> Nanos) -> Option<Reservation> {
        let at = self.promised.waiting.iter().position(|waiting| waiting.ticket == ticket)?;
        let Waiting { cost, kept, .. } = self.promised.waiting[at];
        let missing = cost.saturating_sub(kept);
        if cell.left() < missing {
            return None;
        }
        // Taken from the cell even where nothing is missing: the lease's end is asked there.
        let Take::Taken(taken) = cell.take(missing, now) else { return None };
        self.promised.waiting.remove(at);
        self.promised.reserved = self.promised.reserved.saturating_add(cost);
        Some(Reservation { epoch: self.epoch, share: self.shared.life(), cost, at: taken.at })
    }

    /// Waits no more: what was kept is everybody's again, but for a whole cost, whose turn is kept for a moment.
    pub fn leave(&mut self, cell: &Cell, ticket: u64) {
        if let Some(at) = self.promised.waiting.iter().position(|waiting| waiting.ticket == ticket)
            && let Some(Waiting { cost, kept, .. }) = self.promised.waiting.remove(at)
        {
            let kept = if self.nature == Nature::Spent { self.promised.keep_turn(cost, kept) } else { kept };
            self.put_at_hand(cell, kept);
        }
    }

    /// What was used is spent, the rest comes back; what was used beyond the reservation is owed.
    pub fn settle(
        &mut self,
        cell: &Cell,
        reservation: Reservation,
        used: Permits,
        now: impl FnOnce() -> Nanos,
    ) -> Settled {
        let Reservation { epoch, share, cost, .. } = reservation;
        if self.nature == Nature::Refilled {
            let refunded = if epoch == self.epoch { self.give_back_to_share(share, cost, used) } else { Permits::ZERO };
            return Settled { refunded, owed: Permits::ZERO };
        }
        let beyond = used.saturating_sub(cost);
        let mut refunded = Permits::ZERO;
        // Of a lease that is gone: it stays charged with it until that lapses.
        if epoch == self.epoch || !guard!("settled-in-its-own-epoch") {
            self.promised.reserved = self.promised.reserved.saturating_sub(cost);
            refunded = self.put_at_hand(cell, cost.saturating_sub(used));
        }
        let expiry = cell.expiry();
        let paid = cell.drain(beyond);
        // Of a lease that has ended nothing can be paid: as with any permit, the clock is read after the take.
        let owed = if now() < expiry { beyond.saturating_sub(paid) } else { beyond };
        self.promised.debt = self.promised.debt.saturating_add(owed);
        Settled { refunded, owed }
    }

    /// The count begins anew: what is owed to it is forgotten with the rest.
    pub fn forgive(&mut self) {
        self.promised.debt = Permits::ZERO;
    }

    /// Billed beyond reservations and not paid yet.
    #[must_use]
    pub fn debt(&self) -> Permits {
        self.promised.debt
    }

    pub(super) fn earmarked(&self) -> Permits {
        self.promised
            .waiting
            .iter()
            .fold(Permits::ZERO, |sum, waiting| sum.saturating_add(waiting.cost.saturating_sub(waiting.kept)))
    }
}
