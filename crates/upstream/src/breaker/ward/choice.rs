//! Which endpoint a request gets while not all is well.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tidegate_policy::Balance;

use super::Ward;
use crate::balance::Members;
use crate::breaker::circuit::Pass;
use crate::endpoint::Endpoint;
use crate::random;

/// What a troubled upstream has for a request.
pub(crate) enum Choice {
    Endpoint(Arc<Endpoint>),
    /// The one request that may try it.
    Probe(Arc<Endpoint>),
    /// All breakers are open.
    Denied(Duration),
    NoEndpoint,
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
}
