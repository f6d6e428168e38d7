//! Who holds which part of a smooth limit. A record's `outstanding` is the *room* it holds, whatever is in it; the part of the
//! rate that fills it is in the tally.
//!
//! ```text
//!   node: wants 300/s ──▶ goal = r × 300 / Σ wants      above its goal: told to hold less; charged until it says that it does
//!                                                       below: what nobody holds, at most
//! ```

use tidegate_model::{Nanos, Permits};

use super::grants::MOST_HELD;
use super::{Count, Held, Record};
use crate::guard;
use crate::ledger::tally::Share;
use crate::protocol::{Batch, Flow, Item, Policy, RECALL_TAKES, Rate, Recall, Verdict};

/// A cost for which room is made waits for so long.
const GATHERS: Nanos = Nanos::SECOND;

impl Count {
    /// Books what a node holds of a smooth limit, and says what it may hold from now on.
    pub(super) fn share_out(
        &mut self,
        at: usize,
        batch: &Batch,
        item: &Item,
        clock: Nanos,
        (rate, policy): (Rate, &Policy),
        recalls: &mut Vec<Recall>,
    ) -> Verdict {
        let who = Share { node: batch.node, incarnation: batch.incarnation, epoch: item.epoch, flow: Flow::ZERO };
        let claimed = Flow(item.reserved.0);
        let charged = self.tally.smooth().map_or(Flow::ZERO, |smooth| smooth.of(&who));
        let honest = self.book_room(at, batch.seq, item, clock);
        if !honest || claimed > charged && guard!("share-only-what-is-charged") {
            return Verdict::Reset;
        }
        // What the node no longer refills itself with is anybody's.
        self.set_flow(&who, claimed);
        self.gather(&who, item, clock, policy);
        let (keep, granted) = self.room(at, item.have, policy);
        let flow = self.flow(at, claimed, rate);
        if keep > item.have {
            self.records[at].outstanding = keep;
            self.tally.grant(granted);
        }
        let lowers = flow < claimed && guard!("share-lowered-when-acknowledged");
        self.set_flow(&who, if lowers { claimed } else { flow });
        let ttl = if guard!("outstanding-charged-for-d") { policy.ttl } else { Nanos::ZERO };
        let record = &mut self.records[at];
        record.lapses = record.lapses.max(clock.saturating_add(ttl));
        let retry = self.press(at, item, keep, clock, policy, recalls);
        Verdict::Shared { granted, keep, flow, free: self.free(policy), ttl: policy.ttl, retry }
    }

    /// Parts of the rate whose lease is gone.
    pub(super) fn drop_shares(&mut self) {
        let Self { tally, records, .. } = self;
        let Some(smooth) = tally.smooth() else { return };
        smooth.retain(|share| {
            let is_its = |record: &Record| {
                record.node == share.node && record.incarnation == share.incarnation && record.epoch == share.epoch
            };
            records.iter().any(is_its)
        });
    }

    fn set_flow(&mut self, who: &Share, flow: Flow) {
        if let Some(smooth) = self.tally.smooth() {
            smooth.set(Share { flow, ..*who });
        }
    }

    /// Room that is no longer held comes back empty: nobody can tell what of it was spent. `false`: it claims more than is
    /// charged.
    fn book_room(&mut self, at: usize, seq: u64, item: &Item, clock: Nanos) -> bool {
        let record = &mut self.records[at];
        record.seq = seq;
        record.heard = clock;
        let Some(news) = item.spent.0.checked_sub(record.spent.0) else { return false };
        let claimed = Permits(news.saturating_add(item.have.0));
        if claimed > record.outstanding && guard!("have-only-what-is-charged") {
            return false;
        }
        let room = record.outstanding.saturating_sub(claimed);
        record.spent = item.spent;
        record.outstanding = item.have;
        record.want = item.want;
        self.tally.take_back(room);
        true
    }

