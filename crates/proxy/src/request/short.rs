//! The short way of a plain hit: a GET that wants what is stored, whole, from a route that asks nobody who he is, for a
//! target this core has answered from the cache before.
//!
//! It exists because such a request costs less than all the stages that would come to the same answer. They depend on
//! nothing but the target, the snapshot and what [`Seen`] tells; so their outcome is remembered ([`crate::familiar`]) and only
//! what may have changed is looked at: the stored response, its age, purges, the lease. Everything else goes the long way.

use http::request::Parts;
use http::{Method, Response, Version};
use tidegate_policy::{Attached, Matched, Route, Snapshot};
use tidegate_telemetry::{Cached, Record};

use super::{Bench, Dress, put_on};
use crate::cached::Kept;
use crate::connection::Client;
use crate::familiar::Sight;
use crate::headers::{Seen, X_REQUEST_ID};
use crate::local::Here;
use crate::origin::Origin;

/// `None`: it is not that simple.
pub(super) fn answer(
    client: &Client,
    here: &Here,
    parts: &Parts,
    seen: Seen,
    origin: &mut Origin,
    record: &mut Record,
) -> Option<Kept> {
    if here.familiar.is_empty() || client.gate.blocks.any() {
        return None;
    }
    let sight = sight(client, parts, seen, origin)?;
    let cache = client.gate.cache.as_ref()?;
    let snapshot = here.scene.snapshot();
    here.familiar.with(sight, |known| {
        let route = snapshot.router.routes().get(known.route)?;
        let again = cache.again(&known.spot, &parts.headers)?;
        record.route = Some(known.route);
        if record.is_logged() {
            record.host = parts.headers.get(http::header::HOST).cloned();
        }
        let tells = again.tells();
        let response = match &known.head {
            Some((said, head)) if *said == tells => {
                let mut response = Response::new(again.body());
                *response.status_mut() = again.status();
                *response.headers_mut() = head.clone();
                if let Some(id) = response.headers_mut().get_mut(X_REQUEST_ID) {
                    *id = origin.request_id.leave();
                }
                response
            }
            _ => {
                let mut response = again.answer();
                put_on(response.headers_mut(), Dress { route: Some(route), ..Dress::default() }, snapshot, origin);
                known.keep(tells, response.headers());
                response
            }
        };
        Some(Kept { response, kind: Cached::Hit, spot: None })
    })
}

/// Remembers a hit of the long way, if the next one like it may go the short way.
pub(super) fn learn(bench: &Bench<'_>, matched: &Matched<'_>, parts: &Parts, kept: &Kept) {
    let sight = sight(bench.client, parts, bench.seen, bench.origin);
    let (Some(sight), Some(spot)) = (sight, kept.spot) else { return };
    if !matched.by_headers && is_simple(matched.route, bench.snapshot) {
        bench.here.familiar.learn(sight, matched.at, spot);
    }
}

/// The request as it is recognised; `None`: it wants more than a target.
fn sight<'a>(client: &Client, parts: &'a Parts, seen: Seen, origin: &Origin) -> Option<Sight<'a>> {
    // For which names a connection in TLS may be asked is judged on the long way.
    let plain = client.promised.is_none()
        && parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && seen.hosts == 1
        && !(seen.particular || seen.framed || seen.expect || seen.upgrade || seen.via)
        && parts.headers.len() <= client.gate.bounds.headers
        && parts.uri.authority().is_none();
    if !plain {
        return None;
    }
    let (host, target) = (parts.headers.get(http::header::HOST)?, parts.uri.path_and_query()?);
    let door = (origin.port, origin.secure);
    Some(Sight { host: host.as_bytes(), target: target.as_str(), door })
}

/// Is its answer the same for whoever asks, and are its limits not asked for hits?
fn is_simple(route: &Route, snapshot: &Snapshot) -> bool {
    let keyed_by_headers = route.cache.as_ref().is_none_or(|policy| !policy.key.headers.is_empty());
    let counts_hits = |at: &Attached| snapshot.limits.get(at.limit).is_some_and(|limit| limit.count_hits);
    // Whoever proves nothing meets these; a product with plans refuses him.
    let limits = &route.limits;
    let met = limits.by_plan.is_empty() && !limits.always.iter().chain(&limits.anonymous).any(counts_hits);
    route.auth.is_empty() && route.cors.is_none() && route.compression.is_none() && !keyed_by_headers && met
}
