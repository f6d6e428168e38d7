//! The life of a request: start reading here.
//!
//! [`serve`] is the shell: it begins the record, takes one snapshot, lets [`answer`] run, dresses what comes out and
//! hands the record to whoever sends the last byte. Stages are data in, `Result<Data, Refusal>` out; none of them
//! knows the record.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{ALT_SVC, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body::Body;
use tidegate_policy::{Action, Rewrite, Route, Snapshot, Upstream};
use tidegate_telemetry::Record;
use tidegate_upstream::Call;

use self::answered::{Answer, answered, of_the_cache, told_to_a_browser};
use self::trip::{Coming, Counted, Trip};
use crate::cached::{self};
use crate::charge::{Charge, Measure};
use crate::compress::{self, Asked, Packing};
use crate::connection::{Client, Guest, Room};
use crate::cors::{self, Granted};
use crate::forward::{self, Incoming, Switch, Taken};
use crate::gate::Gate;
use crate::grpc::web::{self};
use crate::grpc::{self};
use crate::guest::Asker;
use crate::head;
use crate::headers::{self, Seen, X_REQUEST_ID, X_TIDEGATE_REVISION};
use crate::identify::{self, Who};
use crate::in_place::{boxed, pinned};
use crate::inbound::{Inbound, Tally};
use crate::limits::{self, Further, Scope};
use crate::llm::{self, Visit};
use crate::local::Here;
use crate::origin::{self, Origin};
use crate::ratelimit::Shown;
use crate::received::Received;
use crate::refusal::Refusal;
use crate::relay::{Doorstep, Observer};
use crate::reply::Reply;
use crate::stays::Stays;
use crate::{max_forwards, respond, rewrite, route, unpack};

mod answered;
mod short;
mod trip;

/// What every answer is dressed with, known bit by bit.
#[derive(Default)]
struct Dress<'a> {
    cors: Option<Granted>,
    shown: Shown,
    route: Option<&'a Route>,
}

/// What a request is judged with.
struct Bench<'a> {
    gate: &'a Gate,
    client: &'a Arc<Client>,
    here: &'a Here,
    snapshot: &'a Snapshot,
    origin: &'a Origin,
    seen: Seen,
    stays: &'a Stays,
}

/// An answer, or a future in a place of its own: connections move what they are given, so that is kept small. `go` is [`go`]:
/// only who calls can name its future.
pub(crate) fn serve<F: Future + Send + 'static>(
    client: Arc<Client>,
    room: &Room<F>,
    request: Request<Received>,
    go: impl FnOnce(Begun) -> F,
) -> Serving<F> {
    let (parts, body) = request.into_parts();
    let exchange = client.begin(body.is_to_come());
    let here = client.local.here(&client.gate);
    let seen = headers::survey(&parts.headers);
    let mut origin = origin::judge(&client, here.scene.snapshot(), &parts.headers, seen);
    let record = Record::begin(here.scene.clone(), tidegate_clock::boot());
    let mut observer = boxed(|| Observer {
        record,
        tally: None,
        whole: false,
        exchange,
        charge: None,
        lasting: false,
        doorstep: Doorstep::default(),
        packs: None,
    });
    observer.record.follow(&parts.headers, forward::draw);
    describe(&mut observer.record, &client, &parts, &origin);
    if body.is_end_stream()
        && observer.exchange.admitted
        && let Some(kept) = short::answer(&client, &here, &parts, seen, &mut origin, &mut observer.record)
    {
        return Serving::Done(Some(dressed(Answer::Kept(kept), observer, &client, &parts)));
    }
    Serving::Going(room.take_in(|stays| go(Begun { client, here, parts, body, seen, origin, observer, stays })))
}

/// An answer on its way to its connection.
pub(crate) enum Serving<F: Future + Send + 'static> {
    /// `None`: it was taken.
    Done(Option<Response<Reply>>),
    Going(Guest<F>),
}

impl<F: Future<Output = Response<Reply>> + Send + 'static> Future for Serving<F> {
    type Output = Result<Response<Reply>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Done(answer) => Poll::Ready(Ok(answer.take().expect("nobody polls a future that is ready"))),
            Self::Going(guest) => Pin::new(guest).poll(cx).map(Ok),
        }
    }
}

