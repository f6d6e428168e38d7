//! Who gets how much of what is free: what waits, what is wanted to be at hand, and what is called back or gathered for whom.
//! That no more is granted than is free, [`Count::grant`] sees to; what is free, its parent knows.

use serde::{Deserialize, Serialize};
use tidegate_model::{Nanos, NodeId, Permits};

use super::{Count, Record};
use crate::guard;
use crate::protocol::{Item, Key, Policy, RECALL_TAKES, Recall};

/// What a node wanted counts for this long after its last batch.
const ACTIVE: Nanos = Nanos::from_millis(250);
/// Costs that wait for permits to gather, per key.
pub(super) const MOST_HELD: usize = 16;
/// Whoever is refused and does not come again within this long has lost his turn: what gathers for him is nobody's meanwhile.
const TURN: Nanos = Nanos::from_secs(2);
/// A recall is answered within this long, or not at all; meanwhile it is worth asking again after a moment.
const RECALL_LASTS: Nanos = Nanos::from_millis(100);
/// Who says so little after a recall may have said it before he heard of it: worth asking again until then.
const CROSSING: Nanos = Nanos::from_millis(15);
/// Above this window a grant is capped to 1/16 of the limit, so that a crash cannot strand a customer's day.
const LONG_WINDOW: Nanos = Nanos::from_secs(60);
const LONG_SHARE: u64 = 16;

/// A cost that could not be met, and permits that gather for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) node: NodeId,
    pub(super) cost: Permits,
    pub(super) until: Nanos,
}

impl Held {
    /// Is this the one that comes again, and not a small one of its node? What was kept for it meanwhile it does not ask for.
    fn is_asked_by(&self, node: NodeId, item: &Item) -> bool {
        let asks = item.waiting.0 >= self.cost.0.div_ceil(2).max(2);
        self.node == node && (asks || !guard!("large-cost-keeps-its-turn"))
    }
}

impl Count {
    pub(super) fn grant(&mut self, node: NodeId, item: &Item, clock: Nanos, policy: &Policy) -> Permits {
        // Permits that gather for an older large cost are not free for another node, nor for the small ones of its own.
        let gathering = self.held.front().filter(|held| !held.is_asked_by(node, item) && guard!("large-cost-gathers"));
        let gathering = gathering.map(|held| held.cost);
        let free = self.free(policy).saturating_sub(gathering.unwrap_or_default());
        let mut most = self.share(item.want, free, clock);
        let spare = self.spare(node, free, clock);
        most = match item.waiting {
            Permits::ZERO => most.min(spare),
            waiting => most.min(waiting.0.saturating_add(spare.max(free.0 / 2))),
        };
        if policy.span() > LONG_WINDOW && guard!("grant-capped-for-long-windows") {
            most = most.min((policy.max.0 / LONG_SHARE).saturating_sub(item.have.0));
        }
        let wanted = item.want.0.min(most.max(1));
        let granted = if item.waiting.0 <= free.0 { wanted.max(item.waiting.0) } else { wanted };
        // A cost that cannot be met now must not be nibbled away by its own node's small ones either.
        let gathers = item.waiting.0 > free.0 && item.waiting.0 > 1 && guard!("large-cost-is-not-nibbled");
        let granted = match guard!("grant-within-the-free") {
            _ if gathers => Permits::ZERO,
            true => Permits(granted.min(free.0)),
            false => Permits(granted),
        };
        // Who is refused and comes again has not lost his turn, for as long as he was told to wait.
        if granted >= item.waiting {
            self.held.retain(|held| held.node != node || !held.is_asked_by(node, item));
        }
        granted
    }

