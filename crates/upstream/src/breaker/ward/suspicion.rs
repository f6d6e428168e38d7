//! An endpoint that has begun to fail is suspect: it gets no more tries than it takes to judge it, for each of them may
//! be wasted. What is under way counts.
//!
//! Alone, a node needs as many failures in a row as open its breaker. The nodes of a cluster find out together: each
//! tries its share and tells the leader, who has looked at that within milliseconds. No verdict by then, for others are not
//! asked for it, and a node may try a little more, and more. Who comes meanwhile goes to another endpoint if there is one, else is held back for [`HOLD`] at
//! most; an answer that is good lets all of them go at once.

use std::time::Duration;

use tidegate_policy::Breaker;
use tokio::sync::futures::Notified;

use super::{Patient, Ward};

/// A failure streak that is worth telling at once when nobody else is known to have trouble, and that makes suspect: one
/// failure alone does not, unless others have trouble too.
const TELLING: u32 = 2;
/// A request is held back no longer.
pub(crate) const HOLD: Duration = Duration::from_millis(100);
/// So long (milliseconds) others may need to find out their share.
const OTHERS: u64 = 40;
/// Trouble that is older than this (milliseconds) holds nobody back.
const FRESH: u64 = 1_000;

impl Ward {
    /// Ends when there may be room at a suspect endpoint, or a verdict.
    pub(crate) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Is somebody held back, or would be?
    pub(crate) fn has_suspects(&self) -> bool {
        self.is_troubled() && self.lock().patients.iter().any(|patient| patient.endpoint.pulse.limit().is_some())
    }

    /// The leader looked at what was told, and did not rule.
    pub(crate) fn heard(&self, now: u64) {
        let mut inner = self.lock();
        let upstream = std::sync::Arc::clone(&inner.upstream);
        let Some(rules) = &upstream.breaker else { return };
        let judges = self.post.judges();
        for patient in &mut inner.patients {
            if patient.limit(rules, judges, now) == Some(0) && now >= patient.failed_at + OTHERS {
                patient.beyond = patient.beyond.saturating_add(1 + patient.share(rules, judges, now) / 4);
            }
        }
        self.settle(&mut inner, now);
    }
}

impl Patient {
    /// A call failed.
    pub(super) fn count(&mut self, slow: bool, now: u64) {
        self.failed += 1;
        self.slow += u64::from(slow);
        self.failed_at = now;
    }

    /// A call went well.
    pub(super) fn acquit(&mut self) {
        self.circuit.ok();
        self.beyond = 0;
    }

    /// Time passed: is there still trouble?
    pub(super) fn calm(&mut self) {
        self.suspected &= self.circuit.is_troubled();
    }

    /// Is the failure just counted worth telling at once?
    pub(super) fn is_telling(&self, rules: &Breaker, judges: u32, now: u64) -> bool {
        let streak = self.circuit.streak();
        self.suspected || self.circuit.is_open() || streak >= TELLING.min(self.share(rules, judges, now))
    }

    /// How many requests may await their answers at once; `None`: it is not suspect.
    pub(super) fn limit(&self, rules: &Breaker, judges: u32, now: u64) -> Option<u32> {
        let (streak, alone) = (self.circuit.streak(), self.circuit.trips_after(rules, now)?);
        let named = self.named_at.is_some_and(|at| now < at + FRESH);
        let wary = streak >= TELLING || (named && streak > 0);
        if !wary || now >= self.failed_at + FRESH {
            return None;
        }
        let ours = self.share(rules, judges, now).saturating_add(self.beyond);
        Some(ours.min(alone.max(streak + 1)).saturating_sub(streak))
    }

    /// The failures that this node sees of those that it takes.
    fn share(&self, rules: &Breaker, judges: u32, now: u64) -> u32 {
        self.circuit.trips_after(rules, now).unwrap_or(1).div_ceil(judges.max(1))
    }
}
