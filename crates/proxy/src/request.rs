//! The life of a request: start reading here.
//!
//! [`serve`] is the shell: it begins the record, takes one snapshot, lets [`answer`] run, dresses what comes out and
//! hands the record to whoever sends the last byte. Stages are data in, `Result<Data, Refusal>` out; none of them
//! knows the record.

use std::sync::Arc;

use http::header::USER_AGENT;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming as Received;
use hyper::upgrade::OnUpgrade;
use tidegate_policy::{Action, Rewrite, Route, Snapshot, Target};
use tidegate_telemetry::Record;

use crate::connection::Client;
use crate::cors::{self, Granted};
use crate::forward::{self, Incoming, Switch};
use crate::gate::Gate;
use crate::head;
use crate::headers::{self, Seen, X_REQUEST_ID};
use crate::identify;
use crate::inbound::Inbound;
use crate::limits::{self, Scope};
use crate::origin::{self, Origin};
use crate::ratelimit::Shown;
use crate::refusal::Refusal;
use crate::relay::{Observer, Relay};
use crate::reply::Reply;
use crate::{respond, rewrite, route, tunnel};

/// What every answer is dressed with, known bit by bit.
#[derive(Default)]
struct Dress {
    cors: Option<Granted>,
    shown: Shown,
    route: Option<Arc<Route>>,
}

/// What a request is judged with.
struct Bench<'a> {
    gate: &'a Gate,
    client: &'a Arc<Client>,
    snapshot: &'a Snapshot,
    origin: &'a Origin,
    seen: Seen,
    /// hyper saw a length beside chunked framing and dropped it.
    framed_twice: bool,
}

pub(crate) async fn serve(client: Arc<Client>, request: Request<Received>) -> Response<Reply> {
    let (mut parts, body) = request.into_parts();
    let (exchange, sized) = client.begin(!body.is_end_stream());
    let gate = &*client.gate;
    let snapshot = gate.snapshot.load_full();
    let seen = headers::survey(&parts.headers);
    let origin = origin::judge(&client, &snapshot, &parts.headers, seen);
    let in_flight = gate.in_flight.enter(gate.bounds.in_flight);
    let overloaded = in_flight.is_none();
    let record = begin(gate, &client, &parts, &origin);
    let mut observer = Box::new(Observer { record, tally: None, whole: false, _in_flight: in_flight, exchange });
    let mut dress = Dress::default();
    let (version, method) = (parts.version, parts.method.clone());

    let framed_twice = sized && seen.framed;
    let bench = Bench { gate, client: &client, snapshot: &snapshot, origin: &origin, seen, framed_twice };
    let outcome = if overloaded {
        Err(Refusal::Overloaded)
    } else {
        answer(&bench, &mut parts, body, &mut observer, &mut dress).await
    };
    let mut answer = match outcome {
        Ok(answer) => answer,
        Err(refusal) => Answer::Ours(refused(&refusal, &origin, &mut observer)),
    };
    put_on(answer.headers_mut(), dress, &origin);
    observer.record.response_headers(answer.headers_mut());
    let mut response = answer.with(observer, &bench, &method);
    *response.version_mut() = if version == Version::HTTP_2 { version } else { Version::HTTP_11 };
    response
}

fn begin(gate: &Gate, client: &Client, parts: &Parts, origin: &Origin) -> Record {
    let mut record = Record::begin(&gate.telemetry, tidegate_clock::boot());
    record.request_id = Some(origin.request_id.value());
    record.client = Some(origin.address);
    record.version = parts.version;
    record.tls = client.tls;
    record.method = parts.method.clone();
    record.target = parts.uri.path_and_query().cloned();
    record.user_agent = parts.headers.get(USER_AGENT).cloned();
    record.request_headers(&parts.headers);
    record
}

/// What the stages came to.
enum Answer {
    Ours(Response<Reply>),
    Relayed(Response<tidegate_upstream::Body>),
    Switched(Response<()>, OnUpgrade, OnUpgrade),
}

/// Each line may say no.
async fn answer(
    bench: &Bench<'_>,
    parts: &mut Parts,
    body: Received,
    observer: &mut Observer,
    dress: &mut Dress,
) -> Result<Answer, Refusal> {
    if bench.framed_twice {
        return Err(Refusal::AmbiguousFraming);
    }
    let (gate, snapshot) = (bench.gate, bench.snapshot);
    let host = head::vet(parts, bench.seen, &gate.bounds)?;
    observer.record.host = host.value().cloned();

    let matched = route::find(snapshot, &host, parts)?;
    let route = &matched.route;
    observer.record.route = Some(route.id.clone());
    observer.record.tenant = Some(route.tenant.clone());
    dress.route = Some(route.clone());
    dress.cors = cors::judge(route.cors.as_ref(), &parts.headers, bench.seen);
    if let Some(preflight) = cors::preflight(route, parts, bench.seen)? {
        return Ok(Answer::Ours(preflight));
    }

    let caller = identify::caller(gate, snapshot, route, parts)?;
    if let Some(caller) = &caller {
        observer.record.consumer = Some(caller.key.consumer.clone());
        observer.record.key = Some(caller.key.id);
        observer.record.tenant = Some(caller.key.tenant.clone());
    }
    identify::may(route, caller.as_ref())?;
    let switch = forward::switch(parts, route, bench.seen)?;
    let body = Inbound::new(body, route.max_body, gate.bounds.body_timeout, bench.client.clone())?;
    observer.tally = body.tally();

    let asked = limits::of(snapshot, route, caller.as_ref());
    let mut permit = None;
    if !asked.is_empty() {
        let scope = Scope { route, caller: caller.as_ref(), address: bench.origin.address, headers: &parts.headers };
        let (verdict, decided) = limits::admit(&gate.limiter, &asked, &scope).await;
        observer.record.limits = decided.standings;
        dress.shown = decided.shown;
        permit = Some(verdict?);
    }

    let path = matched.path.as_deref();
    let reply = match &route.action {
        Action::Redirect(to) => {
            let sent = parts.uri.path_and_query();
            let path = path.unwrap_or_else(|| parts.uri.path());
            Answer::Ours(respond::redirect(to, bench.origin.secure, &host, path, sent, &matched.captures)?)
        }
        Action::Respond { status, headers, body } => Answer::Ours(respond::fixed(*status, headers, body)),
        Action::Forward { to, rewrite } => {
            let incoming = Incoming {
                client: bench.client,
                origin: bench.origin,
                host: &host,
                seen: bench.seen,
                path,
                captures: &matched.captures,
                identified: caller.is_some(),
            };
            let call = Outgoing { route, to, rewrite, incoming, switch };
            return call.send(gate, std::mem::replace(parts, blank()), body, permit, observer).await;
        }
    };
    if let Some(permit) = permit {
        permit.commit(bench.origin.request_id.as_str().as_bytes());
    }
    Ok(reply)
}

