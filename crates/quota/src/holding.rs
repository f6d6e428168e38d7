//! One key's lease on one node: reports what was spent, refills the cell, knows what the leader last said.
//!
//! ```text
//!   idle ──report(seq)──▶ asked ──answer(seq)──▶ idle        a reply is used once, and only for the newest batch
//!     ▲                     │                                 that named the key; whatever else comes is dropped,
//!     └───── failed(seq) ───┘                                 and its grant is handed back by the next report
//! ```
//! One task owns a holding (or a lock does). Requests touch the [`Cell`] alone, but for those that pay after the fact.

mod promised;
mod shared;
mod vault;

use tidegate_model::{Millis, Nanos, Permits};

use self::promised::Promised;
pub use self::promised::{Reservation, Settled};
pub use self::shared::Drawn;
use self::shared::{Grant, Shared};
use self::vault::Vault;
use crate::cell::{self, Cell};
use crate::guard;
use crate::owner::Crowd;
use crate::pace::{self, Pace};
use crate::protocol::{Answer, Item, Key, LEASE_TTL, Nature, RECALL_TAKES, Verdict, holder_time};
use crate::reserve::Reserve;

/// A lease holds this long a stretch of demand, if that is no more than 2/5 of the window: enough to bridge a failover.
const HORIZON: Nanos = Nanos::from_secs(4);

/// Whoever asks for more a second is among the last to make room for others.
const STEADY: f64 = 1.0;
/// Somebody may be about to take what he was just granted.
const NEW: Nanos = Nanos::from_millis(40);

/// How often a held lease is told of although nothing was spent. Well below a lease's time to live.
pub const REMINDER: Nanos = Nanos::from_millis(200);

#[derive(Debug)]
pub struct Holding {
    key: Key,
    /// Grows over the life of a process, over all keys: a key that comes back never meets its old records.
    epoch: u64,
    /// Entrusted in this epoch and not handed back: spent + left in the cell.
    granted: Permits,
    nature: Nature,
    /// In use, as of the last report.
    busy: Permits,
    promised: Promised,
    shared: Shared,
    vault: Vault,
    asked: Option<Asked>,
    /// Reported spent, as of the last report.
    reported: Permits,
    /// The ledger acknowledged that this holds nothing.
    settled: bool,
    /// When the last report was cut.
    told: Nanos,
    demand: Demand,
    pace: Pace,
    crowd: Crowd,
    pub reserve: Reserve,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    seq: u64,
    sent: Nanos,
    have: Permits,
    want: Permits,
    waiting: Permits,
    max: Permits,
}

/// What the owner of a holding knows of its surroundings when it reports.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    pub now: Nanos,
    pub window: Nanos,
    pub max: Permits,
    /// Costs that waited or were refused since the last report, summed.
    pub missed: Permits,
    /// The largest cost waiting now.
    pub waiting: Permits,
    /// The sum of costs waiting now.
    pub queued: Permits,
    /// Hand back what is not needed at once: another node starves.
    pub recalled: bool,
    /// The limit says `on_unavailable: share`, and the key is in use.
    pub reserve: bool,
    /// Another key is to have this one's place ([`Holding::leaves`]): hand back all, and want nothing.
    pub leaving: bool,
}

/// What it takes for a key to go, so that another one may have its place. Never less than the ledger's word that nothing is
/// left here: the key's own next holding begins from what the ledger knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaves {
    /// It holds nothing, and the ledger knows.
    AtOnce,
    /// When the answer to a report says that nothing is left.
    OnceTold,
    /// As that; but it is asked for again and again, or was a moment ago, or has a partition reserve, which costs its limit a
    /// window to move.
    AfterOthers,
    /// Something is in use, reserved, owed or waited for, or its question is open.
    NotNow,
}

/// What an answer means to those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Not the answer to the newest question: dropped.
    Stale,
    /// The cell was refilled with `granted`; `free` were left for others; a cost that still does not fit may ask again
    /// after `retry`.
    Lease { granted: Permits, free: Permits, retry: Nanos },
    /// Begun anew: ask again.
    Reset,
    /// The leader does not know the limit (yet).
    Unknown,
}

impl Holding {
    #[must_use]
    pub fn new(key: Key, epoch: u64) -> Self {
        Self::of(key, epoch, Nature::Spent)
    }

