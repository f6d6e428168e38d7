//! One key of the ledger: who holds how much of it. What was spent of it, its [`Tally`] knows, by the rules of its kind.
//!
//! At log time Λ a permit of a sliding window is charged while
//!   (a) it is outstanding and Λ < Λ(grant or renewal) + D + W, or
//!   (b) it was reported spent and Λ < Λ(report) + W.
//! A permit handed back is free at once. `g` is granted only if charged + g ≤ L. Other kinds do not linger: (a) without W.

mod closing;
mod grants;
mod reserves;
mod shares;
mod unknown;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_model::{Incarnation, Nanos, NodeId, Permits};

use self::grants::Held;
use self::reserves::Reserve;
use super::Holder;
use super::tally::Tally;
use super::windows::Window;
use crate::guard;
use crate::protocol::{Alert, Batch, Item, Key, Kind, Nature, Policy, Recall, Verdict};

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
pub(super) struct Record {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) epoch: u64,
    /// Of the newest batch applied.
    pub(super) seq: u64,
    pub(super) spent: Permits,
    pub(super) outstanding: Permits,
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
            if let Some(dated) = self.tally.dated() {
                self.records
                    .iter()
                    .filter(|record| record.lapses <= lapse)
                    .for_each(|record| dated.lives.lapse(record));
            }
            self.records.retain(|record| lapse < record.lapses);
            self.drop_shares();
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
        if let Some(dated) = self.tally.dated()
            && !guard!("snapshot-holds-lapsed-leases")
        {
            dated.lives.clear();
        }
        if !guard!("snapshot-holds-reserves") {
            self.reserves.clear();
        }
    }

    /// What a removed node holds is gone: the mutation gate's, no other.
    pub(super) fn drop_node(&mut self, node: NodeId) {
        self.records.retain(|record| record.node != node);
        self.reserves.retain(|reserve| reserve.node != node);
        self.drop_shares();
    }

    /// The calendar may have gone on. What was held in an earlier window counts to that one, whenever it is spent; its
    /// holders begin anew. `max`: without what was granted beyond it, of which nothing is carried over.
    pub(super) fn turn(&mut self, window: &Window, max: Permits, policy: &Policy) {
        let charged = self.charged();
        if let Some(dated) = self.tally.dated()
            && dated.turn(window, charged, max, policy)
            && guard!("held-counts-to-its-own-window")
        {
            self.records.clear(); // Who waits for much is first in the new window too: `held` stays.
        }
    }

    /// Thresholds of the budget that were passed and not told of yet.
    pub(super) fn alerts(&mut self, key: Key, policy: &Policy, alerts: &mut Vec<Alert>) {
        if let Some(dated) = self.tally.dated() {
            dated.alerts(key, policy, alerts);
        }
    }

    /// This process journals: what its leases hold when they lapse is remembered.
    pub(super) fn journal(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(dated) = self.tally.dated() {
            dated.lives.begin(node, incarnation);
        }
    }

    /// Does, or did, this process hold something of it?
    pub(super) fn is_of(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.records.iter().any(|record| record.is_of(node, incarnation)) || self.tally.lives().is_of(node, incarnation)
    }

    /// The count begins anew. What nodes hold is charged on: they may spend it.
    pub(super) fn reset(&mut self, clock: Nanos, policy: &Policy) {
        self.forget_unknown();
        self.forget(clock, policy);
        self.tally.reset(clock, policy);
        self.tally.pass(clock, self.outstanding(), policy);
    }

    /// Permits beyond the maximum, by an order: a bucket holds them, others let them be taken.
    pub(super) fn come(&mut self, permits: Permits) {
        self.tally.take_back(permits);
    }

    /// What the calendar window before left.
    pub(super) fn carried(&self) -> Permits {
        self.tally.carried()
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
        let found = self.find(batch, item.epoch);
        if let (Found::New, Some(dated)) = (&found, self.tally.dated()) {
            dated.hear_late(batch, item);
        }
        let at = match found {
            Found::Stale => return None,
            Found::New if item.spent == Permits::ZERO && item.have == Permits::ZERO => self.open(batch, item),
            // What this cell holds is not, or no longer, charged.
            Found::New if !guard!("unknown-lease-refused") => self.open(batch, item),
            Found::New => return Some(Verdict::Reset),
            Found::At(at) => at,
        };
        if let Kind::Smooth { rate } = policy.kind {
            return Some(self.share_out(at, batch, item, clock, (rate, policy), recalls));
        }
        if !self.book(at, batch.seq, item, clock, policy) {
            self.forfeit(at, clock, policy);
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
            Nature::Refilled => item.have,                            // `shares.rs` books it.
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
        let over = self.charged().saturating_sub(self.tally.most(policy));
        // With its lease end the calls that hold places: as few as will do, those of the oldest leases.
        let is_spared = policy.kind.nature() == Nature::InUse && over <= self.older(at);
        let record = &mut self.records[at];
        let holds = record.outstanding != Permits::ZERO;
        if over != Permits::ZERO && holds && !is_spared && guard!("lowered-limit-is-not-renewed") {
            return Nanos::ZERO;
        }
        // Never earlier than before: under a shortened D the holder keeps its older, later expiry.
        let ttl = if guard!("outstanding-charged-for-d") { policy.ttl } else { Nanos::ZERO };
        let window = if guard!("outstanding-charged-for-w") { policy.kind.lingers() } else { Nanos::ZERO };
        let before = if guard!("shortened-lease-keeps-the-longer") { record.lapses } else { Nanos::ZERO };
        record.lapses = before.max(clock.saturating_add(ttl).saturating_add(window));
        policy.ttl
    }

    /// What leases hold that lapse before this one, unless they are renewed.
    fn older(&self, at: usize) -> Permits {
        let age = |record: &Record| (record.lapses, record.node, record.incarnation.0, record.epoch);
        let own = age(&self.records[at]);
        let older = self.records.iter().filter(|record| age(record) < own);
        older.fold(Permits::ZERO, |sum, record| sum.saturating_add(record.outstanding))
    }

    pub(super) fn free(&self, policy: &Policy) -> Permits {
        self.tally.free(self.charged(), policy)
    }
}

impl Record {
    fn is_of(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.node == node && self.incarnation == incarnation
    }
}

enum Found {
    At(usize),
    New,
    /// A newer batch, or a newer epoch, was applied before.
    Stale,
}
