//! The stage between who may ask and who is asked: what is stored, and what becomes of an upstream's answer.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, Response};
use http_body_util::Empty;
use tidegate_cache::{Answer, Ask, Cache, Fetch, Forward, Glance, Kind, Lookup, Next, Report, Spot, Tee};
use tidegate_policy::{Cache as Policy, Matched, Rewrite, Route, Snapshot, Timeouts, Upstream};
use tidegate_telemetry::Cached;
use tidegate_upstream::{Call, CallFailed, Upstreams};

use crate::forward::{self, Incoming, Switch};
use crate::gate::Gate;
use crate::head::Host;
use crate::identify::{self, Caller};
use crate::inbound::{Broken, Inbound};
use crate::origin::Origin;
use crate::refusal::Refusal;

/// An answer from the cache.
pub(crate) struct Kept {
    pub(crate) response: Response<tidegate_cache::Body>,
    /// For the record.
    pub(crate) kind: Cached,
    /// Where it is found the next time, if everybody may have it.
    pub(crate) spot: Option<Spot>,
}

impl From<Answer> for Kept {
    fn from(Answer { response, kind, spot }: Answer) -> Self {
        let kind = match kind {
            Kind::Hit => Cached::Hit,
            Kind::Stale => Cached::Stale,
            Kind::StandIn => Cached::StandIn,
            Kind::Revalidated => Cached::Revalidated,
            Kind::Collapsed => Cached::Collapsed,
            Kind::OnlyIfCached => Cached::OnlyIfCached,
        };
        Self { response, kind, spot }
    }
}

/// Why the upstream is asked, for the record.
pub(crate) fn reason(fetch: Option<&Fetch>) -> Cached {
    match fetch.map(Fetch::why) {
        None | Some(Forward::Bypass | Forward::Method) => Cached::Bypass,
        Some(Forward::UriMiss) => Cached::Miss,
        Some(Forward::VaryMiss) => Cached::VaryMiss,
        Some(Forward::Request) => Cached::Requested,
        Some(Forward::Stale) => Cached::Expired,
        Some(Forward::Partial) => Cached::Partial,
    }
}

/// Where a request goes on.
pub(crate) enum Way {
    /// There is the answer.
    Kept(Kept),
    /// There is the answer, and what is stored is to be fetched anew, for the next.
    Refresh(Kept, Box<Fetch>),
    /// To the upstream, and back to the cache.
    Fetch(Box<Fetch>),
    /// To the upstream. The report is for who debugs.
    Pass(Box<Report>),
}

/// Reads the body of a POST whose answer may be kept. `None`: the body is not looked at.
pub(crate) async fn read_post(inbound: &mut Inbound, most: u64) -> Result<Option<Bytes>, Refusal> {
    // What says that it is longer need not be read to know it.
    if http_body::Body::size_hint(inbound).lower() > most {
        return Ok(None);
    }
    inbound.read_ahead(most).await.map_err(Broken::refusal)
}

/// How long a body may be that this request is looked up by. `None`: by its head alone.
pub(crate) fn posts(gate: &Gate, route: &Route, parts: &Parts, switch: Option<&Switch>) -> Option<u64> {
    let policy = route.cache.as_ref().filter(|_| gate.cache.is_some() && switch.is_none())?;
    policy.post.filter(|_| parts.method == Method::POST)
}

/// The first look, which never waits. `None`: the route keeps nothing.
#[expect(clippy::too_many_arguments, reason = "what a key is made of")]
pub(crate) fn look(
    gate: &Gate,
    matched: &Matched<'_>,
    host: &Host,
    origin: &Origin,
    caller: Option<&Caller<'_>>,
    parts: &Parts,
    switch: Option<&Switch>,
    body: Option<&[u8]>,
) -> Option<Glance> {
    let (cache, policy) = (gate.cache.as_ref()?, matched.route.cache.as_ref()?);
    if switch.is_some() {
        return None;
    }
    Some(ask(cache, policy, matched, host, origin, caller, parts, body))
}

#[expect(clippy::too_many_arguments, reason = "as above")]
fn ask(
    cache: &Arc<Cache>,
    policy: &Arc<Policy>,
    matched: &Matched<'_>,
    host: &Host,
    origin: &Origin,
    caller: Option<&Caller<'_>>,
    parts: &Parts,
    body: Option<&[u8]>,
) -> Glance {
    // What is ours to check goes no further than here.
    let (credentials, query) = identify::beyond(parts, caller);
    let (authority, own_port) = host.authority(origin.port);
    cache.glance(&Ask {
        policy,
        tenant: &matched.route.tenant,
        route: &matched.route.id,
        secure: origin.secure,
        host: &host.name(),
        authority,
        own_port,
        // As it is passed on: however it is spelled, it is one thing, and a purge names it so.
        path: matched.path.as_deref().unwrap_or_else(|| parts.uri.path()),
        query: query.as_deref(),
        method: &parts.method,
        headers: &parts.headers,
        body,
        consumer: caller.map(Caller::home),
        credentials,
    })
}