    /// Of permits of this nature.
    #[must_use]
    pub fn of(key: Key, epoch: u64, nature: Nature) -> Self {
        Self {
            key,
            epoch,
            granted: Permits::ZERO,
            nature,
            busy: Permits::ZERO,
            promised: Promised::default(),
            shared: Shared::default(),
            vault: Vault::default(),
            asked: None,
            reported: Permits::ZERO,
            settled: true,
            told: Nanos::ZERO,
            demand: Demand::default(),
            pace: Pace::default(),
            crowd: Crowd::default(),
            reserve: Reserve::default(),
        }
    }

    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Is an answer outstanding?
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.asked.is_some() && guard!("reply-used-once")
    }

    /// Nothing held, nothing spent that was not acknowledged, nothing reserved: the owner may forget it.
    #[must_use]
    pub fn is_settled(&self, cell: &Cell) -> bool {
        let in_use = self.nature == Nature::InUse && self.granted != Permits::ZERO;
        let holds = self.stock(cell) != Permits::ZERO || in_use || self.reserve.size() != Permits::ZERO;
        let holds = holds || self.room() != Permits::ZERO;
        (self.settled || !guard!("forgotten-after-acknowledgement"))
            && self.asked.is_none()
            && !holds
            && self.promised.is_nothing()
    }

    /// What it takes for this key to go.
    #[must_use]
    pub fn leaves(&self, cell: &Cell, now: Nanos) -> Leaves {
        let is_waited_for = self.promised.largest_missing().is_some() || self.shared_is_waited_for();
        let is_needed = self.in_use(cell) != Permits::ZERO || !self.promised.is_nothing() || is_waited_for;
        let is_new = self.told == Nanos::ZERO || now < self.told.saturating_add(NEW);
        let is_dear = is_new || self.demand.per_second >= STEADY || self.reserve.size() != Permits::ZERO;
        match () {
            () if is_needed || self.asked.is_some() => Leaves::NotNow,
            () if is_dear && guard!("steady-keys-leave-last") => Leaves::AfterOthers,
            () if self.is_settled(cell) => Leaves::AtOnce,
            () => Leaves::OnceTold,
        }
    }

    /// Not taken: at hand, or not yet.
    fn stock(&self, cell: &Cell) -> Permits {
        cell.left().saturating_add(self.vault.permits())
    }

    /// Permits in use, or reserved.
    #[must_use]
    pub fn in_use(&self, cell: &Cell) -> Permits {
        match self.nature {
            Nature::Spent | Nature::Refilled => self.promised.held(),
            Nature::InUse => self.granted.saturating_sub(cell.left()),
        }
    }

    /// Until when this node had better ask the key's owner than for a slice of its own; in the past: not now.
    #[must_use]
    pub fn crowded_until(&self) -> Nanos {
        self.crowd.until(self.demand.per_second)
    }

    /// Has anything changed that the ledger should hear of now? What is held is told of now and then even so: that renews
    /// the lease while it is used, and hands it back when it is not.
    #[must_use]
    pub fn is_due(&self, cell: &Cell, now: Nanos) -> bool {
        let left = self.stock(cell);
        if self.nature == Nature::Refilled {
            return self.shared_is_due(now, REMINDER);
        }
        if self.nature == Nature::InUse {
            let changed = self.granted.saturating_sub(left) != self.busy;
            return changed && self.pace.is_time(self.told, left, now)
                || (self.granted != Permits::ZERO || !self.settled) && now >= self.told.saturating_add(REMINDER);
        }
        let spent = self.granted.saturating_sub(left).saturating_sub(self.promised.held()) != self.reported;
        let renews = spent || self.promised.held() != Permits::ZERO || self.promised.debt() != Permits::ZERO;
        spent && self.pace.is_time(self.told, left, now)
            || (renews || !self.settled) && now >= self.told.saturating_add(REMINDER)
    }

    /// Cuts a report for batch `seq`, which leaves after this returns.
    pub fn report(&mut self, cell: &Cell, seq: u64, around: Surroundings) -> Item {
        if guard!("lapsed-emptied-before-a-report") {
            self.lapse(cell, around.now);
        }
        let around = Surroundings {
            leaving: around.leaving && guard!("who-leaves-keeps-nothing"),
            reserve: around.reserve && !around.leaving,
            ..around
        };
        let (have, want) = match self.nature {
            Nature::Spent => self.count_spent(cell, around),
            Nature::InUse => self.count_in_use(cell, around),
            Nature::Refilled => self.count_shared(cell, around),
        };
        // What was missed here before is nobody's wish any more.
        let (want, waiting) =
            if around.leaving { (Permits::ZERO, Permits::ZERO) } else { (want, self.missing(cell, around)) };
        if around.recalled {
            self.crowd.press(around.now, LEASE_TTL);
        }
        self.asked = Some(Asked { seq, sent: around.now, have, want, waiting, max: around.max });
        self.told = around.now;
        self.settled = false;
        if !around.reserve {
            self.reserve.end();
        }
        Item {
            key: self.key,
            epoch: self.epoch,
            spent: self.reported,
            have,
            want,
            waiting,
            reserve: around.reserve,
            reserved: match self.nature {
                Nature::Spent => self.reserve.size(),
                Nature::InUse => have.saturating_sub(self.busy),
                Nature::Refilled => Permits(self.flow().0),
            },
        }
    }

    /// What somebody waits for, beyond what is here already. All of it asked for, a cost above half of the limit would wait
    /// for ever for what its own node holds.
    fn missing(&self, cell: &Cell, around: Surroundings) -> Permits {
        // Of a rate no permits are waited for, but room.
        if self.nature == Nature::Refilled || !guard!("waits-for-what-is-missing") {
            return around.waiting;
        }
        match self.promised.largest_missing() {
            // What is owed is paid of a grant before: a grant of the cost alone would not be all of it. What lies in the vault
            // comes as soon as the disk has its mark.
            Some(missing) if around.waiting != Permits::ZERO => {
                let lacks = around.waiting.min(missing).saturating_add(self.promised.debt());
                // A cost may be above what the node takes for the maximum: by what a period left to the next one, or by an order.
                lacks.min(around.max.max(around.waiting)).saturating_sub(self.vault.permits())
            }
            Some(_) => Permits::ZERO,
            None if self.vault.permits() != Permits::ZERO => around.waiting, // Not at hand yet, and nobody's in particular.
            None => around.waiting.saturating_sub(cell.left()).saturating_sub(self.promised.kept_for(around.waiting)),
        }
    }

    /// What is held, reservations included, and what more is wanted.
    fn count_spent(&mut self, cell: &Cell, around: Surroundings) -> (Permits, Permits) {
        let spent_before = self.reported;
        let ended = self.promised.end_turn(around.now);
        self.put_at_hand(cell, ended);
        if around.recalled && guard!("part-of-a-reservation-is-called-back") {
            let parts = self.promised.give_up_parts();
            self.put_at_hand(cell, parts);
        } else {
            self.promised.keep(cell.drain(self.earmarked())); // Whoever waits for much is first to have what is idle here.
        }
        let target = self.demand.target(around);
        // Handing back too eagerly costs a round trip later; holding idle permits costs another node now.
        let keep = match target {
            _ if around.leaving => Permits::ZERO,
            _ if around.recalled => self.demand.soon(around),
            // Not what somebody here waits for: it was granted to him, and he may not have come to take it yet.
            _ if self.stock(cell).0 > target.0.saturating_mul(4) && guard!("handed-back-above-four-times") => {
                Permits(target.0.saturating_mul(2)).max(around.queued)
            }
            _ => cell::MOST,
        };
        let from_vault = self.vault.keep(keep.saturating_sub(cell.left()));
        let (at_hand, handed_back) = cell.cut(keep);
        if guard!("handed-back-leaves-the-lease") {
            self.granted = self.granted.saturating_sub(handed_back).saturating_sub(from_vault);
        }
        let left = at_hand.saturating_add(self.vault.permits());
        let have = left.saturating_add(self.promised.held());
        let spent = self.granted.saturating_sub(have);
        self.demand.saw(spent.saturating_sub(spent_before), around);
        self.reported = spent;
        let queued = around.queued.saturating_add(self.promised.debt());
        let wish = self.demand.target(around).saturating_add(queued).min(around.max);
        let here = left.saturating_add(self.promised.kept());
        let want = if around.recalled { queued.saturating_sub(here) } else { wish.saturating_sub(here) };
        (have, want)
    }

    /// Back into the cell; what finds no room in it is handed back.
    pub(super) fn put_at_hand(&mut self, cell: &Cell, permits: Permits) -> Permits {
        let added = cell.add(permits);
        self.granted = self.granted.saturating_sub(permits.saturating_sub(added));
        permits
    }

    /// Permits in use are held, and never spent.
    fn count_in_use(&mut self, cell: &Cell, around: Surroundings) -> (Permits, Permits) {
        let busy = self.granted.saturating_sub(cell.left());
        let idle = self.demand.crowd(busy, around);
        let keep = if around.recalled || around.leaving { Permits::ZERO } else { idle };
        let (left, handed_back) = cell.trim(keep);
        self.granted = self.granted.saturating_sub(handed_back);
        self.busy = self.granted.saturating_sub(left);
        let wish = if around.recalled { around.queued } else { idle.max(around.queued) };
        (self.granted, wish.saturating_sub(left))
    }

    /// Uses the answer to batch `seq`, if it is the newest that named this key. `next_epoch` is drawn when needed.
    pub fn answer(
        &mut self,
        cell: &Cell,
        seq: u64,
        answer: &Answer,
        window: Nanos,
        now: Nanos,
        next_epoch: impl FnOnce() -> u64,
    ) -> News {
        let Some(asked) = self
            .asked
            .filter(|asked| (asked.seq == seq || !guard!("reply-of-the-newest-batch")) && answer.epoch == self.epoch)
        else {
            return News::Stale;
        };
        if guard!("reply-used-once") {
            self.asked = None;
        }
        match answer.verdict {
            Verdict::Lease { granted, free, ttl, retry, reserve } => {
                self.hold(cell, &asked, &Lease { granted, free, ttl }, window, now);
                if granted < asked.waiting && retry <= RECALL_TAKES {
                    self.crowd.press(now, LEASE_TTL);
                }
                if reserve != self.reserve.size() || reserve != Permits::ZERO {
                    self.reserve.renew(reserve, window, asked.sent, now);
                }
                News::Lease { granted, free, retry }
            }
            Verdict::Dated { granted, free, ttl, retry, .. } => {
                self.hold(cell, &asked, &Lease { granted, free, ttl }, window, now);
                News::Lease { granted, free, retry }
            }
            Verdict::Shared { granted, keep, flow, free, ttl, retry } => {
                self.hold_share(cell, &asked, &Grant { granted, keep, flow, free, ttl }, now);
                News::Lease { granted, free, retry }
            }
            Verdict::Reset => {
                self.begin_anew(cell, next_epoch());
                News::Reset
            }
            Verdict::Unknown => {
                self.begin_anew(cell, next_epoch());
                News::Unknown
            }
        }
    }

    /// The window that the answer's permits count to, if it is one that [`Holding::answer`] will use. To be made known
    /// before that: a permit of this window may be taken as soon as it is in the cell.
    #[must_use]
    pub fn window_of(&self, seq: u64, answer: &Answer) -> Option<(u64, Millis)> {
        let is_used = self.asked.is_some_and(|asked| asked.seq == seq) && answer.epoch == self.epoch;
        match answer.verdict {
            Verdict::Dated { window, ends, .. } if is_used => Some((window, ends)),
            _ => None,
        }
    }

    /// A renewed lease: its permits go into the cell, once what somebody waits for and what is owed is paid.
    fn hold(&mut self, cell: &Cell, asked: &Asked, lease: &Lease, window: Nanos, now: Nanos) {
        // What lapsed while we asked is taken out before the new expiry could revive it.
        if guard!("lapsed-emptied-before-an-answer") {
            self.lapse(cell, now);
        }
        let sent = if guard!("sent-read-before-the-batch-leaves") { asked.sent } else { now };
        let expiry = sent.saturating_add(holder_time(lease.ttl));
        self.settled = lease.granted == Permits::ZERO && asked.have == Permits::ZERO;
        if now < expiry {
            cell.renew(expiry.max(cell.expiry()));
            self.granted = self.granted.saturating_add(lease.granted);
            self.vault.put(lease.granted);
            self.promised.granted_whole(asked.waiting > Permits(1) && lease.granted >= asked.waiting);
            if !self.vault.is_journalled() {
                self.hand_out(cell, self.vault.permits(), now);
            }
        }
        let answered = pace::Answered { want: asked.want, granted: lease.granted, free: lease.free, max: asked.max };
        self.pace.answered(&answered, window, self.stock(cell), now);
    }

    /// Time has passed that the clock did not see: neither the lease can be counted on, nor an answer that is under way. The next
    /// report hands back what is left.
    pub fn end_lease(&mut self, cell: &Cell) {
        if self.nature == Nature::InUse {
            return; // Calls run on, until a report is told that their places are somebody else's.
        }
        cell.end();
        self.asked = None;
        self.reserve.lapse();
    }

    /// No answer to batch `seq` will be used any more.
    pub fn failed(&mut self, seq: u64) {
        self.asked = self.asked.filter(|asked| asked.seq != seq);
    }

    /// At its expiry a lease holds nothing. What is taken out was never spent, so the next report hands it back.
    fn lapse(&mut self, cell: &Cell, now: Nanos) {
        if now >= cell.expiry() {
            // What is in use may come back later: then it is handed back later.
            let (_, unspent) = match self.nature {
                Nature::Spent => cell.cut(Permits::ZERO),
                Nature::InUse => cell.trim(Permits::ZERO),
                // Room and all: what was in it counts as spent.
                Nature::Refilled => {
                    cell.cut(Permits::ZERO);
                    self.reported = self.granted;
                    self.end_share();
                    return;
                }
            };
            let in_vault = self.vault.keep(Permits::ZERO);
            self.granted = self.granted.saturating_sub(unspent).saturating_sub(in_vault);
        }
    }

    fn begin_anew(&mut self, cell: &Cell, epoch: u64) {
        if guard!("cell-emptied-on-reset") {
            cell.cut(Permits::ZERO);
        }
        if guard!("epoch-new-on-reset") {
            self.epoch = epoch;
        }
        self.granted = Permits::ZERO;
        self.reported = Permits::ZERO;
        self.promised.begin_anew();
        self.end_share();
        self.vault.begin_anew();
        self.settled = true;
        self.pace = Pace::default();
    }
}

