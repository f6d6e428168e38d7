//! One upstream's endpoints and their breakers, health and slow starts, put together into what requests look at: a gate
//! per endpoint, and one flag that says whether any gate has to be looked at.
//!
//! Outlives documents and DNS answers as its endpoints do. Good calls touch atomics alone; a failure, a probe, a ruling
//! and the tick take the lock.

mod checks;
mod choice;
mod gates;
mod patient;
mod suspicion;
mod told;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidegate_policy::{Breaker, Upstream};
use tokio::sync::Notify;

pub(crate) use self::choice::{Choice, Wish};
use self::patient::Patient;
pub(crate) use self::suspicion::HOLD;
pub use self::told::WardFacts;
use super::circuit::Pass;
use super::post::Post;
use crate::balance::Member;
use crate::endpoint::Endpoint;
use crate::lock;

#[derive(Debug)]
pub(crate) struct Ward {
    /// Some gate is not wide open.
    troubled: AtomicBool,
    /// Requests that were not let through.
    denied: AtomicU64,
    /// Requests that waited for a verdict.
    held: AtomicU64,
    inner: Mutex<Inner>,
    /// Room, verdicts: those that are held back look again.
    moved: Notify,
    post: Arc<Post>,
}

#[derive(Debug)]
struct Inner {
    upstream: Arc<Upstream>,
    patients: Vec<Patient>,
    /// All breakers are open: when it makes sense to come back.
    shut_until: Option<u64>,
    /// Sick endpoints are used, for too few are well.
    panics: bool,
}

/// How a call ended, for its endpoint's breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well {
        slow: bool,
    },
    Failed {
        slow: bool,
    },
    /// Not the endpoint's fault, and no proof of its health either.
    Unknown,
}

