//! A second try beside one whose answer is late: the first answer that is any good wins, and the other try is cancelled by
//! dropping it. Only what may be repeated and has no body is asked twice; each time within the budgets of hedges and of
//! retries, counted by whoever counts requests, and only where a berth is free at once: a hedge must not be what overloads.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use tidegate_policy::{After, Beside};
use tokio::time::{Instant, sleep_until};

use super::berthed::{Asked, Turn};
use super::{Content, NEVER, Run};
use crate::endpoint::{Endpoint, age};
use crate::head::Head;
use crate::outgoing::Outgoing;
use crate::{Answer, CallFailed};

type Outcome = Result<Answer, CallFailed>;

impl<'a> Run<'a> {
    /// When another try is due. `None`: there is none for this one.
    pub(crate) fn hedge(&self) -> Option<(Beside, Duration)> {
        let rules = self.upstream.hedge?;
        let method = self.request.as_ref()?.method();
        if self.upgrade || !method.is_idempotent() || !matches!(self.content, Content::Nothing) {
            return None;
        }
        let after = match rules.after {
            After::Span(after) => after.min(NEVER),
            After::P95 => self.live.pace.p95().unwrap_or(NEVER),
        };
        Some((rules, after))
    }

    /// As [`Run::run`].
    pub(crate) async fn run_beside(mut self, rules: Beside, after: Duration) -> Outcome {
        let (live, again, started) = (Arc::clone(&self.live), self.again, self.started);
        let asked = Asked::default();
        if let Some(turn) = &mut self.turn {
            turn.asked = Some(Arc::clone(&asked));
        }
        live.hedged.request(age(started));
        let spare = self.spare();
        let mut first = pin!(self.run());
        let mut due = pin!(sleep_until(started + after));
        let mut ended = None;
        while ended.is_none() {
            tokio::select! {
                biased;
                outcome = &mut first => ended = Some(outcome),
                () = &mut due => match asked.get() {
                    Some((_, begun)) if Instant::now() >= *begun + after => break,
                    Some((_, begun)) => due.as_mut().reset(*begun + after),
                    // It waits for a berth: another would as well.
                    None => due.as_mut().reset(Instant::now() + after.max(Duration::from_millis(1))),
                },
            }
        }
        let took = |now: Instant| asked.get().map(|(_, begun)| now.saturating_duration_since(*begun));
        if let Some(outcome) = ended {
            live.pace.took(took(Instant::now()).filter(|_| outcome.is_ok()));
            return outcome;
        }
        live.pace.took(took(Instant::now())); // At least as long.
        let second = match (spare, asked.get()) {
            (Some(spare), Some((endpoint, _))) => spare.hedged(rules, endpoint),
            _ => None,
        };
        let Some(mut second) = second else { return first.await };
        if let Some(again) = again
            && !again.may().await
        {
            return first.await;
        }
        live.hedges.fetch_add(1, Relaxed);
        let mut beside = pin!(second.run());
        let (mut one, mut other) = (None, None);
        poll_fn(|cx| {
            if one.is_none()
                && let Poll::Ready(outcome) = first.as_mut().poll(cx)
            {
                one = Some(outcome);
            }
            if one.as_ref().is_none_or(|outcome| !is_good(outcome))
                && other.is_none()
                && let Poll::Ready(outcome) = beside.as_mut().poll(cx)
            {
                other = Some(outcome);
            }
            let good = [&one, &other].into_iter().flatten().any(is_good);
            if good || (one.is_some() && other.is_some()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        match (one, other) {
            (Some(outcome), None) => outcome,
            (Some(outcome), Some(other)) if !is_good(&other) => outcome,
            (_, Some(other)) => {
                live.hedges_won.fetch_add(1, Relaxed);
                other.map(|answer| Answer { attempts: 2, first_byte: started.elapsed(), ..answer })
            }
            (None, None) => Err(CallFailed::NoEndpoint), // One of them ended.
        }
    }

    /// What another try would be made of.
    fn spare(&self) -> Option<Run<'a>> {
        let head = Head::of(self.request.as_ref()?);
        Some(Run {
            live: Arc::clone(&self.live),
            upstream: self.upstream,
            timeouts: self.timeouts,
            upgrade: false,
            interim: false,
            admitted: self.admitted,
            shard: self.shard,
            started: self.started,
            turn: Some(Turn::for_whom(self.whom().cloned())),
            content: Content::Nothing,
            repeatable: true,
            again: None,
            exposed: false,
            resent: false,
            request: Some(head.with(Outgoing::Empty)),
            copy: None,
            // Its first is its last.
            attempts: self.upstream.retries.max,
            sendings: 0,
            tried: Vec::new(),
            given: None,
            spent: 0,
        })
    }

    /// Ready to go to another endpoint than this, if there is room for it.
    fn hedged(mut self, rules: Beside, late: &Arc<Endpoint>) -> Option<Self> {
        let now = Instant::now();
        if !self.live.hedged.retry(rules.budget, age(now)) {
            return None;
        }
        if !self.live.budget.retry(self.upstream.retries.budget, age(now)) {
            return None;
        }
        if !self.has_berth() {
            return None;
        }
        if let Some(turn) = &mut self.turn {
            (turn.begun, turn.beside) = (Some(now), true);
        }
        self.spent_until(now);
        self.tried.push(Arc::clone(late));
        Some(self)
    }
}

fn is_good(outcome: &Outcome) -> bool {
    outcome.as_ref().is_ok_and(|answer| !answer.response.status().is_server_error())
}
