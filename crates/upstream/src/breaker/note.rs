//! Where a call meets its upstream's breaker: before an endpoint is asked, and after.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::ward::{Choice, Ended, HOLD, Wish};
use crate::call::Run;
use crate::endpoint::{Endpoint, InFlight, millis};
use crate::live::Live;
use crate::{Answer, CallFailed, Phase};

/// The one request that may try a sick endpoint. Dropped without an end, it leaves the chance to another.
pub(crate) struct Probe {
    live: Arc<Live>,
    endpoint: Arc<Endpoint>,
    told: bool,
}

impl Probe {
    fn end(mut self, good: Option<bool>) {
        self.told = true;
        self.live.ward.probe_ended(&self.endpoint, good, millis(Instant::now()));
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if !self.told {
            self.live.ward.probe_ended(&self.endpoint, None, millis(Instant::now()));
        }
    }
}

/// What [`Run::choose`] found for a try.
pub(crate) enum Given {
    Probe(Probe),
    /// Begun already: one of few that a suspect endpoint is given.
    Seat(InFlight),
}

impl Run<'_> {
    /// This try's, if it has one.
    pub(crate) fn seat(&mut self) -> Option<InFlight> {
        let given = self.given.take_if(|given| matches!(**given, Given::Seat(_)))?;
        if let Given::Seat(seat) = *given { Some(seat) } else { None }
    }

    /// An endpoint of an upstream that is not as it should be. `patient`: not a suspect one that has as much to do as it takes to judge it. `None`: there are only such.
    pub(crate) fn choose(&mut self, patient: bool) -> Option<Result<Option<Arc<Endpoint>>, CallFailed>> {
        let live = Arc::clone(&self.live);
        let (view, now) = (live.view(), millis(Instant::now()));
        let wish = Wish { balance: self.balance(), tried: &self.tried, admitted: self.admitted, patient };
        Some(match self.live.ward.choose(&view.members, &wish, now) {
            Choice::Endpoint(endpoint) => Ok(Some(endpoint)),
            Choice::Seat(seat) => {
                let endpoint = Arc::clone(seat.endpoint());
                self.given = Some(Box::new(Given::Seat(seat)));
                Ok(Some(endpoint))
            }
            Choice::Held => return None,
            Choice::Probe(endpoint) => {
                let probe = Probe { live: Arc::clone(&live), endpoint: Arc::clone(&endpoint), told: false };
                self.given = Some(Box::new(Given::Probe(probe)));
                Ok(Some(endpoint))
            }
            Choice::Denied(retry_after) => Err(CallFailed::Open { retry_after }),
            Choice::NoEndpoint if view.unresolved => Ok(None),
            Choice::NoEndpoint => Err(CallFailed::NoEndpoint),
        })
    }

    /// Waits for room at a suspect endpoint, or for the verdict about it; for a while.
    #[cold]
    pub(crate) async fn hold(&mut self) -> Result<Option<Arc<Endpoint>>, CallFailed> {
        self.live.ward.counts_held();
        let (live, until) = (Arc::clone(&self.live), (Instant::now() + HOLD).min(self.total_at()));
        loop {
            let mut moved = pin!(live.ward.moved());
            moved.as_mut().enable();
            if let Some(picked) = self.choose(true) {
                return picked;
            }
            if timeout_at(until, moved).await.is_err() {
                return self.choose(false).expect("only the patient are held");
            }
        }
    }

    /// Tells the breaker how a try ended.
    pub(crate) fn note<E: AsRef<CallFailed>>(&mut self, endpoint: &Arc<Endpoint>, outcome: &Result<Answer, E>) {
        let Some(rules) = &self.upstream.breaker else { return };
        let over = |spent| rules.slow.as_ref().is_some_and(|slow| spent > slow.over);
        let ended = match outcome {
            Ok(answer) => {
                let slow = over(answer.first_byte.saturating_sub(Duration::from_micros(self.spent.into())));
                if rules.fails(answer.response.status().as_u16()) {
                    Ended::Failed { slow }
                } else {
                    Ended::Well { slow }
                }
            }
            Err(failed) => judge(failed.as_ref()),
        };
        if let Some(Given::Probe(probe)) = self.given.take().map(|given| *given) {
            probe.end(match ended {
                Ended::Well { .. } => Some(true),
                Ended::Failed { .. } => Some(false),
                Ended::Unknown => None,
            });
        }
        if let Ended::Well { slow } = ended {
            endpoint.pulse.ok(self.shard, slow);
            if !endpoint.pulse.is_failing() {
                return;
            }
        } else {
            self.spent_until(Instant::now());
        }
        self.live.ward.note(endpoint, ended, millis(Instant::now()));
    }
}

/// What the client did, and what we refused ourselves, is no failure of the endpoint.
fn judge(why: &CallFailed) -> Ended {
    match why {
        CallFailed::Connect(_) | CallFailed::Reset(_) | CallFailed::BadResponse(_) => Ended::Failed { slow: false },
        CallFailed::Timeout(Phase::Connect | Phase::FirstByte | Phase::Total | Phase::Idle) => {
            Ended::Failed { slow: true }
        }
        CallFailed::NoEndpoint
        | CallFailed::Open { .. }
        | CallFailed::Timeout(Phase::RequestIdle)
        | CallFailed::TooBusy
        | CallFailed::Shed(_)
        | CallFailed::RequestBody(_) => Ended::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_endpoint_is_blamed_for_what_the_endpoint_did() {
        assert_eq!(judge(&CallFailed::Connect("refused".into())), Ended::Failed { slow: false });
        assert_eq!(judge(&CallFailed::Timeout(Phase::FirstByte)), Ended::Failed { slow: true });
        assert_eq!(judge(&CallFailed::Timeout(Phase::RequestIdle)), Ended::Unknown);
        assert_eq!(judge(&CallFailed::RequestBody("hung up".into())), Ended::Unknown);
        assert_eq!(judge(&CallFailed::TooBusy), Ended::Unknown);
    }
}
