//! The life of a call: pick an endpoint, get a connection, send, wait for the head; again elsewhere if that is allowed.

mod again;
mod berthed;
mod beside;
mod exchange;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::TRANSFER_ENCODING;
use http::{Request, Response, StatusCode, Version};
use http_body::SizeHint;
use hyper::body::Incoming;
use tidegate_policy::{Protocol, Timeouts, Upstream};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::body::{Body, Flow, Patience};
use crate::breaker::Given;
use crate::checkout::{NoLine, Want, checkout};
use crate::endpoint::{Endpoint, InFlight, age, millis};
use crate::head::{Head, keep_alive, only_chunked};
use crate::live::Live;
use crate::outgoing::{Outgoing, Source};
use crate::pool::{Held, Line};
use crate::shard::Shard;
use crate::{Again, Answer, CallFailed, Phase};

pub(crate) use berthed::Turn;

/// Far enough to mean never, near enough for any timer.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// One call, with its body's type hidden. The request lies here and not in the futures below: what they hold is moved
/// about with every request.
pub(crate) struct Run<'a> {
    pub(crate) live: Arc<Live>,
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) timeouts: Timeouts,
    pub(crate) upgrade: bool,
    pub(crate) interim: bool,
    pub(crate) admitted: bool,
    pub(crate) shard: Shard,
    pub(crate) started: Instant,
    /// Of an upstream that has berths, or hedges, or is told for whom connections are made.
    pub(crate) turn: Option<Box<Turn>>,
    pub(crate) content: Content,
    /// Sent methods may be repeated (RFC 9110 § 9.2.2), or the document says that they may.
    pub(crate) repeatable: bool,
    pub(crate) again: Option<&'a dyn Again>,
    /// An endpoint may have worked on the request: the next try counts as a request of its own.
    pub(crate) exposed: bool,
    /// A connection that was used again broke, and the request was sent once more because of that.
    pub(crate) resent: bool,
    /// What is to be sent; gone while it is being sent, and back if not a byte of it was.
    pub(crate) request: Option<Request<Outgoing>>,
    /// To make it anew, where that may be called for.
    pub(crate) copy: Option<Head>,
    pub(crate) attempts: u32,
    /// Views of the body given out.
    pub(crate) sendings: u32,
    pub(crate) tried: Vec<Arc<Endpoint>>,
    /// This try is one that an endpoint in trouble is given. Boxed, for it is rare.
    pub(crate) given: Option<Box<Given>>,
    /// How long the tries before this one took, in microseconds. Short: it goes along with every request.
    pub(crate) spent: u32,
}

/// A request's body, as far as the call has to do with it.
pub(crate) enum Content {
    Nothing,
    /// In hand.
    Whole(Bytes),
    /// It comes while it is sent.
    Comes(Arc<dyn Source>, SizeHint),
}

impl Content {
    fn source(&self) -> Option<&Arc<dyn Source>> {
        if let Self::Comes(source, _) = self { Some(source) } else { None }
    }
}

/// How one try ended without a response head.
pub(crate) struct Failed {
    why: CallFailed,
    /// The peer said that it did nothing with it.
    untouched: bool,
    /// A connection that had been idle broke before a response: the race that every keep-alive has.
    stale: bool,
}

impl AsRef<CallFailed> for Failed {
    fn as_ref(&self) -> &CallFailed {
        &self.why
    }
}

