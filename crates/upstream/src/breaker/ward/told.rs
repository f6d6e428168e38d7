//! What others hear of the endpoints: the cluster's leader, metrics, people.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::patient::Patient;
use super::{Ward, rules_of};
use crate::breaker::ruling::{Evidence, Place};

/// For metrics and the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Condition {
    pub(crate) breaker: &'static str,
    pub(crate) unhealthy: bool,
    pub(crate) ejections: u64,
    pub(crate) probes: u64,
    pub(crate) checks: u64,
    pub(crate) epoch: u64,
    pub(crate) drained: bool,
}

/// For metrics: all endpoints together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WardFacts {
    /// So few endpoints are well that sick ones are used too.
    pub panics: bool,
    /// Requests turned away, for all breakers were open.
    pub denied: u64,
    /// Requests that waited for a verdict.
    pub held: u64,
}

impl Ward {
    pub(crate) fn facts(&self) -> WardFacts {
        let panics = self.lock().panics;
        WardFacts { panics, denied: self.denied.load(Relaxed), held: self.held.load(Relaxed) }
    }

    pub(crate) fn counts_held(&self) {
        self.held.fetch_add(1, Relaxed);
    }

    /// What this node has to tell: about the endpoints asked for, or about all in trouble.
    pub(crate) fn evidence(&self, asked: Option<&[Place]>, now: u64, into: &mut Vec<(Place, Evidence)>) {
        let mut inner = self.lock();
        let upstream = Arc::clone(&inner.upstream);
        let rules = rules_of(&upstream);
        let denied = self.denied.load(Relaxed);
        for patient in &mut inner.patients {
            let name = patient.endpoint.name();
            let named = asked.is_some_and(|places| {
                places.iter().any(|place| *place.upstream == *upstream.id && *place.endpoint == **name)
            });
            let sick = patient.is_sick() || patient.ruling.unhealthy || std::mem::take(&mut patient.untold);
            let troubled = patient.circuit.is_troubled() || sick;
            if !(named || (asked.is_none() && troubled)) {
                continue;
            }
            let totals = patient.totals();
            if named && upstream.breaker.is_some() {
                patient.circuit.suspect(totals, now);
            }
            patient.suspected = patient.circuit.is_troubled();
            if named && patient.suspected {
                patient.named_at = Some(now);
            }
            let mut evidence = patient.circuit.evidence(&rules, totals, now);
            let calls = totals.all() + denied;
            evidence.busy = u32::try_from(calls.saturating_sub(patient.calls_told)).unwrap_or(u32::MAX);
            if asked.is_some() {
                patient.calls_told = calls;
            }
            evidence.healthy = patient.checked;
            let place = Place { upstream: upstream.id.to_string(), endpoint: patient.endpoint.name().to_string() };
            into.push((place, evidence));
        }
    }

    pub(crate) fn conditions(&self) -> HashMap<Arc<str>, Condition> {
        let inner = self.lock();
        let of = |patient: &Patient| Condition {
            breaker: patient.circuit.name(),
            unhealthy: patient.is_sick(),
            ejections: patient.ejections,
            probes: patient.probes,
            checks: patient.checks,
            epoch: patient.ruling.epoch,
            drained: patient.ruling.drained,
        };
        inner.patients.iter().map(|patient| (Arc::clone(patient.endpoint.name()), of(patient))).collect()
    }
}
