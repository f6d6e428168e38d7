//! What outlives those it happened to: which processes journal, what became of the leases of dead ones, and alerts that
//! nobody may have been told of yet. Entries about them are [`Note`]s.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_model::{Incarnation, Nanos, NodeId, Subject};

use super::Ledger;
use crate::guard;
use crate::protocol::{Alert, Closing, Key, Note, Outcome, Untold};

/// Lives of one node that are known at a time, and that are known to be over.
const MOST_LIVES: usize = 8;
/// Alerts that wait to be told; of more the oldest are given up.
const MOST_UNTOLD: usize = 4_096;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aftermath {
    journalling: BTreeMap<NodeId, VecDeque<Incarnation>>,
    /// Nothing is accepted of them any more.
    closed: BTreeMap<NodeId, VecDeque<Incarnation>>,
    keeps_alerts: bool,
    untold: VecDeque<Untold>,
    /// The number of the last alert.
    numbered: u64,
}

impl Aftermath {
    pub(super) fn is_new(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn journals(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.journalling.get(&node).is_some_and(|lives| lives.contains(&incarnation))
    }

    pub(super) fn is_closed(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.closed.get(&node).is_some_and(|lives| lives.contains(&incarnation))
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.journalling.remove(&node);
        self.closed.remove(&node);
    }

    /// All processes are gone, and what they held is reckoned.
    pub(super) fn forget_lives(&mut self) {
        self.journalling.clear();
        self.closed.clear();
    }

    /// Alerts of an entry wait to be told, once somebody cares.
    pub(super) fn keep(&mut self, alerts: &[Alert], clock: Nanos) {
        if !self.keeps_alerts || !guard!("alerts-kept-until-told") {
            return;
        }
        for alert in alerts {
            self.numbered += 1;
            self.untold.push_back(Untold { number: self.numbered, alert: *alert, passed: clock });
            if self.untold.len() > MOST_UNTOLD {
                self.untold.pop_front();
            }
        }
    }

    /// See `maimed.rs`.
    #[cfg(feature = "mutants")]
    pub(super) fn forget_closed(&mut self) {
        self.closed.clear();
    }

    fn begin(&mut self, node: NodeId, incarnation: Incarnation) {
        if !self.is_closed(node, incarnation) {
            remember(&mut self.journalling, node, incarnation);
        }
    }

    /// It is dead: a batch of it that comes late would open a lease that was closed already.
    fn refuse(&mut self, node: NodeId, incarnation: Incarnation) {
        remember(&mut self.closed, node, incarnation);
    }

    fn close(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(lives) = self.journalling.get_mut(&node) {
            lives.retain(|life| *life != incarnation);
        }
        self.refuse(node, incarnation);
    }
}

fn remember(lives: &mut BTreeMap<NodeId, VecDeque<Incarnation>>, node: NodeId, incarnation: Incarnation) {
    let lives = lives.entry(node).or_default();
    if !lives.contains(&incarnation) {
        lives.push_back(incarnation);
        if lives.len() > MOST_LIVES {
            lives.pop_front();
        }
    }
}

impl Ledger {
    /// Does the log know that this process journals?
    #[must_use]
    pub fn journals(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.aftermath.journals(node, incarnation)
    }

    /// Are alerts kept until they were told?
    #[must_use]
    pub fn keeps_alerts(&self) -> bool {
        self.aftermath.keeps_alerts
    }

    /// Alerts that nobody may have been told of, oldest first.
    pub fn untold(&self) -> impl Iterator<Item = &Untold> {
        self.aftermath.untold.iter()
    }

    pub(super) fn note(&mut self, note: &Note, outcome: &mut Outcome) {
        match note {
            Note::Begin { node, incarnation } => {
                if !self.removed.contains(node) {
                    self.aftermath.begin(*node, *incarnation);
                }
            }
            Note::Close(closing) => self.close(closing, outcome),
            Note::KeepAlerts => self.aftermath.keeps_alerts = true,
            Note::Told(numbers) => self.aftermath.untold.retain(|untold| !numbers.contains(&untold.number)),
        }
    }

    /// Once: the process is not one that journals any more when this is done.
    fn close(&mut self, closing: &Closing, outcome: &mut Outcome) {
        let Closing { node, incarnation, leases, rest } = closing;
        if !self.aftermath.journals(*node, *incarnation) && guard!("only-who-journals-is-closed") {
            return;
        }
        self.aftermath.refuse(*node, *incarnation);
        for closed in leases {
            self.at_count(closed.key, outcome, |count, clock, policy| {
                count.close(*node, *incarnation, closed, clock, policy);
            });
        }
        let Some(rest) = rest else { return };
        let journalled = self.policies.iter().filter(|(_, known)| known.policy.kind.is_journalled());
        let limits: Vec<_> = journalled.map(|(limit, _)| *limit).collect();
        for limit in limits {
            let of = |subject| Key { limit, subject: Subject(subject) };
            let held = self.counts.range(of(0)..=of(u128::MAX)).filter(|(_, count)| count.is_of(*node, *incarnation));
            let keys: Vec<_> = held.map(|(key, _)| *key).collect();
            for key in keys {
                self.at_count(key, outcome, |count, clock, policy| {
                    count.close_all(*node, *incarnation, *rest, clock, policy);
                });
            }
        }
        self.aftermath.close(*node, *incarnation);
    }

    /// Changes a count that may be journalled, as of now.
    fn at_count(
        &mut self,
        key: Key,
        outcome: &mut Outcome,
        change: impl FnOnce(&mut super::Count, Nanos, &crate::protocol::Policy),
    ) {
        let Some(known) = self.policies.get(&key.limit).filter(|known| known.policy.kind.is_journalled()) else {
            return;
        };
        let policy = &*self.orders.in_force(&self.rates, &known.policy, key.subject);
        let Some(count) = self.counts.get_mut(&key) else { return };
        count.forget(self.clock, policy);
        if let Some(window) = self.windows.of(key.limit) {
            count.turn(window, self.orders.max(&known.policy, key), policy);
        }
        change(count, self.clock, policy);
        count.alerts(key, policy, &mut outcome.alerts);
        count.look();
    }
}

/// For what the first ledgers did not have: those end before it.
pub(super) fn added_later<'de, D: Deserializer<'de>>(from: D) -> Result<Aftermath, D::Error> {
    Ok(Aftermath::deserialize(from).unwrap_or_default())
}