struct Lease {
    granted: Permits,
    free: Permits,
    ttl: Nanos,
}

/// How many permits are asked for: a slow estimate, to hold what a failover needs, and the last interval, to keep up with
/// a spike.
#[derive(Debug, Default)]
struct Demand {
    /// Spent or missed.
    per_second: f64,
    /// Spent alone: whoever is refused a large cost and comes again at once misses it again each time.
    spent_per_second: f64,
    lately: Permits,
    seen: Option<Nanos>,
    /// Permits in use at a time, lately.
    crowd: Permits,
}

impl Demand {
    /// Idle permits to hold beside so many in use: what was in use lately will be so again.
    fn crowd(&mut self, busy: Permits, around: Surroundings) -> Permits {
        let lately = Permits(self.crowd.0 - self.crowd.0.div_ceil(8));
        self.crowd = busy.saturating_add(around.missed).max(lately).min(around.max);
        self.crowd.saturating_sub(busy).max(around.queued)
    }

    /// What was spent since the last report, and what was missed.
    fn saw(&mut self, spent: Permits, around: Surroundings) {
        self.lately = spent.saturating_add(around.missed);
        let Some(before) = self.seen.replace(around.now) else { return };
        let elapsed = around.now.saturating_sub(before).0 as f64;
        if elapsed <= 0.0 {
            return;
        }
        let rate = |permits: Permits| permits.0 as f64 * 1e9 / elapsed;
        // Remembers half as long as it looks ahead: one call alone never asks for a stock.
        let weight = 1.0 - (-2.0 * elapsed / horizon(around.window)).exp();
        self.per_second += (rate(self.lately) - self.per_second) * weight;
        self.spent_per_second += (rate(spent) - self.spent_per_second) * weight;
    }

    /// What to hold.
    fn target(&self, around: Surroundings) -> Permits {
        let steady = Permits((self.per_second * horizon(around.window) / 1e9).round() as u64);
        steady.max(Permits(self.lately.0.saturating_mul(2))).min(around.max)
    }

    /// What is needed before the next tick: of what is at hand and was not enough, nothing is.
    fn soon(&self, around: Surroundings) -> Permits {
        let per_second = if guard!("called-back-what-is-not-spent") { self.spent_per_second } else { self.per_second };
        Permits((per_second * 0.02).round() as u64).min(around.max)
    }
}

/// How far a lease looks ahead, in nanoseconds.
fn horizon(window: Nanos) -> f64 {
    HORIZON.0.min(window.0 / 5 * 2).max(1) as f64
}
