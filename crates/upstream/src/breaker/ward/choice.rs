//! Which endpoint a request gets while not all is well.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_policy::Balance;

use super::Ward;
use crate::balance::{Member, Members};
use crate::breaker::circuit::Pass;
use crate::endpoint::{Endpoint, InFlight};
use crate::random;

/// What a troubled upstream has for a request.
pub(crate) enum Choice {
    Endpoint(Arc<Endpoint>),
    /// The one request that may try it.
    Probe(Arc<Endpoint>),
    /// A suspect one, and the request's place among the few that may await an answer of it.
    Seat(InFlight),
    /// Those that may be asked are suspect, and have as much to do as it takes to judge them.
    Held,
    /// All breakers are open.
    Denied(Duration),
    NoEndpoint,
}

/// What a request wants of [`Ward::choose`].
pub(crate) struct Wish<'a> {
    pub(crate) balance: Balance,
    pub(crate) tried: &'a [Arc<Endpoint>],
    /// The dice were cast.
    pub(crate) admitted: bool,
    /// It can wait for a suspect endpoint.
    pub(crate) patient: bool,
}

impl Ward {
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

    /// Is there nothing but suspect endpoints with enough to do?
    pub(crate) fn is_held(&self, members: &Members) -> bool {
        let passing = |m: &&Member| m.weight > 0 && !m.endpoint.pulse.is_shut();
        let mut passing = members.all.iter().filter(passing).peekable();
        passing.peek().is_some() && passing.all(|m| is_full(&m.endpoint))
    }

    /// The endpoint for a request while some gate is not wide open.
    pub(crate) fn choose(&self, members: &Members, wish: &Wish<'_>, now: u64) -> Choice {
        let Wish { balance, tried, admitted, patient } = *wish;
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
        let (mut open, mut full) = (false, false);
        for member in used() {
            match member.endpoint.pulse.pass() {
                Pass::All | Pass::Share(_) if patient && is_full(&member.endpoint) => {
                    avoided.push(Arc::clone(&member.endpoint));
                    full = true;
                }
                Pass::All => open = true,
                Pass::Share(percent) if random::below(100) < u64::from(percent) => open = true,
                Pass::Share(_) => refused.push(Arc::clone(&member.endpoint)),
                Pass::One | Pass::Nothing => avoided.push(Arc::clone(&member.endpoint)),
            }
        }
        if open {
            avoided.append(&mut refused);
        } else if full {
            return Choice::Held;
        } else if !admitted || refused.is_empty() {
            self.denied.fetch_add(1, Relaxed);
            return Choice::Denied(self.retry_after(now));
        }
        match members.pick(balance, &avoided, now) {
            None => Choice::NoEndpoint,
            Some(endpoint) if patient && endpoint.pulse.limit().is_some() => {
                self.take_seat(&endpoint).map_or(Choice::Held, Choice::Seat)
            }
            Some(endpoint) => Choice::Endpoint(endpoint),
        }
    }

    /// Under the lock, so that two do not take the same one.
    fn take_seat(&self, endpoint: &Arc<Endpoint>) -> Option<InFlight> {
        let _one_at_a_time = self.lock();
        (!is_full(endpoint)).then(|| endpoint.begin())
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
}

fn is_full(endpoint: &Endpoint) -> bool {
    endpoint.pulse.limit().is_some_and(|limit| endpoint.awaited() >= limit as usize)
}
