//! What a ward knows of one endpoint.

use std::sync::Arc;

use tidegate_policy::{Breaker, Upstream};

use crate::balance::Member;
use crate::breaker::circuit::Circuit;
use crate::breaker::ruling::Ruling;
use crate::breaker::window::Counts;
use crate::endpoint::Endpoint;
use crate::health::Opinion;

#[derive(Debug)]
pub(super) struct Patient {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) weight: u32,
    pub(super) circuit: Circuit,
    pub(super) failed: u64,
    /// Of the failed.
    pub(super) slow: u64,
    pub(super) ruling: Ruling,
    /// What this node's own checks say.
    pub(super) checked: Option<bool>,
    pub(super) opinion: Opinion,
    /// That changed since others were last told.
    pub(super) untold: bool,
    /// Since when its share grows.
    pub(super) warming_since: Option<u64>,
    /// Since when its breaker is open: the first ones stay out when not all may.
    pub(super) shut_since: Option<u64>,
    /// Somebody else has trouble with it: each failure counts.
    pub(super) suspected: bool,
    /// When the leader last asked about it.
    pub(super) named_at: Option<u64>,
    /// The last failure.
    pub(super) failed_at: u64,
    /// Failures in this streak that are ours to see beyond our share: others see none.
    pub(super) beyond: u32,
    /// Calls counted when this node was last asked how busy it is.
    pub(super) calls_told: u64,
    pub(super) ejections: u64,
    pub(super) probes: u64,
    /// Sent by this node.
    pub(super) checks: u64,
    pub(super) said: &'static str,
}

impl Patient {
    pub(super) fn new(member: &Member, rules: &Breaker, added: Option<u64>) -> Self {
        let (ok, slow) = member.endpoint.pulse.counted();
        Self {
            endpoint: Arc::clone(&member.endpoint),
            weight: member.weight,
            circuit: Circuit::new(rules, Counts { ok, failed: 0, slow }),
            failed: 0,
            slow: 0,
            ruling: Ruling::default(),
            checked: None,
            opinion: Opinion::default(),
            untold: false,
            warming_since: added,
            shut_since: None,
            suspected: false,
            named_at: None,
            failed_at: 0,
            beyond: 0,
            calls_told: 0,
            ejections: 0,
            probes: 0,
            checks: 0,
            said: "closed",
        }
    }

    pub(super) fn totals(&self) -> Counts {
        let (ok, slow) = self.endpoint.pulse.counted();
        Counts { ok, failed: self.failed, slow: slow + self.slow }
    }

    /// Own checks first, then what others found.
    pub(super) fn is_sick(&self) -> bool {
        self.checked.map_or(self.ruling.unhealthy, |healthy| !healthy)
    }

    pub(super) fn rule(&mut self, rules: &Breaker, ruling: Ruling, me: u64, breaks: bool, now: u64) {
        let was_sick = self.is_sick();
        self.ruling = ruling;
        if was_sick && !self.is_sick() {
            self.warming_since = Some(now);
        }
        if breaks {
            let totals = self.totals();
            self.circuit.rule(rules, ruling, me, totals, now);
        }
    }

    /// One line in the log per change.
    pub(super) fn say(&mut self, upstream: &Upstream) {
        let state = if self.circuit.name() == "closed" && self.is_sick() { "unhealthy" } else { self.circuit.name() };
        if state == self.said {
            return;
        }
        let (upstream, endpoint, from) = (&*upstream.id, &**self.endpoint.name(), self.said);
        let reason = self.circuit.reason();
        tracing::warn!(upstream, endpoint, from, to = state, reason, epoch = self.ruling.epoch, "endpoint");
        self.said = state;
    }
}
