//! The replicated count: what every voter of the quota group holds, and how one log entry changes it.
//!
//! Grants are decided *here*, in `apply`, by every replica alike: what is answered is by construction what was committed.
//! Iterates ordered maps only. Time is the log clock Λ, the sum of the entries' `dt`: it never runs faster than real time,
//! and survives restart, snapshot and compaction (docs/quota.md).

mod aftermath;
mod count;
#[cfg(feature = "mutants")]
mod maimed;
mod orders;
pub mod reborn;
mod tally;
mod windows;

use std::collections::{BTreeMap, BTreeSet};

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};
use tidegate_model::{LimitId, Millis, Nanos, NodeId, Permits, Revision};

use self::aftermath::Aftermath;
use self::count::Count;
use self::orders::{News, Orders, Rates};
use self::reborn::Closed;
use self::windows::Windows;
use crate::guard;
use crate::protocol::{Answer, Batch, Command, Entry, Key, Opening, Outcome, Policy, Rated, Reply, Verdict};

/// Keys looked at for tidying per entry, beside two for each key it names: enough to outrun their creation.
const SWEPT_PER_ENTRY: usize = 256;

/// A withdrawn policy is kept this long for nodes that still serve the older document.
const DRAIN: Nanos = Nanos::from_secs(60);

/// Counts that are remembered at a time. Who makes up subjects can make so many: some gigabytes on each voter.
pub const MOST_COUNTS: usize = 16_000_000;

/// How many counts there may be; no part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(MOST_COUNTS)
    }
}

/// The state of the quota group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Ledger {
    /// Λ.
    clock: Nanos,
    revision: Revision,
    policies: BTreeMap<LimitId, Known>,
    counts: BTreeMap<Key, Count>,
    /// When to look whether a count can go. Each count is in here once.
    sweep: BTreeSet<(Nanos, Key)>,
    removed: BTreeSet<NodeId>,
    /// Open calendar windows. The first ledgers had none, and ended before them.
    #[serde(deserialize_with = "windows::added_later")]
    windows: Windows,
    #[serde(deserialize_with = "orders::added_later")]
    orders: Orders,
    #[serde(deserialize_with = "aftermath::added_later")]
    aftermath: Aftermath,
    #[serde(deserialize_with = "orders::rates_added_later")]
    rates: Rates,
    #[serde(deserialize_with = "reborn::added_later")]
    closed: Closed,
    #[serde(skip)]
    room: Room,
}

/// Field by field. The first ledgers ended before the last five: what is empty at the end is not written, so that they are
/// written as they were.
impl Serialize for Ledger {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { clock, revision, policies, counts, sweep, removed, windows, orders, aftermath, rates, .. } = self;
        let is_reborn = !self.closed.is_empty();
        let rated = is_reborn || !rates.is_empty();
        let noted = rated || !aftermath.is_new();
        let ordered = noted || !orders.is_new();
        let dated = ordered || !windows.is_empty();
        let later = [dated, ordered, noted, rated, is_reborn];
        let fields = 6 + later.into_iter().filter(|is_written| *is_written).count();
        let mut ledger = serializer.serialize_struct("Ledger", fields)?;
        ledger.serialize_field("clock", clock)?;
        ledger.serialize_field("revision", revision)?;
        ledger.serialize_field("policies", policies)?;
        ledger.serialize_field("counts", counts)?;
        ledger.serialize_field("sweep", sweep)?;
        ledger.serialize_field("removed", removed)?;
        if dated {
            ledger.serialize_field("windows", windows)?;
        }
        if ordered {
            ledger.serialize_field("orders", orders)?;
        }
        if noted {
            ledger.serialize_field("aftermath", aftermath)?;
        }
        if rated {
            ledger.serialize_field("rates", rates)?;
        }
        if is_reborn {
            ledger.serialize_field("closed", &self.closed)?;
        }
        ledger.end()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    policy: Policy,
    /// Named by the newest document? `Some`: withdrawn (or announced, and not published yet) at this log time, draining.
    withdrawn: Option<Nanos>,
}

/// One counter, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub key: Key,
    pub max: Permits,
    /// Reported spent in the last window.
    pub spent: Permits,
    /// Held by nodes.
    pub outstanding: Permits,
}

/// One counter, looked at closely.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    pub view: View,
    /// The maximum without orders.
    pub document: Permits,
    /// What could be granted now.
    pub free: Permits,
    /// Extra permits that are left; part of what is free.
    pub extra: Permits,
    pub holders: Vec<Holder>,
    /// The most that was reported spent in a window, as this replica saw it since it started and knows the counter.
    pub worst: Permits,
}

/// What a node holds of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub node: NodeId,
    pub lease: Permits,
    /// Its partition reserve.
    pub reserve: Permits,
}

