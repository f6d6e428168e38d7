//! What the stages came to, and how it becomes what a connection sends: whoever sends the last byte has the observer.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Body;
use tidegate_cache::Tee;
use tidegate_telemetry::{Cached, Record};
use tidegate_upstream::CallFailed;

use super::refused;
use crate::cached::Kept;
use crate::connection::Client;
use crate::forward::{self, Switch};
use crate::grpc::Speech;
use crate::grpc::web::{self, Back};
use crate::http1::Crossing;
use crate::limits::Further;
use crate::origin::Origin;
use crate::refusal::Refusal;
use crate::relay::{Observer, Relay};
use crate::reply::Reply;
use crate::tunnel;

/// What the stages came to.
pub(super) enum Answer {
    Ours(Response<Reply>),
    /// With a tee, the cache looks on.
    Relayed(Response<tidegate_upstream::Body>, Option<Box<Tee>>),
    Kept(Kept),
    Switched(Response<()>, Crossing, tidegate_upstream::Switched),
    /// Relayed to a browser that speaks gRPC-Web.
    Web(Box<Response<Back>>),
}

impl Answer {
    pub(super) fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Ours(response) => response.headers_mut(),
            Self::Relayed(response, _) => response.headers_mut(),
            Self::Kept(kept) => kept.response.headers_mut(),
            Self::Switched(response, ..) => response.headers_mut(),
            Self::Web(response) => response.headers_mut(),
        }
    }

    /// What of it is said when it goes out: its status, its head, and how long it is, where that is known.
    pub(super) fn told(&mut self) -> Option<(StatusCode, &mut HeaderMap, Option<u64>)> {
        Some(match self {
            Self::Ours(response) => (response.status(), length(response.body()), response.headers_mut()),
            Self::Relayed(response, _) => (response.status(), length(response.body()), response.headers_mut()),
            Self::Kept(kept) => (kept.response.status(), length(kept.response.body()), kept.response.headers_mut()),
            Self::Switched(..) | Self::Web(_) => return None,
        })
        .map(|(status, length, headers)| (status, headers, length))
    }

    /// HTTP/1.1: the connection ends with this answer.
    #[cold]
    pub(super) fn be_the_last(&mut self) {
        if !matches!(self, Self::Switched(..)) {
            self.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// The observer goes where the last byte goes.
    pub(super) fn with(self, mut observer: Box<Observer>, client: &Client, method: &Method) -> Response<Reply> {
        match self {
            Self::Ours(response) => {
                observer.record.status = response.status().as_u16();
                response.map(|reply| reply.observed(observer, method))
            }
            Self::Relayed(response, tee) => {
                observer.record.status = response.status().as_u16();
                response.map(|body| Reply::Relayed(Relay::new(body, tee, observer)))
            }
            Self::Web(response) => {
                observer.record.status = response.status().as_u16();
                response.map(|back| Reply::Relayed(Relay::web(back, observer)))
            }
            Self::Kept(Kept { response, kind, .. }) => {
                observer.record.status = response.status().as_u16();
                observer.record.cache = Some(kind);
                response.map(|body| Reply::kept(body, observer, method))
            }
            Self::Switched(response, client_side, upstream) => {
                observer.record.status = response.status().as_u16();
                let (silence, draining) = (client.gate.bounds.tunnel_timeout, client.draining.clone());
                tokio::spawn(tunnel::run(client_side, upstream, observer, silence, draining));
                response.map(|()| Reply::empty())
            }
        }
    }
}

fn length(body: &impl Body) -> Option<u64> {
    body.size_hint().exact()
}

/// Notes who answered, or why nobody did.
pub(super) fn answered(
    outcome: Result<tidegate_upstream::Answer, CallFailed>,
    switch: Option<Switch>,
    record: &mut Record,
    mut further: Further<'_>,
) -> Result<Answer, Refusal> {
    further.tell(record);
    let answer = outcome.map_err(|why| {
        if let Some((last, attempts)) = further.vain() {
            record.endpoint = Some(last);
            record.attempts = attempts;
        }
        record.detail = Some(why.to_string().into());
        forward::failed(&why)
    })?;
    record.endpoint = Some(answer.endpoint);
    record.attempts = answer.attempts;
    record.connect = answer.connect;
    record.first_byte = Some(answer.first_byte);
    received(answer.response, switch)
}

/// The upstream's answer, without what concerned its connection to us.
fn received(mut response: Response<tidegate_upstream::Body>, switch: Option<Switch>) -> Result<Answer, Refusal> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let chosen = if switches { only(response.headers()) } else { None };
    let wanted = if response.status() == StatusCode::UPGRADE_REQUIRED { only(response.headers()) } else { None };
    response = forward::without_hops(response);
    if let Some(wanted) = wanted {
        forward::upgrade(response.headers_mut(), wanted); // RFC 9110 § 15.5.22
    }
    if !switches && switch.as_ref().is_some_and(Switch::is_extended) && response.status().is_success() {
        return Err(Refusal::UpstreamInvalid); // A success would say that there is a tunnel.
    }
    if !switches {
        return Ok(Answer::Relayed(response, None));
    }
    let (Some(switch), Some(upstream_side)) = (switch, response.extensions_mut().remove()) else {
        return Err(Refusal::UpstreamInvalid);
    };
    let Some(chosen) = chosen.filter(|chosen| switch.is_what_was_asked(chosen)) else {
        return Err(Refusal::UpstreamInvalid);
    };
    if switch.is_extended() {
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT); // To a key of ours.
    } else {
        forward::upgrade(response.headers_mut(), chosen);
    }
    Ok(Answer::Switched(response.map(drop), switch.client_side, upstream_side))
}

/// What `Upgrade` says, once.
fn only(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(UPGRADE).iter();
    lines.next().filter(|_| lines.next().is_none()).cloned()
}

pub(super) fn told_to_a_browser(response: Response<tidegate_upstream::Body>, speech: Speech) -> Answer {
    let (mut head, body) = response.into_parts();
    match web::back(&mut head.headers, speech) {
        true => Answer::Web(Box::new(Response::from_parts(head, Back::new(body, speech)))),
        false => Answer::Relayed(Response::from_parts(head, body), None),
    }
}

/// What is stored; or a refusal, for who wants nothing else, with what the cache says of it.
pub(super) fn of_the_cache(kept: Kept, origin: &Origin, observer: &mut Observer) -> Answer {
    if kept.kind != Cached::OnlyIfCached {
        return Answer::Kept(kept);
    }
    observer.record.cache = Some(kept.kind);
    let mut response = refused(&Refusal::OnlyIfCached, origin, observer);
    response.headers_mut().extend(kept.response.into_parts().0.headers);
    Answer::Ours(response)
}
