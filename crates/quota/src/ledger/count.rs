//! One key of the ledger: who holds how much of it. What was spent of it, its [`Tally`] knows, by the rules of its kind.
//!
//! At log time Λ a permit of a sliding window is charged while
//!   (a) it is outstanding and Λ < Λ(grant or renewal) + D + W, or
//!   (b) it was reported spent and Λ < Λ(report) + W.
//! A permit handed back is free at once. `g` is granted only if charged + g ≤ L. Other kinds do not linger: (a) without W.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use super::Holder;
use super::tally::Tally;
use super::windows::Window;
use crate::guard;
use crate::protocol::{Alert, Batch, Item, Key, Kind, Nature, Policy, RECALL_TAKES, RESERVE_TTL, Recall, Verdict};

/// What a node wanted counts for this long after its last batch.
const ACTIVE: Nanos = Nanos::from_millis(250);
/// Costs that wait for permits to gather, per key.
const MOST_HELD: usize = 16;
/// A recall is answered within this long, or not at all; meanwhile it is worth asking again after a moment.
const RECALL_LASTS: Nanos = Nanos::from_millis(100);
/// Partition reserves take at most a quarter of a limit, a node at most 1/32.
/// (but one permit, where that is less than a quarter). Made smaller, it stays charged until its node has agreed.
const RESERVE_OF_NODE: u64 = 32;
const RESERVE_OF_ALL: u64 = 4;
const MOST_FORMER: usize = 8;
/// Above this window a grant is capped to 1/16 of the limit, so that a crash cannot strand a customer's day.
const LONG_WINDOW: Nanos = Nanos::from_secs(60);
const LONG_SHARE: u64 = 16;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    records: Vec<Record>,
    reserves: Vec<Reserve>,
    tally: Tally,
    /// Costs for which permits are gathered, oldest first.
    held: VecDeque<Held>,
    /// For people.
    #[serde(skip)]
    worst: Worst,
}

/// The fullest window that this process has seen. Not agreed on: replicas that differ in it are equal.
#[derive(Debug, Clone, Copy, Default)]
struct Worst(Permits);

impl PartialEq for Worst {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Worst {}

/// What one life of one process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    node: NodeId,
    incarnation: Incarnation,
    epoch: u64,
    /// Of the newest batch applied.
    seq: u64,
    spent: Permits,
    outstanding: Permits,
    /// Spent between the last two batches: is what it holds idle?
    pace: Permits,
    /// Wanted and not granted.
    want: Permits,
    /// When others were last asked to hand back for it.
    recalled: Nanos,
    heard: Nanos,
    /// Λ(grant or renewal) + D, and W with a sliding window.
    lapses: Nanos,
}

/// A partition reserve: charged whole, whatever is spent of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reserve {
    node: NodeId,
    incarnation: Incarnation,
    /// Of the newest batch of that incarnation that spoke of it.
    seq: u64,
    permits: Permits,
    lapses: Nanos,
    /// Earlier lives of the node: what still arrives from them changes nothing.
    former: VecDeque<Incarnation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    node: NodeId,
    cost: Permits,
    until: Nanos,
}

impl Count {
    /// Of a key that nobody holds and nothing was spent of.
    pub(super) fn new(clock: Nanos, policy: &Policy) -> Self {
        let tally = Tally::new(clock, policy);
        Self { records: Vec::new(), reserves: Vec::new(), tally, held: VecDeque::new(), worst: Worst::default() }
    }

    /// Drops what is no longer charged. Every read comes after it.
    pub(super) fn forget(&mut self, clock: Nanos, policy: &Policy) {
        // One lapse after the other: up to it the lease was held, and a bucket did not fill up in its place.
        while let Some(lapse) = self.records.iter().map(|record| record.lapses).filter(|lapse| *lapse <= clock).min() {
            self.tally.pass(lapse, self.outstanding(), policy);
            if !guard!("bucket-lapsed-is-gone") {
                let lapsed = self.records.iter().filter(|record| record.lapses <= lapse);
                self.tally.take_back(lapsed.fold(Permits::ZERO, |sum, record| sum.saturating_add(record.outstanding)));
            }
            let held = self.outstanding();
            self.records.retain(|record| lapse < record.lapses);
            self.tally.lapse(held.saturating_sub(self.outstanding()));
        }
        self.reserves.retain(|reserve| clock < reserve.lapses);
        self.held.retain(|held| clock < held.until);
        self.tally.pass(clock, self.outstanding(), policy);
    }