impl Ledger {
    /// Remembers no more counts than this at a time. All replicas of a group must be made alike.
    #[must_use]
    pub fn with_room_for(most: usize) -> Self {
        Self { room: Room(most), ..Self::default() }
    }

    /// Same state, same entry, same outcome: on every node, on every replay. Cannot fail, waits for nothing.
    pub fn apply(&mut self, entry: &Entry) -> Outcome {
        self.clock = self.clock.saturating_add(entry.dt);
        let mut outcome = Outcome::default();
        let mut named = 0;
        match &entry.command {
            Command::Tick => {}
            Command::Batches(batches) => {
                for batch in batches {
                    named += batch.items.len();
                    let reply = self.batch(batch, &mut outcome);
                    outcome.replies.push(reply);
                }
            }
            Command::SetPolicies { revision, policies } => self.set_policies(*revision, policies),
            Command::PreparePolicies { policies } => self.prepare_policies(policies),
            Command::OpenWindows(openings) => {
                let dated = |limit| self.policies.get(&limit).is_some_and(|known| known.policy.kind.period().is_some());
                openings.iter().filter(|opening| dated(opening.limit)).for_each(|opening| self.windows.open(opening));
            }
            Command::SetOrders(orders) => self.set_orders(orders, &[]),
            Command::SetRatedOrders(orders, rates) => self.set_orders(orders, rates),
            Command::Note(note) => self.note(note, &mut outcome),
            Command::RemoveNode { node } => {
                self.removed.insert(*node);
                self.aftermath.remove(*node);
                if !guard!("removed-node-stays-charged") {
                    self.counts.values_mut().for_each(|count| count.drop_node(*node));
                }
            }
        }
        self.aftermath.keep(&outcome.alerts, self.clock);
        self.tidy(SWEPT_PER_ENTRY + 2 * named);
        outcome.revision = self.revision;
        outcome
    }