/// A request whose head is known.
pub(crate) struct Begun {
    client: Arc<Client>,
    here: Arc<Here>,
    parts: Parts,
    body: Received,
    seen: Seen,
    origin: Origin,
    observer: Box<Observer>,
    stays: Stays,
}

/// The long way. Not an `async fn`, whose argument would lie in it twice.
#[inline]
pub(crate) fn go(begun: Begun) -> impl Future<Output = Response<Reply>> + Send {
    let Begun { client, here, mut parts, body, seen, origin, mut observer, stays } = begun;
    async move {
        let gate = &*client.gate;
        let snapshot = &**here.scene.snapshot();
        let bench = Bench { gate, client: &client, here: &here, snapshot, origin: &origin, seen, stays: &stays };
        let mut dress = Dress::default();
        let mut body = Some(body);
        let outcome = if observer.exchange.admitted {
            // Pinned where it is made: an `await` of the future itself would move it first, twice.
            let stages = pin!(answer(&bench, &mut parts, &mut body, &mut observer, &mut dress));
            stages.await
        } else {
            Err(Refusal::Overloaded)
        };
        let mut answer = match outcome {
            Ok(answer) => answer,
            Err(refusal) => {
                let told = refused(&refusal, &origin, &mut observer);
                Answer::Ours(match seen.grpc {
                    None => llm::in_dialect(told, &refusal, dress.route, &parts),
                    Some(speech) => grpc::refused(told, &refusal, speech),
                })
            }
        };
        if parts.version < Version::HTTP_2 {
            let unread = client.has_unread() && matches!(answer, Answer::Ours(_) | Answer::Kept(_));
            // A head that two servers may read differently: nothing that follows it is taken for a request.
            let doubted = [Refusal::AmbiguousFraming, Refusal::InvalidHost, Refusal::InvalidPath];
            let last = observer.record.refusal.is_some_and(|code| doubted.iter().any(|doubt| doubt.code() == code));
            let last = last || (unread && !Box::pin(settle(body, bench.seen.expect, &client)).await);
            if last {
                answer.be_the_last();
            }
        }
        if let Some(charge) = &mut observer.charge {
            charge.answered(answer.headers_mut());
        }
        let packs = observer.packs.take();
        put_on(answer.headers_mut(), dress, snapshot, &origin);
        if let Some(told) = alternative(&client, snapshot, parts.version) {
            answer.headers_mut().insert(ALT_SVC, told);
        }
        let packing = packs.and_then(|asked| packing(&asked, &mut answer));
        let response = dressed(answer, observer, &client, &parts);
        match packing {
            None => response,
            Some(packing) => packing.apply(response),
        }
    }
}

/// Where the same is to be had over HTTP/3 (RFC 7838, RFC 9114 § 3.1.1).
fn alternative(client: &Client, snapshot: &Snapshot, version: Version) -> Option<HeaderValue> {
    let rule = snapshot.http3.as_ref().filter(|_| version < Version::HTTP_3 && client.is_beside_http3())?;
    let (port, seconds) = (rule.port.unwrap_or(client.port), rule.max_age.as_secs());
    HeaderValue::try_from(format!("h3=\":{port}\"; ma={seconds}")).ok()
}

/// How it is compressed, if it is.
#[cold]
fn packing(asked: &Asked, answer: &mut Answer) -> Option<Packing> {
    let (status, headers, length) = answer.told()?;
    asked.judge(status, headers, length)
}

/// As it goes out, with the observer where the last byte goes.
fn dressed(mut answer: Answer, mut observer: Box<Observer>, client: &Client, parts: &Parts) -> Response<Reply> {
    if parts.version < Version::HTTP_2 && client.draining.is_leaving() {
        answer.be_the_last();
    }
    observer.record.response_headers(answer.headers_mut());
    let mut response = answer.with(observer, client, &parts.method);
    let version = parts.version;
    *response.version_mut() = version.max(Version::HTTP_11);
    response
}

/// So much of a body that nobody wants is read for the sake of its connection, and so long.
const SHORT: u64 = 64 << 10;
const SOON: Duration = Duration::from_millis(100);

