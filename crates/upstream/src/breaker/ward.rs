//! One upstream's endpoints and their breakers, health and slow starts, put together into what requests look at: a gate
//! per endpoint, and one flag that says whether any gate has to be looked at.
//!
//! Outlives documents and DNS answers as its endpoints do. Good calls touch atomics alone; a failure, a probe, a ruling
//! and the tick take the lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidegate_policy::{Balance, Breaker, Health, Upstream};

use super::circuit::{Circuit, Pass};
use super::post::Post;
use super::ruling::{Evidence, Place, Ruling};
use super::window::Counts;
use crate::balance::{Member, Members};
use crate::endpoint::Endpoint;
use crate::health::Opinion;
use crate::{lock, random};

/// A failure streak that is worth telling at once when nobody else is known to have trouble.
const TELLING: u32 = 2;

#[derive(Debug)]
pub(crate) struct Ward {
    /// Some gate is not wide open.
    troubled: AtomicBool,
    /// Requests that were not let through.
    denied: AtomicU64,
    inner: Mutex<Inner>,
    post: Arc<Post>,
}

#[derive(Debug)]
struct Inner {
    upstream: Arc<Upstream>,
    patients: Vec<Patient>,
    /// All breakers are open: when it makes sense to come back.
    shut_until: Option<u64>,
}

#[derive(Debug)]
struct Patient {
    endpoint: Arc<Endpoint>,
    weight: u32,
    circuit: Circuit,
    failed: u64,
    /// Of the failed.
    slow: u64,
    ruling: Ruling,
    /// What this node's own checks say.
    checked: Option<bool>,
    opinion: Opinion,
    /// That changed since others were last told.
    untold: bool,
    /// Since when its share grows.
    warming_since: Option<u64>,
    /// Since when its breaker is open: the first ones stay out when not all may.
    shut_since: Option<u64>,
    /// Somebody else has trouble with it: each failure counts.
    suspected: bool,
    /// Calls counted when this node was last asked how busy it is.
    calls_told: u64,
    ejections: u64,
    probes: u64,
    /// Sent by this node.
    checks: u64,
    said: &'static str,
}

