//! Which upstream is called, with what, and whose fault it is when that fails.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tidegate_policy::{Captured, Fallback, Rewrite, Route, Target, Upstream};
use tidegate_upstream::{Call, CallFailed, Phase, Upstreams};

use crate::connection::Client;
use crate::guest::Asker;
use crate::head::{self, Host};
use crate::headers::{self, Seen};
use crate::http1::{Crossing, Offer};
use crate::identify::Caller;
use crate::inbound::{self, Inbound};
use crate::limits::Further;
use crate::origin::{self, Origin};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::{grpc, respond, rewrite};

/// Everything about the request that the route does not say.
pub(crate) struct Incoming<'a> {
    pub(crate) client: &'a Client,
    pub(crate) origin: &'a Origin,
    pub(crate) host: &'a Host,
    pub(crate) seen: Seen,
    /// As the router matched it, when that is not as sent.
    pub(crate) path: Option<&'a str>,
    pub(crate) captures: &'a Captured<'a>,
    /// What it proved itself with was ours to check: it goes no further.
    pub(crate) caller: Option<&'a Caller<'a>>,
}

/// A switch of protocols that the client asked for.
pub(crate) struct Switch {
    pub(crate) client_side: Crossing,
    /// `None`: a WebSocket that the client asked for by h2 (RFC 8441). Its answer is a success, not a 101.
    protocol: Option<HeaderValue>,
}

/// Does the client ask to switch protocols, and may it? Other than WebSocket, an upgrade on a route that allows none is
/// ignored, as RFC 9110 § 7.8 lets us: h2c is offered by clients that do well without.
pub(crate) fn switch(parts: &mut Parts, route: &Route, seen: Seen) -> Result<Option<Switch>, Refusal> {
    if parts.version == Version::HTTP_2 && parts.extensions.get::<OnUpgrade>().is_some() && head::is_websocket(parts) {
        return extended(parts, route).map(Some);
    }
    if !seen.upgrade || parts.version != Version::HTTP_11 {
        return Ok(None);
    }
    let mut connection = parts.headers.get_all(CONNECTION).iter();
    if !connection.any(|line| headers::has_token(line, "upgrade")) {
        return Ok(None);
    }
    let Some(protocol) = parts.headers.get(UPGRADE).cloned() else { return Ok(None) };
    if !route.upgrade {
        return if headers::has_token(&protocol, "websocket") { Err(Refusal::UpgradeNotAllowed) } else { Ok(None) };
    }
    if headers::has_token(&protocol, "h2c") {
        return Ok(None);
    }
    let client_side = parts.extensions.remove::<Offer>().and_then(|offer| offer.take());
    Ok(client_side.map(|client_side| Switch { client_side, protocol: Some(protocol) }))
}

/// A WebSocket over h2: towards the upstream it becomes one over HTTP/1.1, with the key that h2 has none of.
#[cold]
fn extended(parts: &mut Parts, route: &Route) -> Result<Switch, Refusal> {
    if !route.upgrade {
        return Err(Refusal::UpgradeNotAllowed);
    }
    let client_side = parts.extensions.remove::<OnUpgrade>().map(Crossing::Hyper).ok_or(Refusal::Malformed)?;
    let key = [draw().to_be_bytes(), draw().to_be_bytes()].concat();
    let key = HeaderValue::try_from(BASE64.encode(key)).map_err(|_| Refusal::Fault)?;
    parts.headers.insert(SEC_WEBSOCKET_KEY, key);
    Ok(Switch { client_side, protocol: None })
}

