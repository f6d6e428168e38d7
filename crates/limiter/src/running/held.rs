//! What a call has of one limit for as long as it runs.

use std::sync::atomic::Ordering;

use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Beyond, Cost, Mode};
use tidegate_quota::cell::Ticket;
use tidegate_quota::evidence::{Record, RequestMark};
use tidegate_quota::holding::Reservation;
use tidegate_quota::protocol::Key;

use super::pieces::Pieces;
use crate::admit::{Ask, Limiter};
use crate::slot::Kept;

/// A place, or a reservation. Not dropped before [`Held::spend`], [`Held::give_back`] or [`Held::end`].
#[derive(Debug)]
pub(crate) struct Held {
    /// Nobody else's while this lives.
    pub(crate) slot: Kept,
    pub(crate) key: Key,
    pub(crate) what: What,
    /// Which of the asks it was.
    pub(crate) ask: usize,
    pub(crate) binds: bool,
    /// Reserved only until all limits of the call were taken: then it is spent.
    pub(crate) is_plain: bool,
    /// Counted here, and never taken back: what is used of it is spent.
    pub(super) is_sure: bool,
    pub(super) cuts: bool,
    /// The call counts for no more.
    pub(super) at_most: Permits,
}

#[derive(Debug)]
pub(crate) enum What {
    /// In use until the call ends.
    Place(Ticket),
    Reserved(Pieces),
}

impl What {
    /// With the calendar window that it counts to.
    pub(crate) fn reserved(reservation: Reservation, window: Option<u64>) -> Self {
        Self::Reserved(Pieces::of(reservation, window))
    }
}

impl Held {
    /// `most`: the maximum of the ask's subject.
    pub(crate) fn of(slot: Kept, ask: &Ask<'_>, most: Permits, what: What, at: usize) -> Self {
        let (limit, key) = (ask.limit, ask.key());
        let at_most = limit.at_most(most, ask.cost).max(ask.cost);
        let is_sure = matches!(limit.cost, Cost::RequestBytes { .. } | Cost::ResponseBytes { .. });
        let mut what = what;
        if let What::Reserved(pieces) = &mut what {
            pieces.pace(limit);
        }
        let binds = limit.mode == Mode::Enforce;
        let cuts = binds && limit.terms.beyond == Beyond::Cut;
        Self { slot, key, what, ask: at, binds, is_plain: limit.is_plain(), is_sure, cuts, at_most }
    }

    pub(crate) fn cost(&self) -> Permits {
        match &self.what {
            What::Place(ticket) => ticket.cost,
            What::Reserved(pieces) => pieces.reserved(),
        }
    }

    pub(super) fn is_asking(&self) -> bool {
        matches!(&self.what, What::Reserved(pieces) if pieces.is_asking())
    }

    /// When it was taken.
    pub(crate) fn at(&self) -> Nanos {
        match &self.what {
            What::Place(ticket) => ticket.at,
            What::Reserved(pieces) => pieces.at(),
        }
    }

    /// The calendar window that it counts to.
    pub(crate) fn window(&self) -> Option<u64> {
        match &self.what {
            What::Place(_) => None,
            What::Reserved(pieces) => pieces.window(),
        }
    }

    /// The call is on its way, and what it costs is known.
    pub(crate) fn spend(self, limiter: &Limiter) {
        let cost = self.cost();
        self.end(limiter, None, cost);
    }

    /// As if it had not been taken.
    pub(crate) fn give_back(self, limiter: &Limiter) {
        self.end(limiter, None, Permits::ZERO);
    }

    /// `request`: it was used, and the decision log knows of it.
    pub(super) fn end(self, limiter: &Limiter, request: Option<RequestMark>, used: Permits) {
        let Self { slot, key, what, at_most, .. } = self;
        match what {
            What::Place(ticket) => {
                // Written down before somebody else may have the place: ends never come after the next begins.
                if let (Some(log), Some(request)) = (limiter.decisions(), request) {
                    // A lease that has ended holds nothing, however late this comes.
                    let lives = if slot.cell.is_of(ticket) { slot.cell.expiry() } else { slot.lapsed_at() };
                    log.write(Record::End { at: clock::boot().min(lives), key, cost: ticket.cost, request });
                }
                slot.cell.put_back(ticket);
            }
            What::Reserved(pieces) => {
                if used > at_most {
                    limiter.cap(key, used, at_most);
                }
                let settled = pieces.end(limiter, &slot, (key, request), used.min(at_most));
                for (counter, more) in
                    [(&limiter.counters.owed, settled.owed), (&limiter.counters.refunded, settled.refunded)]
                {
                    // Of large amounts a few are more than there are numbers.
                    let add = |sum: u64| Some(sum.saturating_add(more.0));
                    let _always = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
                }
            }
        }
        limiter.bell.list(&slot, slot.number);
    }
}