    /// See `maimed.rs`.
    #[cfg(feature = "mutants")]
    pub(super) fn maim(&mut self) {
        if !guard!("snapshot-holds-records") {
            self.records.clear();
        }
        if !guard!("snapshot-holds-rings") {
            self.tally = Tally::Sliding(Default::default());
        }
        if !guard!("snapshot-holds-reserves") {
            self.reserves.clear();
        }
    }

    /// What a removed node holds is gone: the mutation gate's, no other.
    pub(super) fn drop_node(&mut self, node: NodeId) {
        self.records.retain(|record| record.node != node);
        self.reserves.retain(|reserve| reserve.node != node);
    }

    /// The calendar may have gone on. What was held in an earlier window counts to that one, whenever it is spent; its
    /// holders begin anew.
    pub(super) fn turn(&mut self, window: &Window, policy: &Policy) {
        let charged = self.charged();
        if let Some(dated) = self.tally.dated()
            && dated.turn(window, charged, policy)
            && guard!("held-counts-to-its-own-window")
        {
            self.records.clear();
            self.held.clear();
        }
    }

    /// Thresholds of the budget that were passed and not told of yet.
    pub(super) fn alerts(&mut self, key: Key, policy: &Policy, alerts: &mut Vec<Alert>) {
        if let Some(dated) = self.tally.dated() {
            dated.alerts(key, policy, alerts);
        }
    }

    /// The count begins anew. What nodes hold is charged on: they may spend it.
    pub(super) fn reset(&mut self, clock: Nanos, policy: &Policy) {
        self.forget(clock, policy);
        self.tally.reset(clock, policy);
        self.tally.pass(clock, self.outstanding(), policy);
    }

    /// Permits beyond the maximum, by an order: a bucket holds them, others let them be taken.
    pub(super) fn come(&mut self, permits: Permits) {
        self.tally.take_back(permits);
    }

    /// What can be spent of a bucket at once, held or not.
    pub(super) fn reach(&self) -> Permits {
        self.tally.level().saturating_add(self.outstanding())
    }

    pub(super) fn look(&mut self) {
        self.worst = Worst(self.worst.0.max(self.spent()));
    }

    pub(super) fn worst(&self) -> Permits {
        self.worst.0.max(self.spent())
    }

