//! After a try that was no good: whether there is another one, with what, and when.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::{Request, StatusCode};
use tidegate_policy::RetryOn;
use tokio::time::Instant;

use super::{Content, Failed, Run};
use crate::endpoint::{Endpoint, age, millis};
use crate::outgoing::Outgoing;
use crate::{Answer, CallFailed, Came, Phase, random};

const FIRST_BACKOFF: u64 = 10; // milliseconds
const LONGEST_BACKOFF: u64 = 250;

impl Run<'_> {
    /// After a try that was no good. `None`: try again; the request is there once more.
    pub(super) async fn after(
        &mut self,
        outcome: Result<Box<Answer>, Box<Failed>>,
        endpoint: Arc<Endpoint>,
    ) -> Option<Result<Box<Answer>, CallFailed>> {
        let fresh = self.request.is_none();
        let again = self.attempts <= self.upstream.retries.max
            && match &outcome {
                Ok(_) => self.repeatable && self.renew(),
                Err(failed) => {
                    self.wants_again(failed)
                        && (self.request.is_some() || ((self.repeatable || failed.untouched) && self.renew()))
                }
            }
            && self.granted().await;
        if !again {
            if let (Err(_), Some(again)) = (&outcome, self.again) {
                again.gave_up(endpoint.name(), self.attempts);
            }
            return Some(outcome.map_err(|failed| failed.why));
        }
        if let Some(again) = self.again {
            let came = match &outcome {
                Ok(answer) => Came::Status(answer.response.status()),
                Err(failed) => Came::Failed(failed.why.kind()),
            };
            let head = self.request.as_mut().filter(|_| fresh).map(Request::headers_mut);
            again.goes_again(endpoint.name(), came, head);
        }
        if let Ok(answer) = outcome {
            answer.response.into_body().discard();
        }
        self.tried.push(endpoint);
        if self.pause().await { None } else { Some(Err(CallFailed::Timeout(Phase::Total))) }
    }

    /// Does the document want another try after such a failure?
    pub(super) fn wants_again(&self, failed: &Failed) -> bool {
        let on = |kind| self.upstream.retries.on.contains(&kind);
        match failed.why {
            // Nothing was sent: whatever the method, the request is still in our hands.
            CallFailed::Connect(_) | CallFailed::Timeout(Phase::Connect) => on(RetryOn::Connect),
            CallFailed::Reset(_) => on(RetryOn::Reset) || (failed.untouched && on(RetryOn::Connect)),
            CallFailed::Timeout(Phase::FirstByte) => on(RetryOn::Timeout),
            _ => false,
        }
    }

    /// Makes the request anew from its copy, with the body from its beginning; false when part of that is gone.
    pub(super) fn renew(&mut self) -> bool {
        let Some(head) = self.copy.take() else { return false };
        let Some(body) = self.body_anew() else { return false };
        self.request = Some(head.with(body));
        true
    }

    /// The body from its beginning, if nothing of it is gone.
    pub(super) fn body_anew(&self) -> Option<Outgoing> {
        match &self.content {
            Content::Nothing => Some(Outgoing::Empty),
            Content::Whole(bytes) => Some(Outgoing::whole(bytes.clone())),
            Content::Comes(source, hint) => {
                source.again(self.sendings).then(|| Outgoing::stream(Arc::clone(source), self.sendings, *hint))
            }
        }
    }

    pub(super) fn unwanted(&self, status: StatusCode) -> bool {
        self.upstream.retries.on.contains(&RetryOn::Status(status.as_u16()))
    }

    /// Within the budget; and whoever counts requests has counted this one.
    pub(super) async fn granted(&self) -> bool {
        let mut granted = self.live.budget.retry(self.upstream.retries.budget, age(Instant::now()));
        if let Some(again) = self.again.filter(|_| granted && self.exposed) {
            granted = again.may().await;
        }
        if granted {
            self.live.retries.fetch_add(1, Relaxed);
        }
        granted
    }

    /// Before another try: none if another endpoint is there to be asked, else 10 ms, 20 ms, … 250 ms, jittered by
    /// half. False when the whole exchange's time is over.
    pub(super) async fn pause(&self) -> bool {
        let another = {
            let view = self.live.view();
            let now = millis(Instant::now());
            let may = |e: &Arc<Endpoint>| !e.is_ejected(now) && !self.tried.iter().any(|t| Arc::ptr_eq(t, e));
            view.members.all.iter().any(|m| m.weight > 0 && may(&m.endpoint))
        };
        let total = self.total_at();
        if !another {
            let most = (FIRST_BACKOFF << (self.attempts - 1).min(8)).min(LONGEST_BACKOFF);
            let pause = Duration::from_millis(most / 2 + random::below(most / 2 + 1));
            tokio::time::sleep_until((Instant::now() + pause).min(total)).await;
        }
        Instant::now() < total
    }
}