    /// A cost above the node's part of the room is given more of it, for a while.
    fn gather(&mut self, who: &Share, item: &Item, clock: Nanos, policy: &Policy) {
        self.held.retain(|held| held.node != who.node);
        let fits = item.waiting > Permits(1) && item.waiting <= policy.max;
        if fits && self.held.len() < MOST_HELD {
            self.held.push_back(Held { node: who.node, cost: item.waiting, until: clock.saturating_add(GATHERS) });
        }
    }

    /// What this node wants of the rate, and what all want.
    fn part(&self, at: usize) -> (u128, u128) {
        let wanted = self.records.iter().map(|record| u128::from(record.want.0)).sum::<u128>();
        (u128::from(self.records[at].want.0), wanted.max(1))
    }

    /// The room this node should have: its part, rounded up, and at least what its largest cost takes.
    fn goal(&self, at: usize, policy: &Policy) -> Permits {
        let (want, wanted) = self.part(at);
        let node = self.records[at].node;
        let others = self.held.iter().filter(|held| held.node != node).map(|held| held.cost).max();
        let rest = policy.max.saturating_sub(others.unwrap_or_default());
        let goal = (u128::from(rest.0) * want).div_ceil(wanted);
        let own = self.held.iter().find(|held| held.node == node).map(|held| held.cost);
        let goal = Permits(u64::try_from(goal).unwrap_or(u64::MAX)).max(own.unwrap_or_default());
        if want == 0 { Permits::ZERO } else { goal }
    }

    /// The room to hold, and how many permits come with it. What is given beyond those comes empty.
    fn room(&self, at: usize, have: Permits, policy: &Policy) -> (Permits, Permits) {
        let goal = self.goal(at, policy);
        if have > goal.saturating_add(Permits(goal.0 / 8)) || self.charged() > policy.max {
            return (goal.min(have), Permits::ZERO);
        }
        let more = goal.saturating_sub(have);
        let level = self.tally.level();
        if !guard!("share-within-the-burst") {
            return (have.saturating_add(more), more.min(level));
        }
        // Room is held, or there are permits in it that nobody holds, or it is empty.
        let unheld = policy.max.saturating_sub(self.charged());
        let granted = more.min(level).min(unheld);
        let empty = more.saturating_sub(granted).min(unheld.saturating_sub(level.max(granted)));
        (have.saturating_add(granted).saturating_add(empty), granted)
    }

    /// The part of the rate to hold.
    fn flow(&mut self, at: usize, held: Flow, rate: Rate) -> Flow {
        let (want, wanted) = self.part(at);
        let all = Flow::of(rate);
        let goal = Flow(u64::try_from(u128::from(all.0) * want / wanted).unwrap_or(u64::MAX));
        let of_all = self.tally.smooth().map_or(Flow::ZERO, |smooth| smooth.held());
        if held > goal.saturating_add(Flow(goal.0 / 8)) || of_all > all {
            return goal.min(held);
        }
        let unheld = if guard!("share-within-the-rate") { all.saturating_sub(of_all) } else { all };
        held.max(goal.min(held.saturating_add(unheld)))
    }

    /// Who got less than what is his makes others tell what they hold, so that they are told to hold less. Returns when it
    /// is worth asking again, for a cost that waits.
    fn press(
        &mut self,
        at: usize,
        item: &Item,
        keep: Permits,
        clock: Nanos,
        policy: &Policy,
        recalls: &mut Vec<Recall>,
    ) -> Nanos {
        if item.want == Permits::ZERO || keep >= self.goal(at, policy) {
            return Nanos::ZERO;
        }
        for other in 0..self.records.len() {
            let goal = self.goal(other, policy);
            self.records[other].pace = goal.saturating_add(Permits(goal.0 / 8));
        }
        let asked = self.recall(at, item.key, clock, recalls);
        match (asked, item.waiting) {
            (_, waiting) if keep >= waiting => Nanos::ZERO,
            (true, _) => RECALL_TAKES,
            (false, _) => policy.span().max(Nanos::from_millis(1)),
        }
    }
}
