//! The life of a call: pick an endpoint, get a connection, send, wait for the head; again elsewhere if that is allowed.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Poll, ready};
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderName};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::SizeHint;
use hyper::body::Incoming;
use tidegate_policy::{Protocol, RetryOn, Timeouts, Upstream};
use tokio::time::{Instant, timeout_at};

use crate::alarm::Alarm;
use crate::body::{Body, Flow};
use crate::checkout::{NoLine, Want, checkout};
use crate::endpoint::{Endpoint, InFlight, age, millis};
use crate::live::Live;
use crate::outgoing::{Outgoing, Source};
use crate::pool::{Held, Line};
use crate::shard::Shard;
use crate::{Answer, CallFailed, Phase, random};

/// Far enough to mean never, near enough for any timer.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
const FIRST_BACKOFF: u64 = 10; // milliseconds
const LONGEST_BACKOFF: u64 = 250;

/// One call, with its body's type hidden.
pub(crate) struct Run<'a> {
    pub(crate) live: &'a Arc<Live>,
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) timeouts: Timeouts,
    pub(crate) upgrade: bool,
    pub(crate) shard: Shard,
    pub(crate) started: Instant,
    pub(crate) source: Option<Arc<dyn Source>>,
    pub(crate) hint: SizeHint,
    /// Sent methods may be repeated (RFC 9110 § 9.2.2), or the document says that they may.
    pub(crate) repeatable: bool,
    pub(crate) idempotent: bool,
    /// Views of the body given out.
    pub(crate) sendings: u32,
}

/// How one try ended without a response head.
struct Failed {
    why: CallFailed,
    /// The request, if not a byte of it was sent.
    unsent: Option<Box<Request<Outgoing>>>,
    /// The peer said that it did nothing with it.
    untouched: bool,
}

