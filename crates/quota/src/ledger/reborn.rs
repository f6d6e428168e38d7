//! What a new cluster counts on with, when the old one is gone: restored from a backup, or recovered from one survivor.
//!
//! Nobody can tell what the lost leader granted after the last entry that is known, so
//! ```text
//!   windows, buckets, places   unknown holders have all there is of every key, for D (+ W): nothing is granted until then
//!   budgets, long calendars    go on from what is known; what was held counts as spent
//! ```
//! Unknown holders are a record of node 0, which no cluster has.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_model::{LimitId, Millis, Nanos, NodeId, Permits};

use super::Ledger;
use super::count::Count;
use super::windows::Window;
use crate::protocol::{Key, Kind, Policy};

/// A calendar window up to this long is closed as other windows are; a longer one goes on from what is known.
const SHORT: u64 = 3_600;

/// Limits whose former holders are unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed(BTreeMap<LimitId, Since>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    /// Λ of the last entry that is known of the old cluster.
    at: Nanos,
    /// Calendar windows up to this one are closed; 0 with other kinds.
    window: u64,
}

/// Does what is counted by periods go on from what is known, or is it closed until its period ends?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Budgets {
    #[default]
    GoOn,
    Close,
}

/// What became of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reckoned {
    pub limit: LimitId,
    /// Closed until nothing that the lost leader may have granted counts any more; otherwise it goes on.
    pub is_closed: bool,
    /// With windows and buckets: for so long.
    pub closed_for: Nanos,
    /// Held by nodes at the last entry that is known; of limits that go on this counts as spent now.
    pub held: BTreeMap<NodeId, Permits>,
}

impl Closed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By an operator's word nobody holds anything.
    pub(super) fn lift(&mut self, limit: LimitId) {
        self.0.remove(&limit);
    }

    /// May what the lost leader granted of it still count?
    pub(super) fn holds(&self, policy: &Policy, window: Option<&Window>, clock: Nanos) -> bool {
        let Some(since) = self.0.get(&policy.limit) else { return false };
        match window {
            Some(window) => window.number <= since.window,
            None => clock < since.at.saturating_add(policy.ttl).saturating_add(policy.kind.lingers()),
        }
    }

    pub(super) fn keep(&mut self, known: impl Fn(&LimitId) -> bool) {
        self.0.retain(|limit, _| known(limit));
    }
}

impl Ledger {
    /// What does not lapse by itself within minutes: all that a backup needs.
    #[must_use]
    pub fn lasting(&self) -> Self {
        let lasts = |key: &Key| self.policies.get(&key.limit).is_some_and(|known| is_dated(&known.policy));
        let lasting = self.counts.iter().filter(|(key, _)| lasts(key));
        let counts: BTreeMap<Key, Count> = lasting.map(|(key, count)| (*key, count.clone())).collect();
        Self {
            clock: self.clock,
            revision: self.revision,
            policies: self.policies.clone(),
            sweep: counts.keys().map(|key| (self.clock, *key)).collect(),
            counts,
            removed: self.removed.clone(),
            windows: self.windows.clone(),
            orders: self.orders.clone(),
            aftermath: self.aftermath.clone(),
            rates: self.rates.clone(),
            closed: self.closed.clone(),
            room: self.room,
        }
    }

    /// The ledger of a new cluster that takes this one's place at `now`, and what became of each limit.
    #[must_use]
    pub fn reborn(&self, now: Millis, budgets: Budgets) -> (Self, Vec<Reckoned>) {
        let mut reborn = self.lasting();
        let policies: Vec<Policy> = self.policies.values().map(|known| known.policy.clone()).collect();
        let reckoned = policies.iter().map(|policy| self.reckon(policy, budgets)).collect();
        for policy in &policies {
            if !closes(policy, budgets) {
                continue;
            }
            let of = |key: &Key| key.limit == policy.limit;
            reborn.counts.retain(|key, _| !of(key));
            reborn.sweep.retain(|(_, key)| !of(key));
            // Of the calendar, the window that the lost cluster was in at last.
            if let Some(opening) = reborn.windows.due(policy, now) {
                reborn.windows.open(&opening);
            }
            let window = reborn.windows.of(policy.limit).map_or(0, |window| window.number);
            reborn.closed.0.insert(policy.limit, Since { at: reborn.clock, window });
        }
        reborn.counts.values_mut().for_each(|count| count.settle());
        reborn.aftermath.forget_lives();
        (reborn, reckoned)
    }

    fn reckon(&self, policy: &Policy, budgets: Budgets) -> Reckoned {
        let is_closed = closes(policy, budgets);
        let closed_for = match is_closed && policy.kind.period().is_none() {
            true => policy.ttl.saturating_add(policy.kind.lingers()),
            false => Nanos::ZERO,
        };
        let mut held = BTreeMap::new();
        for count in self.counts.iter().filter(|(key, _)| key.limit == policy.limit).map(|(_, count)| count) {
            for holder in count.holders() {
                let sum: &mut Permits = held.entry(holder.node).or_default();
                *sum = sum.saturating_add(holder.lease).saturating_add(holder.reserve);
            }
        }
        Reckoned { limit: policy.limit, is_closed, closed_for, held }
    }

    /// The count of a key that has none: empty, unless who holds it is unknown.
    pub(super) fn fresh(&self, key: Key, policy: &Policy) -> Count {
        let Some(since) = self.closed.0.get(&key.limit) else { return Count::new(self.clock, policy) };
        if !is_dated(policy) {
            return Count::held_by_unknown(since.at, policy);
        }
        let mut count = Count::new(self.clock, policy);
        if let (Some(window), Some(known)) = (self.windows.of(key.limit), self.policies.get(&key.limit))
            && window.number <= since.window
        {
            count.turn(window, self.orders.max(&known.policy, key), policy);
            count.spend(policy.max, self.clock, policy);
        }
        count
    }

    /// Does time have to pass until the last limit opens again?
    pub(super) fn waits_to_open(&self) -> bool {
        let mut policies = self.policies.values().map(|known| &known.policy).filter(|policy| !is_dated(policy));
        !self.closed.is_empty() && policies.any(|policy| self.closed.holds(policy, None, self.clock))
    }
}

fn is_dated(policy: &Policy) -> bool {
    policy.kind.period().is_some()
}

fn closes(policy: &Policy, budgets: Budgets) -> bool {
    match &policy.kind {
        Kind::Calendar { period, .. } => period.seconds() <= SHORT || budgets == Budgets::Close,
        Kind::Budget(_) => budgets == Budgets::Close,
        Kind::Sliding { .. } | Kind::Bucket { .. } | Kind::Concurrency | Kind::Smooth { .. } => true,
    }
}

/// For what the first ledgers did not have: those end before it.
pub(super) fn added_later<'de, D: Deserializer<'de>>(from: D) -> Result<Closed, D::Error> {
    Ok(Closed::deserialize(from).unwrap_or_default())
}
