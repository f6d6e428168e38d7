//! What was reserved for one limit of a call, piece by piece, and how more is reserved while it runs.
//!
//! ```text
//!   used      0 ─────────────▶│
//!   pieces    ▓▓▓▓│▓▓▓▓│▓▓▓▓▓▓░░│░░░░░░░░│          ▓ used: spent as soon as the piece is    ░ reserved
//!                              └ margin ─┘          less than that left: one more piece, from what is at hand, or asked for
//! ```
//! Each piece is a reservation like any other, of the lease and of the calendar window that it was taken from: a lease that is lost
//! takes its pieces along, and no others. What is used up is spent at once, where that is sure: so the longest call holds no
//! more than a step or two of what it has not used.

use std::task::{Context, Poll};

use smallvec::SmallVec;
use tidegate_clock as clock;
use tidegate_model::{Nanos, Permits};
use tidegate_policy::{Cost, Limit};
use tidegate_quota::evidence::{Record, RequestMark};
use tidegate_quota::holding::{Reservation, Settled};
use tidegate_quota::protocol::Key;

use super::asking::{Asking, No};
use super::held::{Held, What};
use crate::admit::Limiter;
use crate::slot::Kept;

/// A step that is used up sooner than this is doubled; one that lasts longer than that, halved.
const FAST: Nanos = Nanos::from_millis(100);
const SLOW: Nanos = Nanos::from_secs(2);
/// A step is at most this part of the maximum, unless the estimate is more.
const SHARE: u64 = 256;
/// Of many pieces that are not spent yet the next one is larger.
const MANY: usize = 16;
/// Who was refused asks again after as long as he was told, but neither sooner nor later than this.
const SOONEST: Nanos = Nanos::from_millis(20);
const LATEST: Nanos = Nanos::SECOND;
/// A refusal is an answer to whoever needs as much, for so long.
const FRESH: Nanos = Nanos::from_millis(50);

/// Oldest first; the last one is there to the end.
#[derive(Debug)]
pub(crate) struct Pieces {
    live: SmallVec<[Piece; 1]>,
    /// In pieces that are spent.
    done: Permits,
    /// What more is reserved at a time, the least and the most of it.
    step: Permits,
    least: Permits,
    most: Permits,
    /// When more was last reserved.
    last: Nanos,
    asking: Option<Asking>,
    /// Refused: not before then again.
    again: Nanos,
    /// How much was refused, and when.
    refused: (Permits, Nanos),
    /// Who is to be cut has asked for the last that there was.
    asked_for_rest: bool,
    /// All that it will come to, if that is known.
    total: Permits,
}

#[derive(Debug)]
struct Piece {
    reservation: Reservation,
    window: Option<u64>,
}

/// Whose pieces they are.
pub(super) struct Whose<'h> {
    pub(super) limiter: &'h std::sync::Arc<Limiter>,
    pub(super) slot: &'h Kept,
    pub(super) key: Key,
    pub(super) request: RequestMark,
}

impl Pieces {
    pub(super) fn of(reservation: Reservation, window: Option<u64>) -> Self {
        let (step, last) = (reservation.cost, reservation.at);
        let mut live = SmallVec::new();
        live.push(Piece { reservation, window });
        Self {
            live,
            done: Permits::ZERO,
            step,
            least: step,
            most: step,
            last,
            asking: None,
            again: Nanos::ZERO,
            refused: (Permits::MAX, Nanos::ZERO),
            asked_for_rest: false,
            total: Permits::MAX,
        }
    }

    /// The steps that suit a limit: as its estimate, or else a part of its maximum, which of bytes is a small packet.
    pub(super) fn pace(&mut self, limit: &Limit) {
        let floor = match limit.cost {
            Cost::RequestBytes { .. } | Cost::ResponseBytes { .. } => 4_096,
            _ => 64,
        };
        self.least = self.step.max(Permits(floor.min(limit.max.0 / SHARE))).max(Permits(1));
        self.step = self.least;
        self.most = self.least.max(Permits(limit.max.0 / SHARE));
    }

    pub(super) fn reserved(&self) -> Permits {
        self.live.iter().fold(self.done, |sum, piece| sum.saturating_add(piece.reservation.cost))
    }

    fn first(&self) -> &Piece {
        self.live.first().expect("the last piece is there to the end")
    }