impl Run<'_> {
    /// Ready once the request's body has begun: the client's time, in which nothing of the upstream is taken. `late`: made if there
    /// is an end to the whole exchange.
    pub(crate) fn poll_begun(
        &mut self,
        late: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CallFailed>> {
        let Some(source) = self.content.source() else { return Poll::Ready(Ok(())) };
        let Poll::Ready(begun) = source.poll_begun(cx) else {
            let total = self.total();
            let Some(total) = total else { return Poll::Pending };
            let end = late.get_or_insert_with(|| Box::pin(sleep(total.min(NEVER))));
            return end.as_mut().poll(cx).map(|()| Err(CallFailed::Timeout(Phase::RequestIdle)));
        };
        if let Some(why) = source.broken() {
            return Poll::Ready(Err(CallFailed::RequestBody(why)));
        }
        // What is left of the whole time. The rest is measured from here on.
        let waited = begun.saturating_duration_since(self.started);
        self.timeouts.total = self.total().map(|total| total.saturating_sub(waited));
        self.started = begun.max(self.started);
        Poll::Ready(Ok(()))
    }

    pub(crate) async fn run(&mut self) -> Result<Answer, CallFailed> {
        if self.turn.is_some() && !self.has_berth() {
            Box::pin(self.wait_for_berth()).await?;
        }
        self.live.budget.request(age(self.started));
        loop {
            self.attempts += 1;
            let picked = if self.live.ward.is_troubled() {
                match self.choose(true) {
                    Some(picked) => picked,
                    None => Box::pin(self.hold()).await,
                }
            } else {
                self.pick_now()
            };
            let endpoint = match picked {
                Ok(Some(endpoint)) => endpoint,
                Ok(None) => Box::pin(self.pick()).await?,
                Err(failed) => return Err(failed),
            };
            if let Some(turn) = &self.turn {
                turn.asks(&endpoint);
            }
            // Pinned where it is made: an `await` of the future itself would move it first, twice.
            let mut tried = {
                let attempt = pin!(self.attempt(&endpoint));
                attempt.await
            };
            if let Err(failed) = &tried
                && failed.stale
                && Box::pin(self.may_resend()).await
            {
                tried = Box::pin(self.resend(&endpoint)).await;
            }
            self.note(&endpoint, &tried);
            if let Some(turn) = &self.turn {
                self.teach(turn, &tried);
            }
            let outcome = match tried {
                Ok(answer) if !self.unwanted(answer.response.status()) => return Ok(self.berthed(answer)),
                Ok(answer) => Ok(Box::new(answer)),
                Err(failed) => Err(Box::new(failed)),
            };
            if let Some(last) = Box::pin(self.after(outcome, endpoint)).await {
                return last.map(|answer| self.berthed(*answer));
            }
        }
    }

    /// The upstream's next endpoint. `None`: its names are not resolved yet.
    fn pick_now(&self) -> Result<Option<Arc<Endpoint>>, CallFailed> {
        let view = self.live.view();
        let now = if self.attempts == 1 { self.begun() } else { Instant::now() };
        match view.members.pick(self.balance(), &self.tried, millis(now)) {
            Some(endpoint) => Ok(Some(endpoint)),
            None if view.unresolved => Ok(None),
            None => Err(CallFailed::NoEndpoint),
        }
    }

    /// As [`Run::pick_now`]; waits for the upstream's names to be resolved the first time.
    async fn pick(&self) -> Result<Arc<Endpoint>, CallFailed> {
        let until = self.begun() + self.upstream.timeouts.connect.min(NEVER);
        loop {
            let resolved = self.live.resolved.notified();
            let mut resolved = pin!(resolved);
            if let Some(endpoint) = self.pick_now()? {
                return Ok(endpoint);
            }
            self.live.watch();
            resolved.as_mut().enable();
            if self.live.view().members.all.is_empty() && timeout_at(until, resolved).await.is_err() {
                return Err(CallFailed::NoEndpoint);
            }
        }
    }

    /// One try at one endpoint. A connection that was idle may have been closed by the peer before a byte of the request
    /// was sent: then it goes out on a fresh one.
    async fn attempt(&mut self, endpoint: &Arc<Endpoint>) -> Result<Answer, Failed> {
        let in_flight = self.seat().unwrap_or_else(|| endpoint.begin());
        let mut held = match self.idle_line(endpoint) {
            Some(held) => held,
            None => Box::pin(self.line(endpoint, false)).await?,
        };
        let reused = held.connect.is_none();
        self.keep_head(&held);
        let exchanged = {
            let exchange = pin!(self.exchange(&mut held, &endpoint.address));
            exchange.await
        };
        match exchanged {
            Ok((response, incoming)) => self.answer(in_flight, held, response, incoming),
            Err(mut failed) => {
                drop(held);
                let broke = reused && matches!(failed.why, CallFailed::Reset(_));
                if broke && self.request.is_some() {
                    return Box::pin(self.attempt_afresh(in_flight)).await;
                }
                failed.stale = broke && !failed.untouched;
                self.request = None;
                self.count(&in_flight, &failed.why);
                Err(failed)
            }
        }
    }

    /// A connection broke at the very moment it was used again, as every keep-alive does sometimes. Whether the request
    /// was worked on nobody knows: one that may be repeated goes out once more, once in a call, as a retry like others.
    #[cold]
    async fn may_resend(&mut self) -> bool {
        let may = !self.resent
            && self.repeatable
            && self.attempts <= self.upstream.retries.max
            && Instant::now() < self.total_at()
            && self.renew()
            && self.granted().await;
        self.resent |= may;
        may
    }

    async fn resend(&mut self, endpoint: &Arc<Endpoint>) -> Result<Answer, Failed> {
        self.attempts += 1;
        self.attempt_afresh(endpoint.begin()).await
    }

    async fn attempt_afresh(&mut self, in_flight: InFlight) -> Result<Answer, Failed> {
        let mut held = self.line(in_flight.endpoint(), true).await?;
        self.keep_head(&held);
        match self.exchange(&mut held, &in_flight.endpoint().address).await {
            Ok((response, incoming)) => self.answer(in_flight, held, response, incoming),
            Err(failed) => {
                self.count(&in_flight, &failed.why);
                Err(failed)
            }
        }
    }

    /// Copies the head if there may be a reason to send the request again after it was sent: what may be repeated, and
    /// what an HTTP/2 peer may say that it did nothing with. An HTTP/1.1 connection gives it back.
    fn keep_head(&mut self, held: &Held) {
        let may = || self.may_follow() && (self.repeatable || !self.upstream.retries.on.is_empty());
        let many = matches!(held.line, Line::Many(_));
        self.copy = if many && may() { self.request.as_ref().map(Head::of) } else { None };
    }

    /// Is another try allowed after this one?
    fn may_follow(&self) -> bool {
        self.attempts <= self.upstream.retries.max && !self.upgrade
    }

    fn count(&self, in_flight: &InFlight, why: &CallFailed) {
        let tally = &in_flight.endpoint().tally;
        match why {
            CallFailed::Reset(_) | CallFailed::BadResponse(_) => tally.resets.fetch_add(1, Relaxed),
            CallFailed::Timeout(_) => tally.timeouts.fetch_add(1, Relaxed),
            _ => 0,
        };
    }

    /// A connection that stands and is free.
    fn idle_line(&self, endpoint: &Arc<Endpoint>) -> Option<Held> {
        if self.upgrade && self.upstream.protocol == Protocol::Http2 {
            return None;
        }
        let now = if self.sendings == 0 { self.begun() } else { Instant::now() };
        endpoint.pool.take(self.shard, self.upgrade, self.whom(), now)
    }

    /// A connection that has to be waited for or made: rare, and large, so its callers box it.
    async fn line(&self, endpoint: &Arc<Endpoint>, fresh: bool) -> Result<Held, Failed> {
        if self.upgrade && self.upstream.protocol == Protocol::Http2 {
            return Err(lost(CallFailed::BadResponse("an HTTP/2 upstream cannot switch protocols".into())));
        }
        let connector = Arc::clone(&self.live.view().connector);
        let until = Instant::now() + self.upstream.timeouts.connect.min(NEVER);
        let total = self.total_at();
        let want = Want { upgrade: self.upgrade, fresh, whom: self.whom() };
        checkout(endpoint, &connector, want, self.shard, until.min(total)).await.map_err(|why| {
            lost(match why {
                NoLine::Failed(why) => CallFailed::Connect(why),
                _ if total <= until => CallFailed::Timeout(Phase::Total),
                NoLine::Slow => CallFailed::Timeout(Phase::Connect),
                NoLine::Busy => CallFailed::TooBusy,
            })
        })
    }

    fn answer(
        &self,
        in_flight: InFlight,
        mut held: Held,
        mut response: Response<()>,
        incoming: Option<Incoming>,
    ) -> Result<Answer, Failed> {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !self.upgrade {
            return Err(lost(CallFailed::BadResponse("switched protocols without being asked".into())));
        }
        if response.status().as_u16() >= 600 {
            return Err(lost(CallFailed::BadResponse("a status of no class".into())));
        }
        if response.headers().contains_key(TRANSFER_ENCODING) {
            only_chunked(response.headers_mut()).map_err(lost)?;
        }
        if switched {
            // Who takes the connection holds the request in flight until it is closed.
            let mut tunnel = in_flight.endpoint().begin();
            tunnel.relays();
            let Line::One(one) = &mut held.line else { return Err(lost(CallFailed::BadResponse("HTTP/2".into()))) };
            let Some(switched) = one.switch(tunnel) else {
                return Err(lost(CallFailed::BadResponse("switched protocols before the request's end".into())));
            };
            response.extensions_mut().insert(switched);
        }
        // What is left of the request goes out whether anybody reads the answer or not.
        let source = self.content.source().cloned().filter(|source| !source.progress().ended);
        if let Line::One(one) = &mut held.line {
            one.send_the_rest();
        }
        let endpoint = Arc::clone(in_flight.endpoint().name());
        let connect = held.connect;
        let keep_alive = if switched { None } else { keep_alive(&response) };
        *response.version_mut() = Version::HTTP_11;
        let response = response.map(|()| {
            Body::new(Flow {
                incoming,
                held,
                patience: Patience {
                    source,
                    idle: self.upstream.timeouts.idle,
                    total: self.total().map(|_| self.total_at()),
                    silent_since: None,
                },
                keep_alive,
                shard: self.shard,
                in_flight,
                berth: None,
            })
        });
        let first_byte = self.started.elapsed();
        Ok(Answer { response, endpoint, attempts: self.attempts, connect, first_byte })
    }

    fn total(&self) -> Option<Duration> {
        self.timeouts.total.or(self.upstream.timeouts.total)
    }

    pub(crate) fn total_at(&self) -> Instant {
        self.started + self.total().unwrap_or(NEVER).min(NEVER)
    }
}

fn lost(why: CallFailed) -> Failed {
    Failed { why, untouched: false, stale: false }
}