/// The answer is ours, and the body was not read. `true`: it is now, and the connection can be used again.
#[cold]
async fn settle(body: Option<Received>, expected: bool, client: &Client) -> bool {
    let short = |body: &Received| body.size_hint().exact().is_some_and(|length| length <= SHORT);
    // To read what waits for a 100 would call for it.
    let read = match body.filter(|body| !expected && short(body)) {
        Some(mut body) => {
            let all = async {
                while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    if frame.is_err() {
                        return false;
                    }
                }
                true
            };
            tokio::time::timeout(SOON, all).await.unwrap_or(false)
        }
        None => false,
    };
    if read {
        client.body_read();
    }
    client.body_ended();
    read
}

fn describe(record: &mut Record, client: &Client, parts: &Parts, origin: &Origin) {
    record.method = parts.method.clone();
    if record.is_logged() {
        record.request_id = Some(origin.request_id.value());
        record.client = Some(origin.address);
        record.version = parts.version;
        record.tls = client.tls;
        record.target = parts.uri.path_and_query().cloned();
        record.user_agent = parts.headers.get(USER_AGENT).cloned();
        record.request_headers(&parts.headers);
    }
}

/// Each line may say no.
async fn answer<'a>(
    bench: &Bench<'a>,
    parts: &mut Parts,
    body: &mut Option<Received>,
    observer: &mut Observer,
    dress: &mut Dress<'a>,
) -> Result<Answer, Refusal> {
    let (gate, snapshot) = (bench.gate, bench.snapshot);
    let host = head::vet(parts, bench.seen, &gate.bounds)?;
    if observer.record.is_logged() {
        observer.record.host = host.value().cloned();
    }

    if gate.challenges.any()
        && let Some(told) = gate.challenges.answer(parts)
    {
        return Ok(Answer::Ours(told));
    }
    if let Some(promised) = &bench.client.promised
        && !promised.covers(&host.name())
    {
        return Err(Refusal::Misdirected);
    }

    let matched = route::find(snapshot, &host, parts)?;
    let route = &**matched.route;
    observer.record.route = Some(matched.at);
    bench.here.scene.expects(matched.at);
    dress.route = Some(route);
    if let Some(rules) = &route.compression {
        observer.packs = compress::asked(rules, parts, bench.seen);
    }
    dress.cors = cors::judge(route.cors.as_deref(), &parts.headers, bench.seen);
    if let Some(preflight) = cors::preflight(route, parts, bench.seen)? {
        return Ok(Answer::Ours(preflight));
    }

    let caller = match identify::caller(gate, snapshot, route, parts)? {
        Who::Is(caller) => caller,
        Who::Waits(wait) => Box::pin(identify::late(gate, snapshot, route, parts, wait)).await?,
    };
    if let Some(caller) = &caller {
        observer.record.consumer = caller.at();
        observer.record.key = caller.key();
    }
    identify::may(route, caller.as_ref())?;
    if gate.pressure.is_on() {
        let asker = Asker { snapshot, route, caller: caller.as_ref(), origin: bench.origin };
        gate.pressure.judge(asker.class(None, &parts.headers), gate.in_flight.now())?;
    }
    if let Some(last) = max_forwards::count(parts) {
        return Ok(Answer::Ours(last));
    }
    let switch = forward::switch(parts, route, bench.seen)?;
    Inbound::fits(body.as_ref(), route.max_body)?;

    if let Action::Llm(llm) = &route.action {
        let caller = caller.as_ref();
        let visit = Visit {
            gate,
            snapshot,
            client: bench.client,
            origin: bench.origin,
            host: &host,
            route,
            llm,
            caller,
            stays: bench.stays,
        };
        return pinned(|| llm::serve(visit, parts, body, observer, &mut dress.shown)).await.map(Answer::Ours);
    }

    let (mut ahead, mut posted) = (None, None);
    if let Some(most) = cached::posts(gate, route, parts, switch.as_ref())
        && let Some(body) = body.take()
    {
        let mut inbound = Box::new(unpack::inbound(body, route, bench.client.clone(), &mut parts.headers)?);
        observer.tally = inbound.tally();
        posted = Box::pin(cached::read_post(&mut inbound, most)).await?;
        ahead = Some(inbound);
    }
    let mut glance =
        cached::look(gate, &matched, &host, bench.origin, caller.as_ref(), parts, switch.as_ref(), posted.as_deref());
    let mut asked = limits::of(snapshot, route, caller.as_ref());
    if gate.blocks.any() {
        let (address, method, headers) = (bench.origin.address, &parts.method, &parts.headers);
        let scope = Scope { route, caller: caller.as_ref(), address, host: &host, method, headers, spoken: None };
        limits::unblocked(&gate.blocks, &gate.limiter, snapshot, &asked, &scope)?;
    }
    if cached::is_hit(glance.as_ref()) {
        asked.retain(|held| snapshot.limits.get(held.limit).is_none_or(|limit| limit.count_hits));
    }
    let (mut permit, mut asks) = (None, limits::Asked::new());
    if !asked.is_empty() {
        let (address, method, headers) = (bench.origin.address, &parts.method, &parts.headers);
        let scope = Scope { route, caller: caller.as_ref(), address, host: &host, method, headers, spoken: None };
        let counters = (&*gate.limiter, &*gate.seen);
        let (verdict, decided, of_all) = {
            let admission = pin!(limits::admit(counters, snapshot, &asked, &scope));
            admission.await
        };
        observer.record.limits = decided.standings;
        dress.shown = decided.shown;
        permit = Some(verdict?);
        asks = of_all;
    }

    let path = matched.path.as_deref();
    let reply = match &route.action {
        Action::Redirect(to) => {
            let sent = parts.uri.path_and_query();
            let path = path.unwrap_or_else(|| parts.uri.path());
            Answer::Ours(respond::redirect(to, bench.origin.secure, &host, path, sent, &matched.captures)?)
        }
        Action::Llm(_) => return Err(Refusal::Fault), // It left above.
        Action::Respond { status, headers, body } => Answer::Ours(respond::fixed(*status, headers, body)),
        Action::Forward { to, rewrite } => {
            let incoming = Incoming {
                client: bench.client,
                origin: bench.origin,
                host: &host,
                seen: bench.seen,
                path,
                captures: &matched.captures,
                caller: caller.as_ref(),
            };
            let target = forward::choose(to).ok_or(Refusal::NoEndpoint)?;
            if let Some(kept) = cached::at_once(&mut glance) {
                if let Some(permit) = permit.take() {
                    observer.charge = Charge::of(permit.commit(bench.origin.request_id.as_str().as_bytes()), &asks);
                }
                short::learn(bench, &matched, parts, &kept);
                return Ok(of_the_cache(kept, bench.origin, observer));
            }
            if let Some(glance) = glance.take() {
                let request_id = bench.origin.request_id.as_str().as_bytes();
                let trip =
                    Trip { bench, route, rewrite, incoming: &incoming, upstream: &to[target].upstream, request_id };
                let counted = Counted { permit, asks };
                let body = Coming { ahead, rest: body };
                return Box::pin(trip.through_the_cache(glance, parts, body, observer, counted, target)).await;
            }
            observer.record.towards = Some(target);
            observer.record.asks(&mut parts.headers, forward::draw);
            if let Some(verdict) = forward::verdict(&gate.upstreams, &to[target].upstream) {
                verdict.await;
            }
            let upstream = match forward::detour(&gate.upstreams, &snapshot.upstreams, &to[target].upstream) {
                Taken::By(upstream) => upstream,
                Taken::Answered(answer) => {
                    if let Some(permit) = permit.take() {
                        observer.charge = Charge::of(permit.commit(bench.origin.request_id.as_str().as_bytes()), &asks);
                    }
                    return Ok(Answer::Ours(answer));
                }
            };
            let request_id = bench.origin.request_id.as_str().as_bytes();
            let Some(body) = body.take() else { return Err(Refusal::Fault) };
            let mut body = unpack::inbound(body, route, bench.client.clone(), &mut parts.headers)?;
            observer.tally = body.tally();
            if let Some(speech) = web::of(bench.seen, route) {
                web::outward(&mut parts.headers, &mut body, speech);
            }
            let further = Further::new(&gate.limiter, asks, request_id).traced(&observer.record);
            let asker = Asker { snapshot, route, caller: caller.as_ref(), origin: bench.origin };
            let call = outgoing(upstream, rewrite, &incoming, switch.as_ref(), parts, body, &further, asker)?;
            if let Some(permit) = permit.take() {
                observer.charge = Charge::of(permit.commit(request_id), further.asks());
            }
            let outcome = {
                let mut call = pin!(gate.upstreams.call(call));
                poll_fn(|cx| poll_while(&mut observer.charge, observer.tally.as_deref(), call.as_mut(), cx)).await?
            };
            let answer = answered(outcome, switch, &mut observer.record, further)?;
            return Ok(match (web::of(bench.seen, route), answer) {
                (Some(speech), Answer::Relayed(response, None)) => told_to_a_browser(response, speech),
                (_, answer) => answer,
            });
        }
    };
    if let Some(permit) = permit {
        observer.charge = Charge::of(permit.commit(bench.origin.request_id.as_str().as_bytes()), &asks);
    }
    Ok(reply)
}