    pub(super) fn at(&self) -> Nanos {
        self.first().reservation.at
    }

    pub(super) fn window(&self) -> Option<u64> {
        self.first().window
    }

    pub(super) fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    pub(super) fn comes_to(&mut self, total: Permits) {
        self.total = total;
    }

    /// What is used up is spent, but for the last piece: what comes beyond is told with that.
    fn spend(&mut self, whose: &Whose<'_>, used: Permits) {
        while self.live.len() > 1 && self.done.saturating_add(self.first().reservation.cost) <= used {
            let Piece { reservation, .. } = self.live.remove(0);
            let cost = reservation.cost;
            self.done = self.done.saturating_add(cost);
            let (_nothing_comes_back, _) = whose.limiter.settle(whose.slot, reservation, cost);
            whose.limiter.bell.list(whose.slot, whose.slot.number);
        }
    }

    fn push(&mut self, whose: &Whose<'_>, (reservation, window): (Reservation, Option<u64>)) {
        if let Some(log) = whose.limiter.decisions() {
            log.write(Record::taken(reservation.at, whose.key, reservation.cost, whose.request, window));
        }
        self.live.push(Piece { reservation, window });
        whose.limiter.bell.list(whose.slot, whose.slot.number);
    }

    /// The next step.
    fn stride(&mut self, now: Nanos) {
        let since = now.saturating_sub(self.last);
        if since < FAST || self.live.len() > MANY {
            self.step = Permits(self.step.0.saturating_mul(2)).min(self.most);
        } else if since > SLOW {
            self.step = Permits(self.step.0 / 2).max(self.least);
        }
        self.last = now;
    }