impl Run<'_> {
    pub(crate) async fn run(mut self, request: Request<Outgoing>) -> Result<Answer, CallFailed> {
        self.live.budget.request(age(self.started));
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut attempts = 0;
        // A copy of the head is made only for a try that may have to be repeated after it was sent.
        let mut next = Some(request);
        loop {
            attempts += 1;
            let request = next.take().expect("set before the loop and before each turn");
            let endpoint = self.pick(&tried).await?;
            let may = attempts <= self.upstream.retries.max;
            let copy = (self.repeatable && !self.upgrade).then(|| head_of(&request));
            let outcome = self.attempt(endpoint.begin(), request, copy.as_ref(), attempts).await;
            let (again, answer) = match outcome {
                Ok(answer) if !self.unwanted(answer.response.status()) => return Ok(answer),
                Ok(answer) => (copy.and_then(|head| self.again(head)), Ok(answer)),
                Err(failed) => {
                    let again = self.after(failed.unsent, failed.untouched, &failed.why, copy);
                    (again, Err(failed.why))
                }
            };
            let Some(again) = again.filter(|_| may && self.granted()) else { return answer };
            if let Ok(answer) = answer {
                answer.response.into_body().discard();
            }
            tried.push(endpoint);
            next = Some(again);
            if !self.pause(attempts, &tried).await {
                return Err(CallFailed::Timeout(Phase::Total));
            }
        }
    }

    /// The upstream's next endpoint; waits for its names to be resolved the first time.
    async fn pick(&self, tried: &[Arc<Endpoint>]) -> Result<Arc<Endpoint>, CallFailed> {
        let until = self.started + self.upstream.timeouts.connect.min(NEVER);
        loop {
            let resolved = self.live.resolved.notified();
            let mut resolved = pin!(resolved);
            let unresolved = {
                let view = self.live.view();
                if let Some(endpoint) = view.members.pick(self.upstream.balance, tried, millis(Instant::now())) {
                    return Ok(endpoint);
                }
                view.unresolved
            };
            if !unresolved {
                return Err(CallFailed::NoEndpoint);
            }
            self.live.watch();
            resolved.as_mut().enable();
            if self.live.view().members.all.is_empty() && timeout_at(until, resolved).await.is_err() {
                return Err(CallFailed::NoEndpoint);
            }
        }
    }

    /// One try at one endpoint. A connection that was idle may have been closed by the peer at the very moment it was
    /// used again: then the request goes out once more, on a fresh one, if it was not sent or may be repeated.
    async fn attempt(
        &mut self,
        in_flight: InFlight,
        request: Request<Outgoing>,
        copy: Option<&Request<()>>,
        attempts: u32,
    ) -> Result<Answer, Failed> {
        let https = in_flight.endpoint().address.https;
        let held = match self.line(in_flight.endpoint(), false).await {
            Ok(held) => held,
            Err(failed) => return Err(Failed { unsent: Some(Box::new(request)), ..failed }),
        };
        let reused = held.connect.is_none();
        let copy = copy.filter(|_| reused && self.idempotent);
        match self.exchange(held, request, https).await {
            Ok((held, response)) => self.answer(in_flight, held, response, attempts),
            Err(failed) => {
                let broke = reused && matches!(failed.why, CallFailed::Reset(_));
                let again = if broke {
                    failed.unsent.map(|request| *request).or_else(|| copy.and_then(|head| self.again(head.clone())))
                } else {
                    None
                };
                let Some(request) = again else {
                    self.count(&in_flight, &failed.why);
                    return Err(Failed { unsent: None, ..failed });
                };
                let held = match self.line(in_flight.endpoint(), true).await {
                    Ok(held) => held,
                    Err(failed) => return Err(Failed { unsent: Some(Box::new(request)), ..failed }),
                };
                match self.exchange(held, request, https).await {
                    Ok((held, response)) => self.answer(in_flight, held, response, attempts),
                    Err(failed) => {
                        self.count(&in_flight, &failed.why);
                        Err(failed)
                    }
                }
            }
        }
    }

    fn count(&self, in_flight: &InFlight, why: &CallFailed) {
        let tally = &in_flight.endpoint().tally;
        match why {
            CallFailed::Reset(_) | CallFailed::BadResponse(_) => tally.resets.fetch_add(1, Relaxed),
            CallFailed::Timeout(_) => tally.timeouts.fetch_add(1, Relaxed),
            _ => 0,
        };
    }

    async fn line(&self, endpoint: &Arc<Endpoint>, fresh: bool) -> Result<Held, Failed> {
        let now = if self.sendings == 0 { self.started } else { Instant::now() };
        if self.upgrade && self.upstream.protocol == Protocol::Http2 {
            return Err(lost(CallFailed::BadResponse("an HTTP/2 upstream cannot switch protocols".into())));
        }
        if !fresh && let Some(held) = endpoint.pool.take(self.shard, self.upgrade, now) {
            return Ok(held);
        }
        let connector = Arc::clone(&self.live.view().connector);
        let until = Instant::now() + self.upstream.timeouts.connect.min(NEVER);
        let total = self.total_at();
        let want = Want { upgrade: self.upgrade, fresh };
        // Boxed: connecting is rare, and its large future would be moved about with every request.
        Box::pin(checkout(endpoint, &connector, want, self.shard, until.min(total))).await.map_err(|why| {
            lost(match why {
                NoLine::Failed(why) => CallFailed::Connect(why),
                _ if total <= until => CallFailed::Timeout(Phase::Total),
                NoLine::Slow => CallFailed::Timeout(Phase::Connect),
                NoLine::Busy => CallFailed::TooBusy,
            })
        })
    }

    /// Sends the request and waits for the response's head.
    async fn exchange(
        &mut self,
        mut held: Held,
        mut request: Request<Outgoing>,
        https: bool,
    ) -> Result<(Held, Response<Incoming>), Failed> {
        self.sendings += 1;
        let sent = Instant::now();
        let limit = || self.head_limit(sent);
        let Held { line, alarm, .. } = &mut held;
        let result = match line {
            Line::One(one) => {
                in_origin_form(&mut request);
                if !one.send.is_ready() {
                    match within(one.send.ready(), alarm, &limit).await {
                        Err(phase) => return Err(lost(CallFailed::Timeout(phase))),
                        Ok(Err(why)) => {
                            return Err(Failed {
                                unsent: Some(Box::new(request)),
                                ..lost(CallFailed::Reset(why.into()))
                            });
                        }
                        Ok(Ok(())) => {}
                    }
                }
                within(one.send.try_send_request(request), alarm, &limit).await
            }
            Line::Many(stream) => {
                with_authority(&mut request, if https { "https" } else { "http" });
                within(stream.sender().try_send_request(request), alarm, &limit).await
            }
        };
        match result {
            Ok(Ok(response)) => Ok((held, response)),
            Ok(Err(mut why)) => {
                let unsent = why.take_message().map(Box::new);
                Err(self.judge(why.into_error(), unsent))
            }
            Err(phase) => Err(lost(CallFailed::Timeout(phase))),
        }
    }

    /// Whose fault is it?
    fn judge(&self, why: hyper::Error, unsent: Option<Box<Request<Outgoing>>>) -> Failed {
        if let Some(why) = self.source.as_ref().and_then(|source| source.broken()) {
            return lost(CallFailed::RequestBody(why));
        }
        let h2 = std::error::Error::source(&why).and_then(|source| source.downcast_ref::<h2::Error>());
        let untouched = h2.is_some_and(|h2| h2.reason() == Some(h2::Reason::REFUSED_STREAM) && h2.is_remote());
        let malformed = why.is_parse() || h2.is_some_and(|h2| h2.is_library() && h2.reason().is_some());
        let why = if malformed { CallFailed::BadResponse(why.into()) } else { CallFailed::Reset(why.into()) };
        Failed { why, unsent, untouched }
    }

    fn answer(
        &self,
        in_flight: InFlight,
        held: Held,
        mut response: Response<Incoming>,
        attempts: u32,
    ) -> Result<Answer, Failed> {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && !self.upgrade {
            return Err(lost(CallFailed::BadResponse("switched protocols without being asked".into())));
        }
        if switched {
            // The socket holds the request in flight until it is closed.
            if let Line::One(one) = &held.line {
                *crate::lock(&one.tunnel) = Some(in_flight.endpoint().begin());
            }
        }
        let endpoint = Arc::clone(in_flight.endpoint().name());
        let connect = held.connect;
        let keep_alive = if switched { None } else { keep_alive(&response) };
        *response.version_mut() = Version::HTTP_11;
        let response = response.map(|incoming| {
            Body::new(Flow {
                incoming,
                held,
                source: self.source.clone(),
                idle: self.upstream.timeouts.idle,
                total: self.total().map(|_| self.total_at()),
                silent_since: None,
                keep_alive,
                shard: self.shard,
                in_flight,
            })
        });
        let first_byte = self.started.elapsed();
        Ok(Answer { response, endpoint, attempts, connect, first_byte })
    }

    /// A request to try again, if the document and the failure allow it.
    fn after(
        &mut self,
        unsent: Option<Box<Request<Outgoing>>>,
        untouched: bool,
        why: &CallFailed,
        copy: Option<Request<()>>,
    ) -> Option<Request<Outgoing>> {
        let on = |kind| self.upstream.retries.on.contains(&kind);
        let wanted = match why {
            // Nothing was sent: whatever the method, the request is still in our hands.
            CallFailed::Connect(_) | CallFailed::Timeout(Phase::Connect) => on(RetryOn::Connect),
            CallFailed::Reset(_) => on(RetryOn::Reset) || (untouched && on(RetryOn::Connect)),
            CallFailed::Timeout(Phase::FirstByte) => on(RetryOn::Timeout),
            _ => false,
        };
        if !wanted {
            return None;
        }
        unsent.map(|request| *request).or_else(|| copy.and_then(|head| self.again(head)))
    }

    /// The same request with the body from its beginning; `None` when part of that is gone.
    fn again(&mut self, head: Request<()>) -> Option<Request<Outgoing>> {
        let body = match &self.source {
            None => Outgoing::Empty,
            Some(source) => {
                source.again(self.sendings).then(|| Outgoing::stream(Arc::clone(source), self.sendings, self.hint))?
            }
        };
        Some(head.map(|()| body))
    }

    fn unwanted(&self, status: StatusCode) -> bool {
        self.upstream.retries.on.contains(&RetryOn::Status(status.as_u16()))
    }

    fn granted(&self) -> bool {
        let granted = self.live.budget.retry(self.upstream.retries.budget, age(Instant::now()));
        if granted {
            self.live.retries.fetch_add(1, Relaxed);
        }
        granted
    }

    /// Before another try: none if another endpoint is there to be asked, else 10 ms, 20 ms, … 250 ms, jittered by
    /// half. False when the whole exchange's time is over.
    async fn pause(&self, attempts: u32, tried: &[Arc<Endpoint>]) -> bool {
        let another = {
            let view = self.live.view();
            let now = millis(Instant::now());
            let may = |e: &Arc<Endpoint>| !e.is_ejected(now) && !tried.iter().any(|t| Arc::ptr_eq(t, e));
            view.members.all.iter().any(|m| m.weight > 0 && may(&m.endpoint))
        };
        let total = self.total_at();
        if !another {
            let most = (FIRST_BACKOFF << (attempts - 1).min(8)).min(LONGEST_BACKOFF);
            let pause = Duration::from_millis(most / 2 + random::below(most / 2 + 1));
            tokio::time::sleep_until((Instant::now() + pause).min(total)).await;
        }
        Instant::now() < total
    }

    fn total(&self) -> Option<Duration> {
        self.timeouts.total.or(self.upstream.timeouts.total)
    }

    fn total_at(&self) -> Instant {
        self.started + self.total().unwrap_or(NEVER).min(NEVER)
    }

    /// Until when the head is waited for. While the body is still being sent the clock is the body's silence.
    fn head_limit(&self, sent: Instant) -> (Instant, Phase) {
        let first_byte = self.timeouts.first_byte.unwrap_or(self.upstream.timeouts.first_byte).min(NEVER);
        let own = match self.source.as_ref().map(|source| source.progress()) {
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
async fn within<F: Future>(
    future: F,
    alarm: &mut Alarm,
    limit: &impl Fn() -> (Instant, Phase),
) -> Result<F::Output, Phase> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        loop {
            let (at, _) = limit();
            ready!(alarm.poll(cx, at));
            let (at, phase) = limit();
            if at <= Instant::now() {
                return Poll::Ready(Err(phase));
            }
        }
    })
    .await
}