    /// What may be granted to be at hand, while nobody waits for it: as much stays free as nodes hold, so that whoever comes
    /// finds some without a recall. A node alone on a key has it to itself (an exclusive lease): the first other one calls
    /// back what it needs. Who was heard lately is there, though he has just handed back all he had.
    fn spare(&self, node: NodeId, free: Permits, clock: Nanos) -> u64 {
        let holds = |record: &Record| record.outstanding.saturating_add(record.want) > Permits::ZERO;
        let lately =
            |record: &Record| clock < record.heard.saturating_add(ACTIVE) && guard!("who-was-heard-lately-is-there");
        let is_there = |record: &Record| holds(record) || lately(record);
        let others = |record: &&Record| record.node != node && is_there(record);
        if !self.records.iter().any(|record| others(&record)) && guard!("a-node-alone-has-it-all") {
            return free.0;
        }
        let held = self.records.iter().fold(Permits::ZERO, |sum, record| sum.saturating_add(record.outstanding));
        if guard!("what-is-at-hand-leaves-as-much-free") { free.saturating_sub(held).0 / 2 } else { free.0 }
    }

    /// What one node may take of `free`: half while there is plenty, its part by demand when there is not.
    fn share(&self, want: Permits, free: Permits, clock: Nanos) -> u64 {
        let lately = self.records.iter().filter(|record| clock < record.heard.saturating_add(ACTIVE));
        let wanted = lately.fold(0_u128, |sum, record| sum + u128::from(record.want.0)).max(1);
        if wanted <= u128::from(free.0 / 2) {
            return want.0;
        }
        u64::try_from(u128::from(free.0) * u128::from(want.0) / wanted).unwrap_or(u64::MAX)
    }

    /// A waiting cost was not met: gather for it, call idle permits back, and say when to ask again.
    pub(super) fn starve(
        &mut self,
        at: usize,
        item: &Item,
        clock: Nanos,
        policy: &Policy,
        recalls: &mut Vec<Recall>,
    ) -> Nanos {
        let node = self.records[at].node;
        let missing = item.waiting.saturating_sub(self.free(policy));
        let lapse = self.records.iter().map(|record| record.lapses.saturating_sub(clock)).min();
        let mut retry = self.tally.frees(missing, clock, policy).or(lapse).unwrap_or(policy.span());
        if guard!("idle-permits-recalled") && self.recall(at, item.key, clock, recalls) {
            retry = retry.min(RECALL_TAKES);
        }
        if item.waiting.0 > 1 && item.waiting <= self.tally.most(policy) {
            let turn = retry.saturating_add(retry).max(Nanos::from_millis(500)).min(policy.span()).min(TURN);
            let until = clock.saturating_add(turn);
            let held = Held { node, cost: item.waiting, until };
            match self.held.iter().position(|held| held.node == node) {
                Some(at) if self.held[at].is_asked_by(node, item) => self.held[at] = held,
                Some(_) => {} // A smaller one of that node.
                None if self.held.len() < MOST_HELD => self.held.push_back(held),
                None => {} // Its client will be told to come back.
            }
        }
        retry.max(Nanos::from_millis(1))
    }

    /// Asks other nodes for permits they hold idle. `true`: some were asked and have not answered yet.
    pub(super) fn recall(&mut self, at: usize, key: Key, clock: Nanos, recalls: &mut Vec<Recall>) -> bool {
        let Record { node, recalled, .. } = self.records[at];
        let holds_idle = |r: &&Record| r.node != node && r.outstanding > r.pace;
        if recalled != Nanos::ZERO && clock < recalled.saturating_add(RECALL_LASTS) {
            // A report that was on its way already when its node was asked is no answer to that.
            let crosses =
                clock < recalled.saturating_add(CROSSING) && guard!("report-that-crosses-a-recall-is-no-answer");
            let known = if crosses { recalled.saturating_add(RECALL_TAKES) } else { recalled };
            return self.records.iter().filter(holds_idle).any(|r| r.heard <= known);
        }
        let before = recalls.len();
        // Who did not answer the last time is gone or cut off: its permits come back when they lapse.
        let answers = |r: &&Record| recalled == Nanos::ZERO || r.heard > recalled;
        recalls.extend(self.records.iter().filter(holds_idle).filter(answers).map(|r| Recall { node: r.node, key }));
        let asked = recalls.len() > before;
        if asked {
            self.records[at].recalled = clock.max(Nanos(1));
        }
        asked
    }
}