    /// So much was used: reserves more where that is near. Until so much is used nothing is to be done.
    pub(super) fn uses(&mut self, whose: &Whose<'_>, used: Permits, cx: Option<&mut Context<'_>>) -> Permits {
        let mut cx = cx;
        loop {
            let reserved = self.reserved();
            if reserved >= self.total {
                return Permits::MAX;
            }
            let margin = Permits(self.step.0 / 2);
            if reserved.saturating_sub(used) > margin {
                return reserved.saturating_sub(margin);
            }
            if self.asking.is_some() {
                match self.poll_asking(whose, &mut cx) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Ready(Err(_)) | Poll::Pending => return used,
                }
            }
            let now = clock::boot();
            if now < self.again {
                return used;
            }
            self.stride(now);
            let behind = used.saturating_sub(reserved);
            let want = behind.saturating_add(self.step).min(self.total.saturating_sub(reserved));
            if !self.take(whose, want, Permits(1)) {
                self.ask(whose, behind.min(self.step), want);
            }
        }
    }

    /// Before so much is used. Ready: there is room up to here.
    pub(super) fn poll_room(&mut self, whose: &Whose<'_>, up_to: Permits, cx: &mut Context<'_>) -> Poll<Permits> {
        loop {
            let reserved = self.reserved();
            if up_to <= reserved {
                return Poll::Ready(up_to);
            }
            let lacks = up_to.saturating_sub(reserved);
            if self.asking.is_some() {
                match self.poll_asking(whose, &mut Some(&mut *cx)) {
                    Poll::Ready(Ok(())) => continue,
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(No::Unsafely)) => return Poll::Ready(up_to),
                    Poll::Ready(Err(No::Refused(_))) => {}
                }
            }
            // Of less: asked ahead, and no less an answer to this.
            let ((least, at), now) = (self.refused, clock::boot());
            if lacks >= least && now < at.saturating_add(FRESH) {
                let rest = whose.slot.free_for_all(now).min(lacks.saturating_sub(Permits(1)));
                if rest == Permits::ZERO || std::mem::replace(&mut self.asked_for_rest, true) {
                    self.take(whose, lacks, Permits(1)); // What is at hand all the same.
                    return Poll::Ready(self.reserved().min(up_to));
                }
                self.refused = (Permits::MAX, Nanos::ZERO);
                self.ask(whose, rest, rest);
                continue;
            }
            self.stride(now);
            let want = lacks.saturating_add(self.step).min(self.total.saturating_sub(reserved)).max(lacks);
            if !self.take(whose, want, lacks) {
                self.ask(whose, lacks, want);
            }
        }
    }

    /// From what is at hand: `want`, or what there is, but no less than `least`.
    fn take(&mut self, whose: &Whose<'_>, want: Permits, least: Permits) -> bool {
        let more = whose.limiter.reserve_more(whose.slot, want, least, None);
        let there = more.is_some();
        if let Some(more) = more {
            self.push(whose, more);
        }
        there
    }

    fn ask(&mut self, whose: &Whose<'_>, need: Permits, want: Permits) {
        let need = need.max(Permits(1));
        self.asking = Some(Asking::new(whose.limiter, whose.slot, whose.key, need, want));
    }

    /// Without a context: later.
    fn poll_asking(&mut self, whose: &Whose<'_>, cx: &mut Option<&mut Context<'_>>) -> Poll<Result<(), No>> {
        let (Some(asking), Some(cx)) = (&mut self.asking, cx) else { return Poll::Pending };
        let (answer, need) = (std::task::ready!(asking.poll(cx)), asking.need);
        self.asking = None;
        Poll::Ready(match answer {
            Ok(more) => {
                self.push(whose, more);
                Ok(())
            }
            Err(no) => {
                let now = clock::boot();
                let wait = match no {
                    No::Refused(wait) => {
                        self.refused = (need, now);
                        wait.clamp(SOONEST, LATEST)
                    }
                    No::Unsafely => LATEST,
                };
                self.again = now.saturating_add(wait);
                Err(no)
            }
        })
    }

    /// The call is over, and came to so much.
    pub(super) fn end(
        self,
        limiter: &Limiter,
        slot: &Kept,
        (key, request): (Key, Option<RequestMark>),
        used: Permits,
    ) -> Settled {
        let Self { live, done, asking, .. } = self;
        drop(asking); // Before the rest: what was kept for it is everybody's.
        let (mut left, last) = (used.saturating_sub(done), live.len() - 1);
        let mut sum = Settled { refunded: Permits::ZERO, owed: Permits::ZERO };
        for (nth, Piece { reservation, .. }) in live.into_iter().enumerate() {
            let (at, reserved) = (reservation.at, reservation.cost);
            // What comes beyond all of them is told with the last one.
            let used = if nth == last { left } else { reserved.min(left) };
            left = left.saturating_sub(used);
            let (settled, window) = limiter.settle(slot, reservation, used);
            sum.refunded = sum.refunded.saturating_add(settled.refunded);
            sum.owed = sum.owed.saturating_add(settled.owed);
            let (Some(log), Some(request)) = (limiter.decisions(), request) else { continue };
            // What is owed nobody was admitted for.
            log.write(Record::Settled { at, key, used: used.min(reserved).saturating_add(settled.owed), reserved });
            let beyond = used.saturating_sub(reserved).saturating_sub(settled.owed);
            if beyond != Permits::ZERO {
                log.write(Record::taken(clock::boot(), key, beyond, request, window));
            }
        }
        sum
    }
}

impl Held {
    /// See [`Pieces::uses`].
    pub(super) fn uses(
        &mut self,
        limiter: &std::sync::Arc<Limiter>,
        request: RequestMark,
        used: Permits,
        cx: Option<&mut Context<'_>>,
    ) -> Permits {
        let Self { slot, key, what, is_sure, at_most, .. } = self;
        let What::Reserved(pieces) = what else { return Permits::MAX };
        let (whose, used) = (Whose { limiter, slot, key: *key, request }, used.min(*at_most));
        pieces.total = pieces.total.min(*at_most);
        if *is_sure {
            pieces.spend(&whose, used);
        }
        pieces.uses(&whose, used, cx)
    }

    /// See [`Pieces::poll_room`]. Who is not to be cut has room.
    pub(super) fn poll_room(
        &mut self,
        limiter: &std::sync::Arc<Limiter>,
        request: RequestMark,
        up_to: Permits,
        cx: &mut Context<'_>,
    ) -> Poll<Permits> {
        let Self { slot, key, what, cuts, at_most, .. } = self;
        let What::Reserved(pieces) = what else { return Poll::Ready(up_to) };
        if !*cuts || *at_most <= pieces.reserved() {
            return Poll::Ready(up_to);
        }
        pieces.poll_room(&Whose { limiter, slot, key: *key, request }, up_to, cx)
    }
}