fn lost(why: CallFailed) -> Failed {
    Failed { why, unsent: None, untouched: false }
}

fn head_of(request: &Request<Outgoing>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// HTTP/1.1: path and query in the request line, the authority in `Host`.
fn in_origin_form(request: &mut Request<Outgoing>) {
    *request.version_mut() = Version::HTTP_11;
    let Some(authority) = request.uri().authority().filter(|_| request.method() != Method::CONNECT) else { return };
    if !request.headers().contains_key(HOST)
        && let Ok(host) = authority.as_str().parse()
    {
        request.headers_mut().insert(HOST, host);
    }
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
}

/// HTTP/2: `:scheme` and `:authority` come from the URI, and `Host` is not sent beside them (RFC 9113 § 8.3.1).
fn with_authority(request: &mut Request<Outgoing>, scheme: &'static str) {
    *request.version_mut() = Version::HTTP_2;
    if request.uri().authority().is_some() {
        return;
    }
    let Some(host) = request.headers_mut().remove(HOST) else { return };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(path).build();
    match uri {
        Ok(uri) => *request.uri_mut() = uri,
        // Not an authority: hyper refuses the request without one, which is told as it is.
        Err(_) => drop(request.headers_mut().insert(HOST, host)),
    }
}

/// May the connection be used again, and for how long? `None`: no. The peer's own timeout (`Keep-Alive: timeout=5`)
/// is kept a second short, so that no request meets its close on the way.
fn keep_alive(response: &Response<Incoming>) -> Option<Duration> {
    static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let says = |token: &str| {
        response
            .headers()
            .get_all(CONNECTION)
            .iter()
            .any(|value| value.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token))))
    };
    match response.version() {
        Version::HTTP_10 if !says("keep-alive") => return None,
        Version::HTTP_11 if says("close") => return None,
        _ => {}
    }
    let told = response.headers().get(&KEEP_ALIVE).and_then(|value| {
        let value = value.to_str().ok()?;
        let seconds = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
        seconds.trim().parse::<u64>().ok()
    });
    match told {
        None => Some(NEVER),
        Some(seconds) => seconds.checked_sub(1).filter(|left| *left > 0).map(Duration::from_secs),
    }
}