/// Is it answered already, so that limits that do not count hits need not be asked?
pub(crate) fn is_hit(glance: Option<&Glance>) -> bool {
    matches!(glance, Some(Glance::Done(Lookup::Answer(_) | Lookup::Refresh(..))))
}

/// As [`is_hit`], of a look that was taken.
pub(crate) fn is_hit_now(glance: &Glance) -> bool {
    matches!(glance, Glance::Done(Lookup::Answer(answer)) if answer.kind != Kind::OnlyIfCached)
}

/// The answer from memory, if that is all there is to do. Most hits end here.
pub(crate) fn at_once(glance: &mut Option<Glance>) -> Option<Kept> {
    match glance.take() {
        Some(Glance::Done(Lookup::Answer(answer))) => Some((*answer).into()),
        other => {
            *glance = other;
            None
        }
    }
}

/// The wait, if there is something to wait for.
pub(crate) async fn settle(glance: Glance) -> Way {
    let lookup = match glance {
        Glance::Done(lookup) => lookup,
        Glance::Wait(pending) => pending.wait().await,
    };
    match lookup {
        Lookup::Answer(answer) => Way::Kept((*answer).into()),
        Lookup::Refresh(answer, fetch) => Way::Refresh((*answer).into(), fetch),
        Lookup::Fetch(fetch) => Way::Fetch(fetch),
        Lookup::Pass(report) => Way::Pass(report),
    }
}

/// What comes back from the cache of an upstream's answer.
pub(crate) enum Back {
    Relay(Response<tidegate_upstream::Body>, Option<Box<Tee>>),
    Kept(Kept),
}

/// A request that can be sent again: it has no body.
pub(crate) struct Spare {
    upstream: Arc<Upstream>,
    head: Request<()>,
    timeouts: Timeouts,
}

impl Spare {
    /// Of a request as it goes out.
    pub(crate) fn of<B>(upstream: &Arc<Upstream>, request: &Request<B>, timeouts: Timeouts) -> Box<Self> {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.headers_mut() = request.headers().clone();
        Box::new(Self { upstream: Arc::clone(upstream), head, timeouts })
    }

    async fn send(&self, upstreams: &Upstreams, fetch: &Fetch) -> Result<tidegate_upstream::Answer, CallFailed> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = self.head.method().clone();
        *request.uri_mut() = self.head.uri().clone();
        *request.headers_mut() = self.head.headers().clone();
        fetch.prepare(request.headers_mut());
        upstreams.call(Call::alone(&self.upstream, request, self.timeouts)).await
    }
}

/// Hands an upstream's answer, hop-by-hop fields gone, to the fetch it was for.
pub(crate) async fn back(
    mut fetch: Box<Fetch>,
    mut response: Response<tidegate_upstream::Body>,
    spare: Option<Box<Spare>>,
    upstreams: &Upstreams,
) -> Result<Back, CallFailed> {
    loop {
        let status = response.status();
        match fetch.answered(status, response.headers_mut()) {
            Next::Relay(tee) => return Ok(Back::Relay(response, tee)),
            Next::Answer(answer) => return Ok(Back::Kept((*answer).into())),
            Next::Again(again) => {
                let Some(spare) = &spare else { return Err(CallFailed::NoEndpoint) };
                fetch = again;
                response = forward::without_hops(spare.send(upstreams, &fetch).await?.response);
            }
        }
    }
}

/// Fetches anew what was served, with nobody waiting for it.
#[expect(clippy::too_many_arguments, reason = "what makes a request, less its body")]
pub(crate) fn refresh(
    mut fetch: Box<Fetch>,
    gate: &Gate,
    snapshot: &Snapshot,
    upstream: &Arc<Upstream>,
    route: &Route,
    rewrite: &Rewrite,
    incoming: &Incoming<'_>,
    parts: &Parts,
) -> Result<(), Refusal> {
    let mut head = Request::new(());
    *head.method_mut() = Method::GET;
    *head.uri_mut() = parts.uri.clone();
    *head.headers_mut() = parts.headers.clone();
    let (mut copy, ()) = head.into_parts();
    copy.version = parts.version;
    let request = forward::request(&mut copy, (), route, rewrite, incoming, None)?;
    let forward::Taken::By(upstream) = forward::detour(&gate.upstreams, &snapshot.upstreams, upstream) else {
        return Ok(()); // Its breakers are open: what is stored goes on as long as it may.
    };
    let spare = Spare::of(upstream, &request, *route.timeouts);
    let upstreams = Arc::clone(&gate.upstreams);
    tokio::spawn(async move {
        if !fetch.claim().await {
            return;
        }
        let Ok(answer) = spare.send(&upstreams, &fetch).await else {
            drop(fetch.failed());
            return;
        };
        let response = forward::without_hops(answer.response);
        if let Ok(Back::Relay(response, Some(tee))) = back(fetch, response, Some(spare), &upstreams).await {
            let mut body = Box::pin(tidegate_cache::TeeBody::new(response.into_body(), tee));
            while let Some(Ok(_)) = std::future::poll_fn(|cx| http_body::Body::poll_frame(body.as_mut(), cx)).await {}
        }
    });
    Ok(())
}