/// The request as it goes to its upstream. Takes the parts apart; an `async fn` would carry them along.
#[expect(clippy::too_many_arguments, reason = "each is one thing the request is made of")]
fn outgoing<'a>(
    upstream: &'a Arc<Upstream>,
    rewrite: &Rewrite,
    incoming: &Incoming<'_>,
    switch: Option<&Switch>,
    parts: &mut Parts,
    body: Inbound,
    further: &'a Further<'_>,
    asker: Asker<'_>,
) -> Result<Call<'a, Inbound>, Refusal> {
    let route = asker.route;
    let request = forward::request(parts, body, route, rewrite, incoming, switch)?;
    Ok(forward::call(upstream, request, incoming, switch.is_some(), further, asker))
}

/// The upstream's answer; no answer once the places that the call holds may be another's, or once what it sent is more than its
/// limits have and one of them says that it is to be cut. `sent`: its body, as far as it came.
pub(crate) fn poll_while<T>(
    charge: &mut Option<Box<Charge>>,
    sent: Option<&Tally>,
    call: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Refusal>> {
    if let Some(charge) = charge {
        charge.goes_on(cx);
        if charge.poll_lapsed(cx).is_ready() {
            return Poll::Ready(Err(Refusal::LimitUnavailable { retry_after: Duration::from_secs(1) }));
        }
        if let Some(bytes) = sent.map(Tally::bytes) {
            // What it sent has gone on already: it is not held back while it is asked for more.
            if let Poll::Ready(room) = charge.poll_room(Measure::BytesIn, bytes, cx)
                && room < bytes
            {
                return Poll::Ready(Err(Refusal::Limited { retry_after: Duration::from_secs(1) }));
            }
            charge.uses(Measure::BytesIn, bytes, cx);
        }
    }
    let answer = std::task::ready!(call.poll(cx));
    if let Some(sent) = sent {
        sent.is_answered();
    }
    Poll::Ready(Ok(answer))
}

fn refused(refusal: &Refusal, origin: &Origin, observer: &mut Observer) -> Response<Reply> {
    observer.record.refusal = Some(refusal.code());
    if let Some(detail) = refusal.detail() {
        observer.record.detail = Some(detail);
    }
    refusal.render(origin.request_id.as_str())
}

fn put_on(headers: &mut HeaderMap, dress: Dress, snapshot: &Snapshot, origin: &Origin) {
    if let Some(route) = &dress.route {
        rewrite::edit(headers, &route.response_headers);
    }
    if let Some(cors) = &dress.cors {
        cors.put(headers);
    }
    dress.shown.put(headers);
    if snapshot.telemetry.revision_header {
        headers.insert(X_TIDEGATE_REVISION, HeaderValue::from(snapshot.revision.0));
    }
    headers.insert(X_REQUEST_ID, origin.request_id.value());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one is moved into its place with every request of the long way, the other with every request.
    #[test]
    fn the_future_of_a_request_stays_small() {
        fn sizes<A, F: Future + Send + 'static>(_: fn(A) -> F) -> (usize, usize) {
            (std::mem::size_of::<F>(), std::mem::size_of::<Serving<F>>())
        }
        let (going, serving) = sizes(go);
        assert!(going < 30 << 7, "{going} bytes");
        assert!(serving < 512, "{serving} bytes");
    }
}
