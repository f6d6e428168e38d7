//! Whoever edits the document: raises, lowers, withdraws and brings back limits, changes windows, removes nodes.

use tidegate_model::{LimitId, Nanos, NodeId, Permits, Revision};
use tidegate_quota::protocol::{Command, Entry, Key, Kind, Policy, Rate};

use super::node::Known;
use super::scenario::{MILLI, SECOND, Scenario};
use super::world::{Event, World};

pub(super) struct Desk {
    /// The newest document, published or about to be.
    document: Vec<Known>,
    revision: u64,
    /// Committed up to here.
    in_force: u64,
    lease: Nanos,
    removed: Option<NodeId>,
}

impl Desk {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let known = |limit: &super::scenario::Limit| Known {
            key: limit.key,
            max: limit.max,
            window: Nanos(limit.window),
            share: limit.share,
            bucket: limit.bucket,
            active: true,
            revision: 0,
        };
        Self {
            document: scenario.limits.iter().map(known).collect(),
            revision: 1,
            in_force: 0,
            lease: Nanos(scenario.lease),
            removed: None,
        }
    }

    pub(super) fn in_force(&self, limit: usize) -> Known {
        self.document[limit]
    }

    fn command(&self) -> Command {
        let policies = self.document.iter().filter(|known| known.active).map(|known| {
            let plain = Policy::sliding(known.key.limit, known.max, known.window, self.lease);
            let rate = Rate { permits: known.max.0, per: known.window };
            if known.bucket { Policy { kind: Kind::Bucket { rate }, ..plain } } else { plain }
        });
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
                if known.bucket {
                    self.oracle.is_bucket(known.key, known.max);
                }
                self.oracle.proposed(known.key, known.max, known.window.0, self.now);
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
            if let Some(node) = self.desk.removed {
                self.propose(leader, Command::RemoveNode { node });
            }
        }
        if self.desk.in_force < self.desk.revision || self.desk.removed.is_some() {
            self.after(700 * MILLI, Event::Publish);
        }
    }

    /// A voter applied this before any other did.
    pub(super) fn applied_first(&mut self, entry: &Entry) {
        match &entry.command {
            Command::SetPolicies { revision, .. } if revision.0 == self.desk.revision => {
                if self.desk.in_force == revision.0 {
                    return;
                }
                self.desk.in_force = revision.0;
                self.trace(|| format!("in force: {entry:?}"));
                let lease = 2 * self.scenario.lease; // The longest that any revision gave.
                for (limit, known) in self.desk.document.clone().into_iter().enumerate() {
                    if known.active {
                        self.oracle.committed(known.key, self.now, lease);
                    }
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
            Command::RemoveNode { node } if self.desk.removed == Some(*node) => {
                self.desk.removed = None;
                let (wait, node) = (self.random.below(8 * SECOND), super::world::node_of(*node));
                self.after(wait, Event::Rejoin { node });
            }
            _ => {}
        }
    }

    /// Changes one limit, if the last change is in force.
    pub(super) fn edit(&mut self) {
        if self.desk.in_force < self.desk.revision {
            return;
        }
        let (limit, lease) = (self.random.index(self.desk.document.len()), self.scenario.lease);
        if self.scenario.limits[limit].bucket {
            return; // What a bucket may admit is judged with one burst and one rate.
        }
        let known = &mut self.desk.document[limit];
        let original = self.scenario.limits[limit].max.0;
        match self.random.below(7) {
            0 => known.max = Permits(original * 2),
            1 => known.max = Permits((original / 3).max(1)),
            2 => known.max = Permits((original / 20).max(1)),
            3 => known.active = !known.active,
            4 => known.share = !known.share,
            5 => self.desk.lease = Nanos(self.random.one_of(&[lease / 2, lease, lease * 2])),
            _ => {
                // Another window is another limit.
                known.key = Key { limit: LimitId(known.key.limit.0 + 1_000), ..known.key };
                let second = self.random.chance(0.5);
                known.window = if second { Nanos::SECOND } else { Nanos(self.scenario.limits[limit].window) };
            }
        }
        self.put(limit);
    }

    /// Puts every limit back as the scenario has it.
    pub(super) fn restore_document(&mut self) {
        self.desk.lease = Nanos(self.scenario.lease);
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
        if self.desk.in_force == self.desk.revision && self.desk.lease != lease {
            self.desk.lease = lease;
            self.put(0);
        }
    }

    fn put(&mut self, limit: usize) {
        let known = self.desk.document[limit];
        self.desk.revision += 1;
        // Withdrawn: what was in force stays the bound while nodes still serve the older document.
        if known.active {
            self.oracle.proposed(known.key, known.max, known.window.0, self.now);
        }
        self.after(0, Event::Publish);
    }

    pub(super) fn remove(&mut self, node: usize) {
        self.desk.removed = Some(super::world::node_id(node, self.nodes[node].joined));
        self.after(0, Event::Publish);
    }
}