/// What a troubled upstream has for a request.
pub(crate) enum Choice {
    Endpoint(Arc<Endpoint>),
    /// The one request that may try it.
    Probe(Arc<Endpoint>),
    /// All breakers are open.
    Denied(Duration),
    NoEndpoint,
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

impl Ward {
    pub(crate) fn new(upstream: &Arc<Upstream>, post: &Arc<Post>) -> Self {
        let inner = Inner { upstream: Arc::clone(upstream), patients: Vec::new(), shut_until: None };
        Self {
            troubled: AtomicBool::new(false),
            denied: AtomicU64::new(0),
            inner: Mutex::new(inner),
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
            Ended::Unknown => return,
            Ended::Well { .. } => {
                patient.circuit.ok();
                endpoint.pulse.set_failing(false);
                return;
            }
            Ended::Failed { slow } => {
                patient.failed += 1;
                patient.slow += u64::from(slow);
            }
        }
        endpoint.pulse.set_failing(true);
        let totals = patient.totals();
        patient.circuit.failed(rules, totals, now);
        let telling = patient.suspected || patient.circuit.streak() >= TELLING || patient.circuit.is_open();
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

    /// One of this node's checks came back.
    pub(crate) fn heard_check(&self, endpoint: &Arc<str>, good: bool, rules: &Health, now: u64) {
        let mut inner = self.lock();
        let Some(patient) = inner.named(endpoint) else { return };
        let healthy = patient.opinion.hear(good, rules);
        self.checked(&mut inner, endpoint, healthy, now);
    }

    /// Others check it now.
    pub(crate) fn not_ours(&self, endpoint: &Arc<str>, now: u64) {
        let mut inner = self.lock();
        let Some(patient) = inner.named(endpoint) else { return };
        patient.opinion = Opinion::default();
        self.checked(&mut inner, endpoint, None, now);
    }

    /// Nobody checks any more.
    pub(crate) fn unchecked(&self, now: u64) {
        let mut inner = self.lock();
        for patient in &mut inner.patients {
            (patient.checked, patient.opinion) = (None, Opinion::default());
        }
        self.settle(&mut inner, now);
    }

    pub(crate) fn counts_check(&self, endpoint: &Arc<str>) {
        if let Some(patient) = self.lock().named(endpoint) {
            patient.checks += 1;
        }
    }

    fn checked(&self, inner: &mut Inner, endpoint: &Arc<str>, healthy: Option<bool>, now: u64) {
        let Some(patient) = inner.named(endpoint) else { return };
        if patient.checked == healthy {
            return;
        }
        let was_sick = patient.is_sick();
        (patient.checked, patient.untold) = (healthy, true);
        if was_sick && !patient.is_sick() {
            patient.warming_since = Some(now);
        }
        self.settle(inner, now);
        self.post.news.notify_one();
    }

    /// May a request go to any of them? Counts it as turned away if not.
    pub(crate) fn admits(&self, members: &Members) -> bool {
        let mut used = members.all.iter().filter(|member| member.weight > 0).peekable();
        if used.peek().is_none() {
            return true; // No endpoint is no breaker's matter.
        }
        let admitted = used.any(|member| match member.endpoint.pulse.pass() {
            Pass::All | Pass::One => true,
            Pass::Share(percent) => random::below(100) < u64::from(percent),
            Pass::Nothing => false,
        });
        if !admitted {
            self.denied.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// The endpoint for a request while some gate is not wide open. `admitted`: the dice were cast.
    pub(crate) fn choose(
        &self,
        members: &Members,
        balance: Balance,
        tried: &[Arc<Endpoint>],
        admitted: bool,
        now: u64,
    ) -> Choice {
        let used = || members.all.iter().filter(|member| member.weight > 0);
        if used().next().is_none() {
            return Choice::NoEndpoint;
        }
        let probed = used().find(|m| m.endpoint.pulse.pass() == Pass::One && self.take_probe(&m.endpoint, now));
        if let Some(member) = probed {
            return Choice::Probe(Arc::clone(&member.endpoint));
        }
        let mut avoided: Vec<Arc<Endpoint>> = tried.to_vec();
        let mut refused: Vec<Arc<Endpoint>> = Vec::new();
        let mut open = false;
        for member in used() {
            match member.endpoint.pulse.pass() {
                Pass::All => open = true,
                Pass::Share(percent) if random::below(100) < u64::from(percent) => open = true,
                Pass::Share(_) => refused.push(Arc::clone(&member.endpoint)),
                Pass::One | Pass::Nothing => avoided.push(Arc::clone(&member.endpoint)),
            }
        }
        if open {
            avoided.append(&mut refused);
        } else if !admitted || refused.is_empty() {
            self.denied.fetch_add(1, Relaxed);
            return Choice::Denied(self.retry_after(now));
        }
        members.pick(balance, &avoided, now).map_or(Choice::NoEndpoint, Choice::Endpoint)
    }

    fn retry_after(&self, now: u64) -> Duration {
        let until = self.lock().shut_until.unwrap_or(now);
        Duration::from_millis(until.saturating_sub(now).max(1_000))
    }

    fn take_probe(&self, endpoint: &Arc<Endpoint>, now: u64) -> bool {
        let mut inner = self.lock();
        let taken = inner.find(endpoint).is_some_and(|patient| {
            let taken = patient.circuit.take_probe();
            patient.probes += u64::from(taken);
            taken
        });
        self.settle(&mut inner, now);
        taken
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

    /// Is there anything to tick for?
    pub(crate) fn is_watched(&self) -> bool {
        let inner = self.lock();
        inner.upstream.breaker.is_some() || inner.upstream.health.is_some()
    }

    /// Sets the gates from what is known.
    fn settle(&self, inner: &mut Inner, now: u64) {
        let upstream = Arc::clone(&inner.upstream);
        let passes = inner.passes(&upstream, now);
        let mut troubled = false;
        for (patient, pass) in inner.patients.iter_mut().zip(passes) {
            patient.endpoint.pulse.set(pass);
            patient.say(&upstream);
            troubled |= pass != Pass::All;
        }
        self.troubled.store(troubled, Relaxed);
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

    fn passes(&mut self, upstream: &Upstream, now: u64) -> Vec<Pass> {
        let mut passes: Vec<Pass> = match &upstream.breaker {
            Some(rules) => self.patients.iter().map(|patient| patient.circuit.pass(rules, now)).collect(),
            None => vec![Pass::All; self.patients.len()],
        };
        let shut = |pass: Pass| matches!(pass, Pass::Nothing | Pass::One);
        for (patient, pass) in self.patients.iter_mut().zip(&passes) {
            match (shut(*pass), patient.shut_since) {
                (true, None) => {
                    patient.shut_since = Some(now);
                    patient.ejections += 1;
                }
                (false, Some(_)) => patient.shut_since = None,
                _ => {}
            }
        }
        let used = || self.patients.iter().enumerate().filter(|(_, patient)| patient.weight > 0).map(|(i, _)| i);
        let (all, mut out): (usize, Vec<usize>) = (used().count(), used().filter(|i| shut(passes[*i])).collect());
        self.shut_until = None;
        if out.len() == all {
            let until = self.patients.iter().filter_map(|patient| patient.circuit.open_until());
            self.shut_until = until.min();
        } else if let Some(rules) = &upstream.breaker {
            let most = at_most(rules.max_ejected, all);
            out.sort_by_key(|i| self.patients[*i].shut_since);
            for over in out.into_iter().skip(most) {
                passes[over] = Pass::All;
            }
        }
        self.health(upstream, &mut passes, now);
        passes
    }

    /// Checks take out what breakers left in, unless too few would be left; what came back warms up beside the others.
    fn health(&mut self, upstream: &Upstream, passes: &mut [Pass], now: u64) {
        let Some(health) = &upstream.health else { return };
        let used: Vec<usize> = (0..passes.len()).filter(|i| self.patients[*i].weight > 0).collect();
        let well = |i: usize| !self.patients[i].is_sick();
        let healthy = used.iter().filter(|i| well(**i)).count();
        let usable = used.iter().any(|i| well(*i) && passes[*i] != Pass::Nothing);
        let panic = healthy * 100 < health.panic_below as usize * used.len();
        if usable && !panic {
            for i in &used {
                if !well(*i) {
                    passes[*i] = Pass::Nothing;
                }
            }
        }
        let slow_start = u64::try_from(health.slow_start.as_millis()).unwrap_or(u64::MAX);
        for patient in &mut self.patients {
            if patient.warming_since.is_some_and(|since| now >= since.saturating_add(slow_start)) {
                patient.warming_since = None;
            }
        }
        let warm = used.iter().any(|i| passes[*i] == Pass::All && self.patients[*i].warming_since.is_none());
        for i in used {
            if let (true, Pass::All, Some(since)) = (warm, passes[i], self.patients[i].warming_since) {
                let percent = now.saturating_sub(since) * 100 / slow_start.max(1);
                passes[i] = Pass::Share(u32::try_from(percent.clamp(10, 99)).unwrap_or(99));
            }
        }
    }
}

impl Patient {
    fn new(member: &Member, rules: &Breaker, added: Option<u64>) -> Self {
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
            calls_told: 0,
            ejections: 0,
            probes: 0,
            checks: 0,
            said: "closed",
        }
    }

    fn totals(&self) -> Counts {
        let (ok, slow) = self.endpoint.pulse.counted();
        Counts { ok, failed: self.failed, slow: slow + self.slow }
    }

    /// Own checks first, then what others found.
    fn is_sick(&self) -> bool {
        self.checked.map_or(self.ruling.unhealthy, |healthy| !healthy)
    }

    fn rule(&mut self, rules: &Breaker, ruling: Ruling, me: u64, breaks: bool, now: u64) {
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
    fn say(&mut self, upstream: &Upstream) {
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

/// How many of so many endpoints may be out while others work: at least one, never all.
fn at_most(share: f64, all: usize) -> usize {
    #[expect(clippy::cast_precision_loss, reason = "an upstream has a thousand endpoints at most")]
    let most = share * all as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the count")]
    let most = most as usize;
    most.clamp(1, all.saturating_sub(1).max(1))
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
    })
}
