//! Whoever edits the document: raises, lowers, withdraws and brings back limits, changes windows, removes nodes.

use std::collections::BTreeMap;

use tidegate_model::{LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_quota::protocol::{Command, Entry, Key};

use super::known::Known;
use super::orders::Ordered;
use super::scenario::{MILLI, SECOND, Scenario, Sort};
use super::world::{Event, World};

pub(super) struct Desk {
    /// The newest document, published or about to be.
    document: Vec<Known>,
    revision: u64,
    /// Committed up to here.
    in_force: u64,
    lease: Nanos,
    removed: Option<NodeId>,
    /// Of all limits that ever were.
    keys: BTreeMap<LimitId, Key>,
    /// Limits that are another one now, and drain.
    retired: Vec<Known>,
    pub(super) ordered: Ordered,
}

impl Desk {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            document: scenario.limits.iter().map(Known::of).collect(),
            revision: 1,
            in_force: 0,
            lease: Nanos(scenario.lease),
            removed: None,
            retired: Vec::new(),
            keys: scenario.limits.iter().map(|limit| (limit.key.limit, limit.key)).collect(),
            ordered: Ordered::default(),
        }
    }

    pub(super) fn in_force(&self, limit: usize) -> Known {
        self.document[limit]
    }

    /// Limits of the document, and those that drain.
    pub(super) fn all(&self) -> impl Iterator<Item = &Known> {
        self.document.iter().chain(&self.retired)
    }

    pub(super) fn document_is_pending(&self) -> bool {
        self.in_force < self.revision
    }

    pub(super) fn key_of(&self, limit: LimitId) -> Option<Key> {
        self.keys.get(&limit).copied()
    }

    fn command(&self) -> Command {
        let policies = self.document.iter().filter(|known| known.active).map(|known| known.policy(self.lease));
        Command::SetPolicies { revision: Revision(self.revision), policies: policies.collect() }
    }

    /// Of a document that somebody announces and never publishes: everything in it is larger.
    fn unpublished(&self) -> Command {
        let Command::SetPolicies { mut policies, .. } = self.command() else { unreachable!("just made") };
        policies.iter_mut().for_each(|policy| policy.max = policy.max.saturating_add(policy.max));
        Command::PreparePolicies { policies }
    }
}

impl World {
    /// Proposes the newest document until it is committed.
    pub(super) fn publish(&mut self) {
        if self.desk.in_force == 0 {
            for known in self.desk.document.clone() {
                self.oracle.proposed(&known, known.max, known.max.0, self.now);
            }
        }
        if let Some(leader) = self.leader().filter(|leader| self.voters[*leader].frozen_until <= self.now) {
            if self.random.chance(0.3) {
                let command = self.desk.unpublished();
                self.propose(leader, command);
            }
            if self.desk.in_force < self.desk.revision {
                let command = self.desk.command();
                self.propose(leader, command);
            }
            if let Some(command) = self.desk.ordered.command() {
                self.propose(leader, command);
            }
            if let Some(node) = self.desk.removed {
                self.propose(leader, Command::RemoveNode { node });
            }
        }
        if self.desk.is_pending() || self.desk.removed.is_some() {
            self.after(700 * MILLI, Event::Publish);
        }
    }

    /// A voter applied this before any other did.
    pub(super) fn applied_first(&mut self, entry: &Entry, stamped: u64) {
        match &entry.command {
            Command::SetPolicies { revision, .. } if revision.0 == self.desk.revision => {
                if self.desk.in_force == revision.0 {
                    return;
                }
                self.desk.in_force = revision.0;
                self.trace(|| format!("in force: {entry:?}"));
                self.settle_bounds();
                for (limit, known) in self.desk.document.clone().into_iter().enumerate() {
                    for node in 0..self.nodes.len() {
                        let healed = self.now >= self.scenario.healed_at();
                        let longest = self.random.one_of(&[SECOND / 10, 2 * SECOND, 20 * SECOND]);
                        let longest = if healed { SECOND / 10 } else { longest };
                        let known = Known { revision: revision.0, ..known };
                        let wait = self.random.below(longest);
                        self.after(wait, Event::Learn { node, limit, known });
                    }
                }
            }
            Command::SetOrders(orders) | Command::SetRatedOrders(orders, _) => self.ordered(orders, stamped),
            Command::OpenWindows(openings) => self.opened(openings, stamped),
            Command::RemoveNode { node } if self.desk.removed == Some(*node) => {
                self.desk.removed = None;
                let (wait, node) = (self.random.below(8 * SECOND), super::world::node_of(*node));
                self.after(wait, Event::Rejoin { node });
            }
            _ => {}
        }
    }

    /// Once all that was decided is in force, nothing else binds longer than a lease.
    pub(super) fn settle_bounds(&mut self) {
        if self.desk.is_pending() {
            return;
        }
        let lease = 2 * self.scenario.lease; // The longest that any revision gave.
        for known in self.desk.all().filter(|known| known.active) {
            self.oracle.committed(known.key, self.now, lease);
        }
    }

    /// Changes one limit, if the last change is in force.
    pub(super) fn edit(&mut self) {
        if self.desk.is_pending() {
            return;
        }
        let (limit, lease) = (self.random.index(self.desk.document.len()), self.scenario.lease);
        let known = &mut self.desk.document[limit];
        let original = self.scenario.limits[limit].max.0;
        match self.random.below(7) {
            0 => known.max = Permits(original * 2),
            1 => known.max = Permits((original / 3).max(1)),
            2 => known.max = Permits((original / 20).max(1)),
            3 => known.active = !known.active,
            4 => known.share = !known.share && known.sort == Sort::Sliding,
            5 => self.desk.lease = Nanos(self.random.one_of(&[lease / 2, lease, lease * 2])),
            _ => {
                // Another window is another limit.
                self.desk.retired.push(*known);
                known.key = Key { limit: LimitId(known.key.limit.0 + 1_000), ..known.key };
                self.desk.keys.insert(known.key.limit, known.key);
                let second = self.random.chance(0.5) && !known.is_dated() && known.sort != Sort::Smooth;
                known.window = if second { Nanos::SECOND } else { Nanos(self.scenario.limits[limit].window) };
            }
        }
        self.put(limit);
    }

    /// Puts every limit back as the scenario has it.
    pub(super) fn restore_document(&mut self) {
        self.desk.lease = Nanos(self.scenario.lease);
        self.take_all_back();
        for limit in 0..self.desk.document.len() {
            let known = &mut self.desk.document[limit];
            known.max = self.scenario.limits[limit].max;
            known.active = true;
            self.put(limit);
        }
    }

    /// Halves D, or makes it whole again.
    pub(super) fn shorten(&mut self, shorter: bool) {
        let lease = Nanos(if shorter { self.scenario.lease / 2 } else { self.scenario.lease });
        if !self.desk.is_pending() && self.desk.lease != lease {
            self.desk.lease = lease;
            self.put(0);
        }
    }

    fn put(&mut self, limit: usize) {
        let known = self.desk.document[limit];
        self.desk.revision += 1;
        // Withdrawn: what was in force stays the bound while nodes still serve the older document.
        if known.active {
            let ordered = &self.desk.ordered;
            self.oracle.proposed(&known, ordered.max(&known), ordered.rate(&known), self.now);
        }
        self.after(0, Event::Publish);
    }

    pub(super) fn remove(&mut self, node: usize) {
        self.desk.removed = Some(super::world::node_id(node, self.nodes[node].joined));
        self.after(0, Event::Publish);
    }
}