    /// Is any permit charged? While so, an idle leader appends a tick now and then.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        !self.counts.is_empty() || self.waits_to_open()
    }

    /// Λ: log time since the ledger began.
    #[must_use]
    pub fn clock(&self) -> Nanos {
        self.clock
    }

    /// The newest document whose limits are in force.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The limits in force, withdrawn ones left out.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values().filter(|known| known.withdrawn.is_none()).map(|known| &known.policy)
    }

    /// The windows that have begun at `now` (wall clock) and are not open yet: for the leader, who asks the other voters
    /// before it opens them.
    #[must_use]
    pub fn due_windows(&self, now: Millis) -> Vec<Opening> {
        let known = self.policies.values().map(|known| &known.policy);
        known.filter_map(|policy| self.windows.due(policy, now)).collect()
    }

    /// When the next open calendar window ends.
    #[must_use]
    pub fn next_end(&self) -> Option<Millis> {
        self.windows.next_end()
    }

    /// Permits charged on a key: reported spent in its window, or held by a node that may still spend them.
    #[must_use]
    pub fn charged(&self, key: Key) -> Permits {
        match (self.counts.get(&key), self.policies.get(&key.limit)) {
            (Some(count), Some(known)) => {
                let mut count = count.clone();
                let policy = self.orders.in_force(&self.rates, &known.policy, key.subject);
                count.forget(self.clock, &policy);
                if let Some(window) = self.windows.of(key.limit) {
                    count.turn(window, self.orders.max(&known.policy, key), &policy);
                }
                count.charged()
            }
            (None, Some(known)) => {
                let policy = self.orders.in_force(&self.rates, &known.policy, key.subject);
                let mut count = self.fresh(key, &policy);
                count.forget(self.clock, &policy);
                count.charged()
            }
            _ => Permits::ZERO,
        }
    }

    /// Every live counter, in key order.
    pub fn views(&self) -> impl Iterator<Item = View> {
        self.counts.iter().filter_map(|(key, count)| {
            let policy = &self.policies.get(&key.limit)?.policy;
            let max = self.orders.in_force(&self.rates, policy, key.subject).max;
            Some(View { key: *key, max, spent: count.spent(), outstanding: count.outstanding() })
        })
    }

    /// Some counters after this one, in key order; what they spent a window ago may still be in it.
    pub fn views_after(&self, key: Option<Key>, most: usize) -> Vec<View> {
        let from = key.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let view = |(key, count): (&Key, &Count)| {
            let policy = &self.policies.get(&key.limit)?.policy;
            let max = self.orders.in_force(&self.rates, policy, key.subject).max;
            Some(View { key: *key, max, spent: count.spent(), outstanding: count.outstanding() })
        };
        self.counts.range((from, std::ops::Bound::Unbounded)).take(most).filter_map(view).collect()
    }

    /// A counter as it is now. `None`: no such limit. One that nobody has used is empty.
    #[must_use]
    pub fn detail(&self, key: Key) -> Option<Detail> {
        let known = self.policies.get(&key.limit)?;
        let mut policy = self.orders.in_force(&self.rates, &known.policy, key.subject).into_owned();
        let mut count = self.counts.get(&key).cloned().unwrap_or_else(|| self.fresh(key, &policy));
        count.forget(self.clock, &policy);
        if let Some(window) = self.windows.of(key.limit) {
            policy.max = policy.max.saturating_sub(self.orders.over(key, window));
            count.turn(window, self.orders.max(&known.policy, key), &policy);
        }
        Some(Detail {
            view: View { key, max: policy.max, spent: count.spent(), outstanding: count.outstanding() },
            document: known.policy.max,
            free: count.free(&policy),
            extra: self.orders.left(key),
            holders: count.holders(),
            worst: count.worst(),
        })
    }

    /// The newest of the orders that are in force here.
    #[must_use]
    pub fn orders_epoch(&self) -> u64 {
        self.orders.epoch()
    }

    fn batch(&mut self, batch: &Batch, outcome: &mut Outcome) -> Reply {
        let removed = self.removed.contains(&batch.node) && guard!("removed-node-refused")
            || self.aftermath.is_closed(batch.node, batch.incarnation) && guard!("closed-process-refused");
        let journals = self.aftermath.journals(batch.node, batch.incarnation);
        let mut items = Vec::with_capacity(batch.items.len());
        for item in &batch.items {
            let verdict = match self.policies.get(&item.key.limit) {
                None => Some(Verdict::Unknown),
                Some(_) if removed => Some(Verdict::Reset),
                Some(known) => {
                    let window = self.windows.of(item.key.limit);
                    self.orders.pass(item.key, self.clock, &known.policy, window);
                    let policy = &*self.orders.in_force(&self.rates, &known.policy, item.key.subject);
                    if window.is_none() && policy.kind.period().is_some() && guard!("window-open-before-a-grant") {
                        items.push(Answer { key: item.key, epoch: item.epoch, verdict: Verdict::Unknown });
                        continue;
                    }
                    let is_new =
                        item.spent == Permits::ZERO && item.have == Permits::ZERO && item.reserved == Permits::ZERO;
                    if is_new
                        && self.counts.len() >= self.room.0
                        && !self.counts.contains_key(&item.key)
                        && guard!("bound-of-counts-holds")
                    {
                        items.push(Answer { key: item.key, epoch: item.epoch, verdict: Verdict::Unknown });
                        continue;
                    }
                    let is_fresh = !self.closed.is_empty() && !self.counts.contains_key(&item.key);
                    let fresh = is_fresh.then(|| self.fresh(item.key, policy));
                    let sweep = &mut self.sweep;
                    let count = self.counts.entry(item.key).or_insert_with(|| {
                        sweep.insert((self.clock, item.key));
                        fresh.unwrap_or_else(|| Count::new(self.clock, policy))
                    });
                    count.forget(self.clock, policy);
                    if let Some(window) = window {
                        count.turn(window, self.orders.max(&known.policy, item.key), policy);
                    }
                    if journals && policy.kind.is_journalled() {
                        count.journal(batch.node, batch.incarnation);
                    }
                    let verdict = count.item(batch, item, self.clock, policy, &mut outcome.recalls);
                    count.alerts(item.key, policy, &mut outcome.alerts);
                    count.look();
                    self.orders.draw(item.key, count, self.clock, &known.policy, window);
                    verdict.map(|verdict| windows::dated(verdict, window))
                }
            };
            // No verdict: the batch is older than one already applied; its holder no longer listens.
            if let Some(verdict) = verdict {
                items.push(Answer { key: item.key, epoch: item.epoch, verdict });
            }
        }
        Reply { node: batch.node, incarnation: batch.incarnation, seq: batch.seq, items }
    }

    fn set_policies(&mut self, revision: Revision, policies: &[Policy]) {
        if revision < self.revision && guard!("lower-revision-refused") {
            return; // A slower publisher: its document lost, or is older.
        }
        self.revision = revision;
        let changes = |policy: &&Policy| self.policies.get(&policy.limit).is_some_and(|known| known.policy != **policy);
        self.turn(policies.iter().filter(changes).map(|policy| policy.limit).collect());
        for known in self.policies.values_mut() {
            known.withdrawn.get_or_insert(self.clock);
        }
        for policy in policies {
            // Lowering binds here for new grants, and within D for old ones. A changed window or kind has another id;
            // should one come under the same id, what is safe for both counts.
            let before = self.policies.get(&policy.limit).filter(|_| guard!("longer-window-kept"));
            let before = before.map(|known| known.policy.kind.safer(&policy.kind));
            let policy = Policy { kind: before.unwrap_or_else(|| policy.kind.clone()), ..policy.clone() };
            self.policies.insert(policy.limit, Known { policy, withdrawn: None });
        }
    }

    /// A document that never comes must leave no trace: its limits are known as withdrawn ones are, and go like them.
    fn prepare_policies(&mut self, policies: &[Policy]) {
        for policy in policies {
            let clock = self.clock;
            let prepared = || Known { policy: policy.clone(), withdrawn: Some(clock) };
            let known = self.policies.entry(policy.limit).or_insert_with(prepared);
            if !guard!("announced-limits-do-not-bind") {
                known.policy.max = policy.max;
            }
            if let Some(since) = &mut known.withdrawn {
                *since = clock;
                known.policy.max = known.policy.max.min(policy.max); // Of two that nobody published, the safe one.
            }
        }
    }

    /// Lowering binds here for new grants, and within D for old ones, as with a document's limits.
    fn set_orders(&mut self, orders: &crate::protocol::Orders, rates: &[Rated]) {
        if orders.epoch > self.orders.epoch() {
            self.turn(self.orders.limits().chain(orders.limits()).collect());
        }
        let Some(News { came, resets }) = self.orders.set(orders) else { return };
        self.rates.set(rates);
        for (key, permits) in came {
            if let (Some(count), Some(known)) = (self.counts.get_mut(&key), self.policies.get(&key.limit)) {
                count.forget(self.clock, &self.orders.in_force(&self.rates, &known.policy, key.subject));
                count.come(permits);
            }
        }
        for reset in resets {
            let Some(known) = self.policies.get(&reset.limit) else { continue };
            let of = |subject| Key { limit: reset.limit, subject };
            if reset.subject.is_none() {
                self.closed.lift(reset.limit);
            }
            let range = match reset.subject {
                Some(subject) => of(subject)..=of(subject),
                None => of(tidegate_model::Subject(0))..=of(tidegate_model::Subject(u128::MAX)),
            };
            for (key, count) in self.counts.range_mut(range) {
                self.orders.reset(*key);
                count.reset(self.clock, &self.orders.in_force(&self.rates, &known.policy, key.subject));
            }
        }
    }

    /// Before the maximum of these limits changes: what a window has left is counted with the maximum that it had.
    fn turn(&mut self, limits: BTreeSet<LimitId>) {
        for limit in limits.into_iter().filter(|_| guard!("left-is-counted-by-the-old-maximum")) {
            let (Some(window), Some(known)) = (self.windows.of(limit), self.policies.get(&limit)) else { continue };
            let of = |subject| Key { limit, subject: tidegate_model::Subject(subject) };
            for (key, count) in self.counts.range_mut(of(0)..=of(u128::MAX)) {
                let policy = self.orders.in_force(&self.rates, &known.policy, key.subject);
                count.forget(self.clock, &policy);
                count.turn(window, self.orders.max(&known.policy, *key), &policy);
            }
        }
    }

    /// Forgets counts with nothing charged, and withdrawn policies without counts.
    fn tidy(&mut self, most: usize) {
        for _ in 0..most {
            let Some(&(due, key)) = self.sweep.first() else { break };
            if due > self.clock {
                break;
            }
            self.sweep.pop_first();
            let known = self.policies.get(&key.limit);
            let (Some(count), Some(known)) = (self.counts.get_mut(&key), known) else {
                self.counts.remove(&key);
                continue;
            };
            let policy = &*self.orders.in_force(&self.rates, &known.policy, key.subject);
            count.forget(self.clock, policy);
            if let Some(window) = self.windows.of(key.limit) {
                count.turn(window, self.orders.max(&known.policy, key), policy);
            }
            match count.ends(policy).filter(|ends| guard!("charged-count-kept") || ends.0 % 2 == 0) {
                Some(ends) => {
                    self.sweep.insert((ends, key));
                }
                None => {
                    self.counts.remove(&key);
                }
            }
        }
        let clock = self.clock;
        let (counts, closed, windows) = (&self.counts, &self.closed, &self.windows);
        self.policies.retain(|limit, known| {
            let Some(since) = known.withdrawn else { return true };
            let first = Key { limit: *limit, subject: tidegate_model::Subject(0) };
            let last = Key { limit: *limit, subject: tidegate_model::Subject(u128::MAX) };
            let drain = if guard!("withdrawn-limit-drains") { DRAIN } else { return false };
            let is_held = counts.range(first..=last).next().is_some();
            clock < since.saturating_add(drain) || is_held || closed.holds(&known.policy, windows.of(*limit), clock)
        });
        self.windows.keep(|limit| self.policies.contains_key(limit));
        self.closed.keep(|limit| self.policies.contains_key(limit));
    }
}