impl Ward {
    pub(crate) fn new(upstream: &Arc<Upstream>, post: &Arc<Post>) -> Self {
        let inner = Inner { upstream: Arc::clone(upstream), patients: Vec::new(), shut_until: None, panics: false };
        Self {
            troubled: AtomicBool::new(false),
            denied: AtomicU64::new(0),
            held: AtomicU64::new(0),
            inner: Mutex::new(inner),
            moved: Notify::new(),
            post: Arc::clone(post),
        }
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Relaxed)
    }

    pub(crate) fn post(&self) -> &Arc<Post> {
        &self.post
    }

    /// The upstream's endpoints are these now; those that stay keep what is known of them.
    pub(crate) fn admit(&self, upstream: &Arc<Upstream>, members: &[Member], now: u64) {
        let mut inner = self.lock();
        let rules_changed = inner.upstream.breaker != upstream.breaker;
        inner.upstream = Arc::clone(upstream);
        let first = inner.patients.is_empty();
        let mut known: HashMap<Arc<str>, Patient> =
            inner.patients.drain(..).map(|patient| (Arc::clone(patient.endpoint.name()), patient)).collect();
        let (rules, rulings) = (rules_of(upstream), self.post.rulings.load());
        for member in members {
            let mut patient = match known.remove(member.endpoint.name()) {
                Some(patient) => patient,
                None => Patient::new(member, &rules, (!first).then_some(now)),
            };
            if !Arc::ptr_eq(&patient.endpoint, &member.endpoint) {
                patient.endpoint = Arc::clone(&member.endpoint); // Its connections are others now.
                patient.failed = 0;
                patient.circuit.adopt(&rules, patient.totals());
            } else if rules_changed {
                patient.circuit.adopt(&rules, patient.totals());
            }
            patient.weight = member.weight;
            let ruling = rulings.of(&upstream.id, member.endpoint.name());
            patient.rule(&rules, ruling, self.post.me(), upstream.breaker.is_some(), now);
            inner.patients.push(patient);
        }
        self.settle(&mut inner, now);
    }

    /// The cluster's rulings are others now.
    pub(crate) fn rule(&self, now: u64) {
        let mut inner = self.lock();
        let (upstream, rulings) = (Arc::clone(&inner.upstream), self.post.rulings.load());
        let rules = rules_of(&upstream);
        for patient in &mut inner.patients {
            let ruling = rulings.of(&upstream.id, patient.endpoint.name());
            patient.rule(&rules, ruling, self.post.me(), upstream.breaker.is_some(), now);
        }
        self.settle(&mut inner, now);
    }

    pub(crate) fn tick(&self, now: u64) {
        let mut inner = self.lock();
        let upstream = Arc::clone(&inner.upstream);
        if let Some(rules) = &upstream.breaker {
            for patient in &mut inner.patients {
                let totals = patient.totals();
                patient.circuit.tick(rules, totals, self.post.is_live(), now);
                patient.calm();
            }
        }
        self.settle(&mut inner, now);
    }

    /// How a call ended. A good one that follows good ones takes no lock.
    pub(crate) fn note(&self, endpoint: &Arc<Endpoint>, ended: Ended, now: u64) {
        let mut inner = self.lock();
        let upstream = Arc::clone(&inner.upstream);
        let (Some(rules), Some(patient)) = (&upstream.breaker, inner.find(endpoint)) else { return };
        match ended {
            Ended::Unknown => return self.moved.notify_waiters(),
            Ended::Well { .. } => {
                patient.acquit();
                endpoint.pulse.set_failing(false);
                if endpoint.pulse.limit().is_some() {
                    self.settle(&mut inner, now);
                }
                return;
            }
            Ended::Failed { slow } => patient.count(slow, now),
        }
        endpoint.pulse.set_failing(true);
        let totals = patient.totals();
        patient.circuit.failed(rules, totals, now);
        let telling = patient.is_telling(rules, self.post.judges(), now);
        self.settle(&mut inner, now);
        if telling {
            self.post.news.notify_one();
        }
    }

    /// The probe is over; `None`: it said nothing.
    pub(crate) fn probe_ended(&self, endpoint: &Arc<Endpoint>, good: Option<bool>, now: u64) {
        let mut inner = self.lock();
        let upstream = Arc::clone(&inner.upstream);
        let (Some(rules), Some(patient)) = (&upstream.breaker, inner.find(endpoint)) else { return };
        let totals = patient.totals();
        patient.circuit.probe_ended(rules, good, totals, now);
        if good == Some(true) {
            endpoint.pulse.set_failing(false);
        }
        self.settle(&mut inner, now);
        self.post.news.notify_one();
    }

    /// Is there anything to tick for?
    pub(crate) fn is_watched(&self) -> bool {
        let inner = self.lock();
        inner.upstream.breaker.is_some() || inner.upstream.health.is_some()
    }

    /// Sets the gates from what is known.
    fn settle(&self, inner: &mut Inner, now: u64) {
        let upstream = Arc::clone(&inner.upstream);
        let passes = inner.passes(&upstream, now);
        let (mut troubled, judges) = (false, self.post.judges());
        for (patient, pass) in inner.patients.iter_mut().zip(passes) {
            let limit = upstream.breaker.as_ref().and_then(|rules| patient.limit(rules, judges, now));
            patient.endpoint.pulse.set(pass);
            patient.endpoint.pulse.set_limit(limit);
            patient.say(&upstream);
            troubled |= pass != Pass::All || limit.is_some();
        }
        if self.troubled.swap(troubled, Relaxed) {
            self.moved.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn find(&mut self, endpoint: &Arc<Endpoint>) -> Option<&mut Patient> {
        self.patients.iter_mut().find(|patient| Arc::ptr_eq(&patient.endpoint, endpoint))
    }

    fn named(&mut self, endpoint: &Arc<str>) -> Option<&mut Patient> {
        self.patients.iter_mut().find(|patient| patient.endpoint.name() == endpoint)
    }
}

/// Thresholds that are never met, for upstreams without a breaker: their circuits only keep rulings.
fn rules_of(upstream: &Upstream) -> Breaker {
    upstream.breaker.clone().unwrap_or_else(|| Breaker {
        error_ratio: 2.0,
        window: Duration::from_secs(10),
        min_requests: u32::MAX,
        consecutive: None,
        slow: None,
        open_for: Duration::from_secs(5),
        longest_open: Duration::from_secs(60),
        ramp: Duration::ZERO,
        max_ejected: 0.5,
        statuses: Vec::new(),
        fallback: None,
        stored: None,
    })
}