/// Parts cannot be moved out of a borrow without leaving some behind.
fn blank() -> Parts {
    Request::new(()).into_parts().0
}

struct Outgoing<'a> {
    route: &'a Route,
    to: &'a [Target],
    rewrite: &'a Rewrite,
    incoming: Incoming<'a>,
    switch: Option<Switch>,
}

impl Outgoing<'_> {
    async fn send(
        self,
        gate: &Gate,
        parts: Parts,
        body: Inbound,
        permit: Option<tidegate_limiter::Permit>,
        observer: &mut Observer,
    ) -> Result<Answer, Refusal> {
        let upstream = forward::choose(self.to).ok_or(Refusal::NoEndpoint)?;
        observer.record.upstream = Some(upstream.id.clone());
        let request = forward::request(parts, body, self.route, self.rewrite, &self.incoming, self.switch.as_ref())?;
        if let Some(permit) = permit {
            permit.commit(self.incoming.origin.request_id.as_str().as_bytes());
        }
        let call = forward::call(upstream, request, self.route, self.switch.is_some());
        let answer = gate.upstreams.call(call).await.map_err(|why| {
            observer.record.detail = Some(why.to_string().into());
            forward::failed(&why)
        })?;
        observer.record.endpoint = Some(answer.endpoint);
        observer.record.attempts = answer.attempts;
        observer.record.connect = answer.connect;
        observer.record.first_byte = Some(answer.first_byte);
        received(answer.response, self.switch)
    }
}

/// The upstream's answer, without what concerned its connection to us.
fn received(mut response: Response<tidegate_upstream::Body>, switch: Option<Switch>) -> Result<Answer, Refusal> {
    let seen = headers::survey(response.headers());
    headers::strip_hop_by_hop(response.headers_mut(), seen);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Relayed(response));
    }
    let (Some(switch), Some(upstream_side)) = (switch, response.extensions_mut().remove::<OnUpgrade>()) else {
        return Err(Refusal::UpstreamInvalid);
    };
    switch.ask(response.headers_mut());
    Ok(Answer::Switched(response.map(drop), switch.client_side, upstream_side))
}

fn refused(refusal: &Refusal, origin: &Origin, observer: &mut Observer) -> Response<Reply> {
    observer.record.refusal = Some(refusal.code());
    refusal.render(origin.request_id.as_str())
}

impl Answer {
    fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Ours(response) => response.headers_mut(),
            Self::Relayed(response) => response.headers_mut(),
            Self::Switched(response, ..) => response.headers_mut(),
        }
    }

    /// The observer goes where the last byte goes.
    fn with(self, mut observer: Box<Observer>, bench: &Bench<'_>, method: &Method) -> Response<Reply> {
        match self {
            Self::Ours(response) => {
                observer.record.status = response.status().as_u16();
                response.map(|reply| reply.observed(observer, method))
            }
            Self::Relayed(response) => {
                observer.record.status = response.status().as_u16();
                response.map(|body| Reply::Relayed(Relay::new(body, observer)))
            }
            Self::Switched(response, client, upstream) => {
                observer.record.status = response.status().as_u16();
                let (silence, draining) = (bench.gate.bounds.tunnel_timeout, bench.client.draining.clone());
                tokio::spawn(tunnel::run(client, upstream, observer, silence, draining));
                response.map(|()| Reply::empty())
            }
        }
    }
}

fn put_on(headers: &mut HeaderMap, dress: Dress, origin: &Origin) {
    if let Some(route) = &dress.route {
        rewrite::edit(headers, &route.response_headers);
    }
    if let Some(cors) = &dress.cors {
        cors.put(headers);
    }
    dress.shown.put(headers);
    headers.insert(X_REQUEST_ID, origin.request_id.value());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// hyper moves this future into its place once per request: its size is paid each time.
    #[test]
    fn the_future_of_a_request_stays_small() {
        fn size<A, B, F>(_: fn(A, B) -> F) -> usize {
            std::mem::size_of::<F>()
        }
        let size = size(serve);
        assert!(size < 9 << 10, "{size} bytes");
    }
}
