//! One sending on one connection: until the head of its answer is there, or it is lost.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{Failed, NEVER, Run, lost};
use crate::alarm::Alarm;
use crate::endpoint::Address;
use crate::h1::{Exchange, Lost, One};
use crate::head::{Head, with_authority};
use crate::outgoing::Outgoing;
use crate::pool::{Held, Line, Stream};
use crate::{CallFailed, Phase};

/// A request over HTTP/2 that nobody answered; maybe it is in there.
type Unsent = hyper::client::conn::TrySendError<Request<Outgoing>>;
/// A head, and over HTTP/2 the body behind it: over HTTP/1.1 the connection gives that.
type Begun = (Response<()>, Option<Incoming>);

impl Run<'_> {
    /// Sends the request and waits for the response's head.
    pub(super) async fn exchange(&mut self, held: &mut Held, to: &Address) -> Result<Begun, Failed> {
        let first = self.sendings == 0 && held.connect.is_none();
        let sent = if first { self.begun() } else { Instant::now() };
        self.sendings += 1;
        let Held { line, alarm, .. } = held;
        match line {
            Line::One(one) => {
                if let (Some(exchange), Some(request)) = (one.own(), self.request.take()) {
                    exchange.begin(request, to, self.interim);
                }
                let outcome = {
                    let heard = pin!(poll_fn(|cx| one.poll_head(cx)));
                    within(heard, alarm, &|cx| self.head_limit(sent, cx)).await
                };
                self.exposed = true;
                self.heard_over_one(one, outcome)
            }
            Line::Many(stream) => {
                let outcome = {
                    let sending = self.begin_over_many(stream, to);
                    within(pin!(sending), alarm, &|cx| self.head_limit(sent, cx)).await
                };
                self.exposed = true;
                self.heard_over_many(outcome)
            }
        }
    }

    fn heard_over_one(
        &mut self,
        one: &mut One,
        outcome: Result<Result<Response<()>, Lost>, Phase>,
    ) -> Result<Begun, Failed> {
        match outcome {
            Ok(Ok(response)) => {
                if self.unwanted(response.status()) {
                    self.take_back(one);
                }
                one.own().map(Exchange::forget_asked);
                Ok((response, None))
            }
            Ok(Err(why)) => {
                self.take_back(one);
                self.exposed = self.request.is_none();
                Err(self.judge_lost(why))
            }
            Err(phase) => {
                self.take_back(one);
                // It was sent, or begun to be: no longer ours as it was.
                let sent = self.request.take().map(|request| Head::Back(Box::new(request.into_parts().0)));
                self.copy = self.copy.take().or(sent.filter(|_| self.repeatable && self.may_follow()));
                Err(lost(CallFailed::Timeout(phase)))
            }
        }
    }

    fn begin_over_many(
        &mut self,
        stream: &Stream,
        to: &Address,
    ) -> impl Future<Output = Result<Response<Incoming>, Unsent>> + Send + use<> {
        let mut request = self.request.take().expect("set before each sending");
        with_authority(&mut request, to);
        let mut sender = stream.sender();
        async move { sender.try_send_request(request).await }
    }

    fn heard_over_many(&mut self, outcome: Result<Result<Response<Incoming>, Unsent>, Phase>) -> Result<Begun, Failed> {
        match outcome {
            Ok(Ok(response)) => {
                let (head, incoming) = response.into_parts();
                Ok((Response::from_parts(head, ()), Some(incoming)))
            }
            Ok(Err(mut why)) => {
                self.request = why.take_message();
                let failed = self.judge(why.into_error());
                self.exposed = self.request.is_none() && !failed.untouched;
                Err(failed)
            }
            Err(phase) => Err(lost(CallFailed::Timeout(phase))),
        }
    }

    /// The request, from a connection it went out on: as it was if not a byte of it did, or else to be made anew.
    fn take_back(&mut self, one: &mut One) {
        let Some((head, untouched)) = one.own().and_then(Exchange::take_asked) else { return };
        if untouched && let Some(body) = self.body_anew() {
            self.request = Some(Request::from_parts(head, body));
        } else if self.repeatable && self.may_follow() {
            self.copy = Some(Head::Back(Box::new(head)));
        }
    }

    /// Whose fault is it?
    fn judge_lost(&self, why: Lost) -> Failed {
        if let Some(why) = self.content.source().and_then(|source| source.broken()) {
            return lost(CallFailed::RequestBody(why));
        }
        lost(match why {
            Lost::Malformed(why) => CallFailed::BadResponse(why.into()),
            Lost::Broke(why) | Lost::Body(why) => CallFailed::Reset(why),
        })
    }

    /// As [`Run::judge_lost`], over HTTP/2.
    fn judge(&self, why: hyper::Error) -> Failed {
        if let Some(why) = self.content.source().and_then(|source| source.broken()) {
            return lost(CallFailed::RequestBody(why));
        }
        let h2 = std::error::Error::source(&why).and_then(|source| source.downcast_ref::<h2::Error>());
        // A stream hears of a peer's GOAWAY only if it lies beyond the last one that the peer will look at.
        let refused = |h2: &h2::Error| h2.is_go_away() || h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        let untouched = h2.is_some_and(|h2| h2.is_remote() && refused(h2));
        let malformed = why.is_parse() || h2.is_some_and(|h2| h2.is_library() && h2.reason().is_some());
        let why = if malformed { CallFailed::BadResponse(why.into()) } else { CallFailed::Reset(why.into()) };
        Failed { why, untouched, stale: false }
    }

    /// Until when the head is waited for. While the body is still being sent the clock is the body's silence; its end,
    /// which may be seen by another task, wakes us: the wait may be shorter from then on.
    fn head_limit(&self, sent: Instant, cx: &Context<'_>) -> (Instant, Phase) {
        let first_byte = self.timeouts.first_byte.unwrap_or(self.upstream.timeouts.first_byte).min(NEVER);
        let own = match self.content.source().map(|source| source.watch(cx)) {
            None => (sent + first_byte, Phase::FirstByte),
            Some(body) if body.ended => (body.moved.max(sent) + first_byte, Phase::FirstByte),
            Some(body) => {
                let phase = if body.client_owes { Phase::RequestIdle } else { Phase::Idle };
                (body.moved.max(sent) + self.upstream.timeouts.idle.min(NEVER), phase)
            }
        };
        let total = self.total_at();
        if total < own.0 { (total, Phase::Total) } else { own }
    }
}

/// The future's output, or the phase whose time was over first. The limit may move while we wait.
fn within<F: Future>(
    mut future: Pin<&mut F>,
    alarm: &mut Alarm,
    limit: &impl Fn(&Context<'_>) -> (Instant, Phase),
) -> impl Future<Output = Result<F::Output, Phase>> {
    poll_fn(move |cx| poll_within(future.as_mut(), alarm, limit, cx))
}

fn poll_within<F: Future>(
    future: Pin<&mut F>,
    alarm: &mut Alarm,
    limit: &impl Fn(&Context<'_>) -> (Instant, Phase),
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Phase>> {
    if let Poll::Ready(output) = future.poll(cx) {
        return Poll::Ready(Ok(output));
    }
    loop {
        let (at, _) = limit(cx);
        ready!(alarm.poll(cx, at));
        let (at, phase) = limit(cx);
        if at <= Instant::now() {
            return Poll::Ready(Err(phase));
        }
    }
}
