//! The way of a request whose route keeps responses: to what is stored, or to the upstream with the cache looking on.
//! What may be stored and for how long is `tidegate-cache`'s to say.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Response};
use tidegate_cache::{Changed, Glance};
use tidegate_limiter::Permit;
use tidegate_policy::{Rewrite, Route, Upstream};

use super::{Answer, Bench, answered, of_the_cache, poll_while};
use crate::cached::{self, Back, Spare, Way};
use crate::charge::Charge;
use crate::forward::{self, Incoming, Taken};
use crate::guest::Asker;
use crate::inbound::Inbound;
use crate::limits::{self, Further};
use crate::received::Received;
use crate::refusal::Refusal;
use crate::relay::Observer;
use crate::unpack;

/// A request of a route that keeps responses, and what its limits gave.
pub(super) struct Trip<'a, 'b> {
    pub(super) bench: &'b Bench<'a>,
    pub(super) route: &'b Route,
    pub(super) rewrite: &'b Rewrite,
    pub(super) incoming: &'b Incoming<'b>,
    pub(super) upstream: &'b Arc<Upstream>,
    pub(super) request_id: &'a [u8],
}

/// The body: as it comes, or read ahead.
pub(super) struct Coming<'b> {
    pub(super) ahead: Option<Box<Inbound>>,
    pub(super) rest: &'b mut Option<Received>,
}

pub(super) struct Counted<'a> {
    pub(super) permit: Option<Permit<'a>>,
    pub(super) asks: limits::Asked<'a>,
}

impl<'a> Trip<'a, '_> {
    /// To what is stored, or to the upstream with the cache looking on. Boxed by who calls: most routes never come here.
    pub(super) async fn through_the_cache(
        self,
        glance: Glance,
        parts: &mut Parts,
        coming: Coming<'_>,
        observer: &mut Observer,
        counted: Counted<'a>,
        target: usize,
    ) -> Result<Answer, Refusal> {
        let (gate, route) = (self.bench.gate, self.route);
        let Counted { permit, asks } = counted;
        if let Some(permit) = permit {
            observer.charge = Charge::of(permit.commit(self.request_id), &asks);
        }
        let way = cached::settle(glance).await;
        let (fetch, report) = match way {
            Way::Kept(kept) => return Ok(of_the_cache(kept, self.bench.origin, observer)),
            Way::Refresh(kept, fetch) => {
                let snapshot = self.bench.snapshot;
                let (upstream, incoming) = (self.upstream, self.incoming);
                // What is served is good whether or not the next is fetched.
                let _best_effort =
                    cached::refresh(fetch, gate, snapshot, upstream, route, self.rewrite, incoming, parts);
                return Ok(Answer::Kept(kept));
            }
            Way::Fetch(mut fetch) => {
                fetch.may_stand_in(self.upstream.breaker.as_ref().and_then(|rules| rules.stored));
                (Some(fetch), None)
            }
            Way::Pass(report) => (None, Some(report)),
        };
        observer.record.cache = Some(cached::reason(fetch.as_deref()));
        observer.record.towards = Some(target);
        observer.record.asks(&mut parts.headers, forward::draw);
        if let Some(verdict) = forward::verdict(&gate.upstreams, self.upstream) {
            verdict.await;
        }
        let upstream = match forward::detour(&gate.upstreams, &self.bench.snapshot.upstreams, self.upstream) {
            Taken::By(upstream) => upstream,
            Taken::Answered(answer) => {
                let stands_in = fetch.and_then(|fetch| fetch.failed());
                return Ok(stands_in.map_or(Answer::Ours(answer), |stored| Answer::Kept(stored.into())));
            }
        };
        let body = match coming {
            Coming { ahead: Some(body), .. } => *body,
            Coming { rest, .. } => {
                let Some(body) = rest.take() else { return Err(Refusal::Fault) };
                unpack::inbound(body, route, self.bench.client.clone(), &mut parts.headers)?
            }
        };
        observer.tally = observer.tally.take().or_else(|| body.tally());
        let (method, sent) = (parts.method.clone(), parts.uri.path_and_query().cloned());
        let mut request = forward::request(parts, body, route, self.rewrite, self.incoming, None)?;
        let mut spare = None;
        if let Some(fetch) = &fetch {
            if fetch.asks_to_confirm() {
                spare = Some(Spare::of(upstream, &request, *route.timeouts));
            }
            fetch.prepare(request.headers_mut());
        }
        let further = Further::new(&gate.limiter, asks, self.request_id).traced(&observer.record);
        let asker =
            Asker { snapshot: self.bench.snapshot, route, caller: self.incoming.caller, origin: self.bench.origin };
        let call = forward::call(upstream, request, self.incoming, false, &further, asker);
        let outcome = {
            let mut call = pin!(gate.upstreams.call(call));
            poll_fn(|cx| poll_while(&mut observer.charge, observer.tally.as_deref(), call.as_mut(), cx)).await?
        };
        let relayed = match answered(outcome, None, &mut observer.record, further) {
            Ok(Answer::Relayed(response, _)) => response,
            Ok(other) => return Ok(other),
            Err(refusal) => {
                let stands_in = fetch.and_then(|fetch| fetch.failed());
                return stands_in.map(|stored| Answer::Kept(stored.into())).ok_or(refusal);
            }
        };
        let Some(fetch) = fetch else {
            let mut response = relayed;
            self.void(&method, sent.as_ref(), &response);
            if let Some(report) = report {
                report.put(response.headers_mut());
            }
            return Ok(Answer::Relayed(response, None));
        };
        match cached::back(fetch, relayed, spare, &gate.upstreams).await {
            Ok(Back::Relay(response, tee)) => Ok(Answer::Relayed(response, tee)),
            Ok(Back::Kept(kept)) => Ok(Answer::Kept(kept)),
            Err(why) => Err(forward::failed(&why)),
        }
    }
    /// What an unsafe request changed is no longer as it is stored.
    fn void(&self, method: &Method, sent: Option<&PathAndQuery>, response: &Response<tidegate_upstream::Body>) {
        let (gate, route) = (self.bench.gate, self.route);
        // Where answers to POST are kept, POST asks and changes nothing.
        let asks = *method == Method::POST && route.cache.as_ref().is_some_and(|cache| cache.post.is_some());
        if let (Some(cache), Some(sent), false) = (&gate.cache, sent, asks) {
            let (host, status) = (self.incoming.host.name(), response.status());
            let sent = Changed { tenant: &route.tenant, host: &host, target: sent.as_str(), method };
            cache.changed(&sent, route.cache.as_deref(), status, response.headers());
        }
    }
}