    /// Who holds something, by node.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let mut holders = std::collections::BTreeMap::<NodeId, Holder>::new();
        let none = |node| Holder { node, lease: Permits::ZERO, reserve: Permits::ZERO };
        for record in self.records.iter().filter(|record| record.outstanding != Permits::ZERO) {
            let holder = holders.entry(record.node).or_insert_with(|| none(record.node));
            holder.lease = holder.lease.saturating_add(record.outstanding);
        }
        for reserve in &self.reserves {
            let holder = holders.entry(reserve.node).or_insert_with(|| none(reserve.node));
            holder.reserve = holder.reserve.saturating_add(reserve.permits);
        }
        holders.into_values().collect()
    }

    pub(super) fn spent(&self) -> Permits {
        self.tally.spent()
    }

    pub(super) fn outstanding(&self) -> Permits {
        let records = self.records.iter().map(|record| record.outstanding);
        let reserves = self.reserves.iter().map(|reserve| reserve.permits);
        let reserves = reserves.filter(|_| guard!("reserve-counts"));
        records.chain(reserves).fold(Permits::ZERO, Permits::saturating_add)
    }

    /// Saturates, never wraps: too much charged is safe.
    pub(super) fn charged(&self) -> Permits {
        match guard!("sums-saturate") {
            _ if !guard!("outstanding-counts") => self.spent(),
            true => self.spent().saturating_add(self.outstanding()),
            false => Permits(self.spent().0.wrapping_add(self.outstanding().0)),
        }
    }

    /// When the last charge ends; `None`: nothing is left to remember.
    pub(super) fn ends(&self, policy: &Policy) -> Option<Nanos> {
        let records = self.records.iter().map(|record| record.lapses);
        let reserves = self.reserves.iter().map(|reserve| reserve.lapses);
        records.chain(reserves).chain(self.tally.ends(policy)).max()
    }

    /// Books a report and decides a grant. `None`: older than what was already applied.
    pub(super) fn item(
        &mut self,
        batch: &Batch,
        item: &Item,
        clock: Nanos,
        policy: &Policy,
        recalls: &mut Vec<Recall>,
    ) -> Option<Verdict> {
        let at = match self.find(batch, item.epoch) {
            Found::Stale => return None,
            Found::New if item.spent == Permits::ZERO && item.have == Permits::ZERO => self.open(batch, item),
            // What this cell holds is not, or no longer, charged.
            Found::New if !guard!("unknown-lease-refused") => self.open(batch, item),
            Found::New => return Some(Verdict::Reset),
            Found::At(at) => at,
        };
        if !self.book(at, batch.seq, item, clock, policy) {
            return Some(Verdict::Reset);
        }
        let ttl = self.renew(at, clock, policy);
        let reserve = self.reserve(batch, item, clock, policy);
        self.records[at].want = item.want;
        let granted = self.grant(batch.node, item, clock, policy);
        self.tally.grant(granted);
        let record = &mut self.records[at];
        record.outstanding = record.outstanding.saturating_add(granted);
        record.want = item.want.saturating_sub(granted);
        let free = self.free(policy);
        let starves = granted < item.waiting;
        let mut retry = Nanos::ZERO;
        if starves {
            retry = self.starve(at, item, clock, policy, recalls);
        }
        Some(Verdict::Lease { granted, free, ttl, retry, reserve }) // `Ledger` adds the window, where there is one.
    }

    fn find(&self, batch: &Batch, epoch: u64) -> Found {
        let mut found = Found::New;
        for (at, record) in self.records.iter().enumerate() {
            if record.node != batch.node || record.incarnation != batch.incarnation {
                continue;
            }
            if record.seq >= batch.seq && guard!("late-batch-dropped")
                || record.epoch > epoch && guard!("old-epoch-stays-closed")
            {
                return Found::Stale;
            }
            if record.epoch == epoch {
                found = Found::At(at);
            }
        }
        found
    }

    fn open(&mut self, batch: &Batch, item: &Item) -> usize {
        self.records.push(Record {
            node: batch.node,
            incarnation: batch.incarnation,
            epoch: item.epoch,
            seq: 0,
            spent: Permits::ZERO,
            outstanding: Permits::ZERO,
            pace: Permits::ZERO,
            want: Permits::ZERO,
            recalled: Nanos::ZERO,
            heard: Nanos::ZERO,
            lapses: Nanos::ZERO,
        });
        self.records.len() - 1
    }

    /// Moves what was spent from outstanding to the tally; frees what was handed back.
    /// `false`: the report claims more than this ledger charges.
    fn book(&mut self, at: usize, seq: u64, item: &Item, clock: Nanos, policy: &Policy) -> bool {
        let record = &mut self.records[at];
        record.seq = seq;
        record.heard = clock;
        let Some(news) = item.spent.0.checked_sub(record.spent.0) else { return false };
        let claimed = news.saturating_add(item.have.0);
        let honest = claimed <= record.outstanding.0 || !guard!("have-only-what-is-charged");
        record.spent = item.spent;
        record.pace = match policy.kind.nature() {
            Nature::Spent => Permits(news),
            Nature::InUse if !guard!("busy-places-are-not-called-back") => Permits(news),
            Nature::InUse => item.have.saturating_sub(item.reserved), // The rest is idle.
        };
        let unspent = record.outstanding.saturating_sub(Permits(claimed));
        record.outstanding = if honest && !guard!("handed-back-is-free") {
            record.outstanding.saturating_sub(Permits(news))
        } else if honest {
            item.have
        } else {
            record.outstanding.saturating_sub(Permits(news)) // Stays charged until it lapses.
        };
        self.tally.take_back(unspent);
        if guard!("spend-is-booked") {
            self.tally.spend(Permits(news), clock, policy);
        }
        honest
    }

    /// Renews a lease; returns for how long. Zero: the limit was lowered below what is charged, so what is held runs out
    /// at its old expiry. Renewed then, it could be kept and spent long after the lowering should have bound.
    fn renew(&mut self, at: usize, clock: Nanos, policy: &Policy) -> Nanos {
        let over = self.charged() > self.tally.most(policy);
        let record = &mut self.records[at];
        if over && record.outstanding != Permits::ZERO && guard!("lowered-limit-is-not-renewed") {
            return Nanos::ZERO;
        }
        // Never earlier than before: under a shortened D the holder keeps its older, later expiry.
        let ttl = if guard!("outstanding-charged-for-d") { policy.ttl } else { Nanos::ZERO };
        let window = if guard!("outstanding-charged-for-w") { policy.kind.lingers() } else { Nanos::ZERO };
        let before = if guard!("shortened-lease-keeps-the-longer") { record.lapses } else { Nanos::ZERO };
        record.lapses = before.max(clock.saturating_add(ttl).saturating_add(window));
        policy.ttl
    }

    pub(super) fn free(&self, policy: &Policy) -> Permits {
        self.tally.free(self.charged(), policy)
    }

    fn grant(&mut self, node: NodeId, item: &Item, clock: Nanos, policy: &Policy) -> Permits {
        // Permits that gather for an older large cost of another node are not free for this one.
        let gathering =
            self.held.front().filter(|held| held.node != node && guard!("large-cost-gathers")).map(|held| held.cost);
        let free = self.free(policy).saturating_sub(gathering.unwrap_or_default());
        let mut most = self.share(item.want, free, clock);
        let spare = self.spare(node, free);
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
        if granted >= item.waiting {
            self.held.retain(|held| held.node != node);
        }
        granted
    }

    /// What may be granted to be at hand, while nobody waits for it: as much stays free as nodes hold, so that whoever comes
    /// finds some without a recall. A node alone on a key has it to itself (an exclusive lease): the first other one calls
    /// back what it needs.
    fn spare(&self, node: NodeId, free: Permits) -> u64 {
        let others =
            |record: &&Record| record.node != node && record.outstanding.saturating_add(record.want) > Permits::ZERO;
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
    fn starve(&mut self, at: usize, item: &Item, clock: Nanos, policy: &Policy, recalls: &mut Vec<Recall>) -> Nanos {
        let node = self.records[at].node;
        let missing = item.waiting.saturating_sub(self.free(policy));
        let lapse = self.records.iter().map(|record| record.lapses.saturating_sub(clock)).min();
        let mut retry = self.tally.frees(missing, clock, policy).or(lapse).unwrap_or(policy.span());
        if guard!("idle-permits-recalled") && self.recall(at, item.key, clock, recalls) {
            retry = retry.min(RECALL_TAKES);
        }
        if item.waiting.0 > 1 && item.waiting <= policy.max {
            let until =
                clock.saturating_add(retry.saturating_add(retry).max(Nanos::from_millis(500)).min(policy.span()));
            let held = Held { node, cost: item.waiting, until };
            match self.held.iter().position(|held| held.node == node) {
                Some(at) => self.held[at] = held,
                None if self.held.len() < MOST_HELD => self.held.push_back(held),
                None => {} // Its client will be told to come back.
            }
        }
        retry.max(Nanos::from_millis(1))
    }

    /// Asks other nodes for permits they hold idle. `true`: some were asked and have not answered yet.
    fn recall(&mut self, at: usize, key: Key, clock: Nanos, recalls: &mut Vec<Recall>) -> bool {
        let Record { node, recalled, .. } = self.records[at];
        let holds_idle = |r: &&Record| r.node != node && r.outstanding > r.pace;
        if recalled != Nanos::ZERO && clock < recalled.saturating_add(RECALL_LASTS) {
            return self.records.iter().filter(holds_idle).any(|r| r.heard <= recalled);
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

    /// Opens, renews, shrinks or ends a node's partition reserve; returns what the node may count on from this answer on.
    fn reserve(&mut self, batch: &Batch, item: &Item, clock: Nanos, policy: &Policy) -> Permits {
        let Kind::Sliding { window } = policy.kind else { return Permits::ZERO };
        let charge = RESERVE_TTL.saturating_add(window);
        let Some(at) = self.reserves.iter().position(|reserve| reserve.node == batch.node) else {
            return if item.reserve { self.open_reserve(batch, clock, policy) } else { Permits::ZERO };
        };
        // After a lowering there may be room for the older reserves only.
        let older = self.reserves[..at].iter().fold(Permits::ZERO, |sum, r| sum.saturating_add(r.permits));
        let room = reserves_of(policy).saturating_sub(older);
        let target = if item.reserve { reserve_of(policy).min(room) } else { Permits::ZERO };
        let reserve = &mut self.reserves[at];
        if reserve.incarnation != batch.incarnation {
            // The node was started anew. Its earlier life may have spent the reserve a moment ago; the new one knows.
            let former = !item.reserve || item.reserved != Permits::ZERO || reserve.former.contains(&batch.incarnation);
            if former && guard!("reserve-not-ended-by-a-former-life") {
                return Permits::ZERO;
            }
            if reserve.former.len() == MOST_FORMER {
                reserve.former.pop_front();
            }
            reserve.former.push_back(reserve.incarnation);
            reserve.incarnation = batch.incarnation;
        } else if batch.seq <= reserve.seq && guard!("reserve-not-ended-by-a-late-batch") {
            return Permits::ZERO; // Late: its holder no longer listens.
        }
        reserve.seq = batch.seq;
        let target =
            if item.reserve && !guard!("reserve-shrinks") { reserve.permits } else { target.min(reserve.permits) };
        // What the node no longer counts on may have been spent up to now: charged for one more window.
        let kept = match guard!("reserve-shrinks-by-agreement") {
            true => target.max(item.reserved.min(reserve.permits)),
            false => target,
        };
        let ended = reserve.permits.saturating_sub(kept);
        reserve.permits = kept;
        if target != Permits::ZERO {
            reserve.lapses = clock.saturating_add(charge);
        }
        if kept == Permits::ZERO {
            self.reserves.remove(at);
        }
        if guard!("reserve-ended-is-charged") {
            self.tally.spend(ended, clock, policy);
        }
        target
    }

    fn open_reserve(&mut self, batch: &Batch, clock: Nanos, policy: &Policy) -> Permits {
        let reserved = self.reserves.iter().fold(Permits::ZERO, |sum, r| sum.saturating_add(r.permits));
        let permits = reserve_of(policy).min(self.free(policy));
        if permits == Permits::ZERO || reserved.saturating_add(permits) > reserves_of(policy) {
            return Permits::ZERO;
        }
        self.reserves.push(Reserve {
            node: batch.node,
            incarnation: batch.incarnation,
            seq: batch.seq,
            permits,
            lapses: clock.saturating_add(RESERVE_TTL).saturating_add(policy.kind.lingers()),
            former: VecDeque::new(),
        });
        permits
    }
}

/// A node's part of a limit as its partition reserve.
fn reserve_of(policy: &Policy) -> Permits {
    Permits((policy.max.0 / RESERVE_OF_NODE).max(1)).min(reserves_of(policy))
}

/// What all partition reserves together may take.
fn reserves_of(policy: &Policy) -> Permits {
    Permits(policy.max.0 / RESERVE_OF_ALL)
}

enum Found {
    At(usize),
    New,
    /// A newer batch, or a newer epoch, was applied before.
    Stale,
}