/// The request as it is sent: edited in place, nothing copied that can move.
pub(crate) fn request<B>(
    parts: &mut Parts,
    body: B,
    route: &Route,
    to: &Rewrite,
    incoming: &Incoming<'_>,
    switch: Option<&Switch>,
) -> Result<Request<B>, Refusal> {
    let sent = parts.uri.path_and_query().ok_or(Refusal::InvalidPath)?;
    let query = incoming.caller.and_then(|caller| caller.shed_query(sent.query()?));
    if let Some(uri) = rewrite::target(to, sent, incoming.path, incoming.captures, query.as_deref())? {
        parts.uri = uri;
    }
    let version = parts.version;
    let headers = &mut parts.headers;
    if version >= Version::HTTP_2 && headers.len() != headers.keys_len() && !headers::mend(headers) {
        return Err(Refusal::AmbiguousFraming);
    }
    let _few = headers.try_reserve(origin::STAMPS);
    headers::strip_hop_by_hop(headers, incoming.seen);
    if incoming.seen.expect {
        headers.remove(EXPECT); // Kept between us and the client: 100 is sent when the body is first wanted.
    }
    if incoming.seen.internal {
        headers::strip_internal(headers);
    }
    if let Some(caller) = incoming.caller {
        caller.shed(headers);
    }
    origin::stamp(headers, incoming.origin, incoming.client, incoming.host, version, incoming.seen);
    if let Some(host) = &to.host {
        headers.insert(HOST, HeaderValue::try_from(host).map_err(|_| Refusal::Fault)?);
    }
    rewrite::edit(headers, &route.request_headers);
    if let Some(switch) = switch {
        switch.ask(headers);
    }
    if incoming.seen.underscores {
        headers::strip_aliases(headers, &route.claim_headers);
    }
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = std::mem::take(&mut parts.uri);
    *request.headers_mut() = std::mem::take(&mut parts.headers);
    Ok(request)
}

const WEBSOCKET: &str = "websocket";

impl Switch {
    pub(crate) fn is_extended(&self) -> bool {
        self.protocol.is_none()
    }

    /// Is this the protocol, or one of those, that the client asked for (RFC 9110 § 7.8)?
    pub(crate) fn is_what_was_asked(&self, chosen: &HeaderValue) -> bool {
        let Some(chosen) = chosen.to_str().ok().map(str::trim).filter(|chosen| !chosen.is_empty()) else {
            return false;
        };
        match &self.protocol {
            Some(protocol) => headers::has_token(protocol, chosen),
            None => chosen.eq_ignore_ascii_case(WEBSOCKET),
        }
    }

    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        upgrade(headers, self.protocol.clone().unwrap_or(HeaderValue::from_static(WEBSOCKET)));
    }
}

/// Names what is to be spoken on this connection.
pub(crate) fn upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

pub(crate) fn call<'a>(
    upstream: &'a Arc<Upstream>,
    mut request: Request<Inbound>,
    incoming: &Incoming<'_>,
    upgrade: bool,
    further: &'a Further<'_>,
    asker: Asker<'_>,
) -> Call<'a, Inbound> {
    let guest = asker.guest(upstream, request.headers());
    // A client of gRPC may wait for the first message of an answer before it sends one, and be silent for as long as it likes.
    let talks = incoming.seen.grpc.is_some() && upstream.may_speak_http2();
    if talks {
        request.body_mut().comes_at_any_rate();
    }
    let mut timeouts = *asker.route.timeouts;
    if let Some(deadline) = incoming.seen.grpc.and_then(|_| grpc::deadline(request.headers())) {
        let total = timeouts.total.or(upstream.timeouts.total);
        timeouts.total = Some(total.map_or(deadline, |total| total.min(deadline)));
    }
    if upstream.announce.is_some() {
        request.extensions_mut().insert(Arc::new(incoming.client.whom));
    }
    let eager = upgrade || talks;
    let interim = asker.route.early_hints;
    Call { upstream, request, timeouts, upgrade, interim, eager, admitted: true, guest, again: Some(further) }
}

/// By weight, independently for each request: no node needs to know what another chose. The target's place.
pub(crate) fn choose(to: &[Target]) -> Option<usize> {
    if to.len() == 1 {
        return Some(0);
    }
    let total: u64 = to.iter().map(|t| u64::from(t.weight)).sum();
    let mut at = draw().checked_rem(total)?;
    to.iter().position(|target| {
        let weight = u64::from(target.weight);
        let found = at < weight;
        at = at.saturating_sub(weight);
        found
    })
}

thread_local! {
    static DICE: Cell<u64> = Cell::new(std::hash::RandomState::new().hash_one(0_u8));
}

/// splitmix64: good enough to spread requests, and nobody gains by guessing it.
pub(crate) fn draw() -> u64 {
    let state = DICE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    DICE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// An answer without what concerned its connection to us.
pub(crate) fn without_hops<B>(mut response: Response<B>) -> Response<B> {
    let seen = headers::survey(response.headers());
    headers::strip_hop_by_hop(response.headers_mut(), seen);
    if seen.te {
        response.headers_mut().remove(TE); // Requests alone have it.
    }
    if response.status() == StatusCode::NO_CONTENT {
        response.headers_mut().remove(CONTENT_LENGTH); // RFC 9110 § 8.6
    }
    response
}

/// Who takes the request when breakers are open.
pub(crate) enum Taken<'a> {
    By(&'a Arc<Upstream>),
    /// Nobody: this is the answer.
    Answered(Response<Reply>),
}

/// Where a fallback stands ready, a request waits for the verdict about its upstream before it goes either way.
pub(crate) fn verdict<'a>(
    upstreams: &'a Upstreams,
    first: &'a Arc<Upstream>,
) -> Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>> {
    let falls_back = first.breaker.as_ref().is_some_and(|rules| rules.fallback.is_some());
    (falls_back && upstreams.is_held(first)).then(|| Box::pin(upstreams.held(first)) as _)
}

/// The upstream, or while its breakers are open what the document has instead. (What a cache still holds belongs here,
/// before the fallbacks.) Without any the call itself says no.
pub(crate) fn detour<'a>(upstreams: &Upstreams, all: &'a [Arc<Upstream>], first: &'a Arc<Upstream>) -> Taken<'a> {
    let mut upstream = first;
    loop {
        let Some(fallback) = upstream.breaker.as_ref().and_then(|rules| rules.fallback.as_ref()) else {
            return Taken::By(upstream);
        };
        if upstreams.admits(upstream) {
            return Taken::By(upstream);
        }
        match fallback {
            Fallback::Respond { status, headers, body } => {
                return Taken::Answered(respond::fixed(*status, headers, body));
            }
            // `compile` saw to it that this ends.
            Fallback::Upstream(name) => match all.iter().find(|other| other.id == *name) {
                Some(other) => upstream = other,
                None => return Taken::By(upstream),
            },
        }
    }
}

pub(crate) fn failed(why: &CallFailed) -> Refusal {
    match why {
        CallFailed::NoEndpoint => Refusal::NoEndpoint,
        CallFailed::Open { retry_after } => Refusal::BreakerOpen { retry_after: *retry_after },
        CallFailed::Connect(_) | CallFailed::Timeout(Phase::Connect) => Refusal::UpstreamConnect,
        CallFailed::Timeout(Phase::RequestIdle) => Refusal::BodyTimeout,
        CallFailed::Timeout(Phase::FirstByte | Phase::Total | Phase::Idle) => Refusal::UpstreamTimeout,
        CallFailed::Reset(_) => Refusal::UpstreamReset,
        CallFailed::TooBusy => Refusal::UpstreamBusy,
        CallFailed::Shed(_) => Refusal::UpstreamOverloaded,
        CallFailed::RequestBody(why) => {
            why.downcast_ref::<inbound::Broken>().map_or(Refusal::BodyBroken, |broken| broken.refusal())
        }
        CallFailed::BadResponse(_) => Refusal::UpstreamInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dice_are_fair_enough() {
        let mut counts = [0_u32; 20];
        for _ in 0..20_000 {
            counts[(draw() % 20) as usize] += 1;
        }
        assert!(counts.iter().all(|&n| (800..1_200).contains(&n)), "{counts:?}");
    }
}
