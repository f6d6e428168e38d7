//! All limits of a call, admitted at once: the route's, then those of the consumer's plan.

use std::iter;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderMap;
use smallvec::SmallVec;
use tidegate_limiter::{Ask, Limiter, Permit, Refused, Standing, Why};
use tidegate_model::Permits;
use tidegate_policy::{Dimension, Limit, Route, Snapshot};
use tidegate_telemetry as telemetry;
use tidegate_upstream::Again;

use crate::identify::Caller;
use crate::ratelimit::Shown;
use crate::refusal::Refusal;

/// What a limit may count by.
pub(crate) struct Scope<'a> {
    pub(crate) route: &'a Route,
    pub(crate) caller: Option<&'a Caller<'a>>,
    pub(crate) address: IpAddr,
    pub(crate) headers: &'a HeaderMap,
}

/// What was decided, for the headers and the record.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) shown: Shown,
    pub(crate) standings: telemetry::Standings,
}

/// A call hardly ever has more limits; more cost an allocation.
pub(crate) type Few<T> = SmallVec<[T; 4]>;

/// As [`Few`], for what waits with a call for its answer: a future that is moved with every request.
pub(crate) type Asked<'a> = SmallVec<[Ask<'a>; 2]>;

/// A lease of one key on a quiet node is empty after its one request: so long a further try waits for more.
const SOON: Duration = Duration::from_millis(50);

/// One request is one permit of each.
const COST: Permits = Permits(1);

/// Places in the snapshot's list. Empty when neither the route nor the caller's plan limits anything.
pub(crate) fn of(snapshot: &Snapshot, route: &Route, caller: Option<&Caller<'_>>) -> Few<usize> {
    let plan = caller.map_or(&[][..], |caller| &caller.consumer.limits);
    let mut limits = Few::new();
    for &at in route.limits.iter().chain(plan) {
        // A limit that the route and the plan both name counts once.
        if at < snapshot.limits.len() && !limits.contains(&at) {
            limits.push(at);
        }
    }
    limits
}

/// All or none. Also gives back what was asked, for [`Further`] tries.
pub(crate) async fn admit<'l, 's>(
    limiter: &'l Limiter,
    snapshot: &'s Snapshot,
    places: &[usize],
    scope: &Scope<'_>,
) -> (Result<Permit<'l>, Refusal>, Decided, Asked<'s>) {
    let limits: Few<&'s Arc<Limit>> = places.iter().filter_map(|&at| snapshot.limits.get(at)).collect();
    let asks: Few<Ask<'s>> = limits.iter().map(|limit| ask(limiter, limit, scope)).collect();
    match limiter.admit(&asks).await {
        Ok(permit) => {
            let decided = decided(places, &limits, &permit.standings(&asks), None);
            (Ok(permit), decided, asks.iter().copied().collect())
        }
        Err(refused) => {
            let decided = decided(places, &limits, &refused.standings, Some(refused.ask));
            (Err(refusal(&refused)), decided, Asked::new())
        }
    }
}

/// A further try of a request is a request: it takes of all its limits anew, soon or not at all.
pub(crate) struct Further<'a> {
    limiter: &'a Limiter,
    asks: Asked<'a>,
    request_id: &'a [u8],
    /// The endpoint tried last, and how many tries there were, if all was in vain.
    vain: OnceLock<Box<(Arc<str>, u32)>>,
}

impl<'a> Further<'a> {
    pub(crate) fn new(limiter: &'a Limiter, asks: Asked<'a>, request_id: &'a [u8]) -> Self {
        Self { limiter, asks, request_id, vain: OnceLock::new() }
    }

    pub(crate) fn vain(self) -> Option<(Arc<str>, u32)> {
        self.vain.into_inner().map(|vain| *vain)
    }
}

impl Again for Further<'_> {
    #[cold]
    fn may(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        if self.asks.is_empty() {
            return Box::pin(std::future::ready(true));
        }
        Box::pin(async {
            match tokio::time::timeout(SOON, self.limiter.admit(&self.asks)).await {
                Ok(Ok(permit)) => {
                    permit.commit(self.request_id);
                    true
                }
                Ok(Err(_)) | Err(_) => false,
            }
        })
    }

    #[cold]
    fn gave_up(&self, last: &Arc<str>, attempts: u32) {
        let _once = self.vain.set(Box::new((Arc::clone(last), attempts)));
    }
}

fn refusal(refused: &Refused) -> Refusal {
    match refused.why {
        Why::Exhausted { retry_after } => Refusal::Limited { retry_after },
        Why::TooCostly => Refusal::TooCostly,
        Why::Unavailable { retry_after } => Refusal::LimitUnavailable { retry_after },
    }
}

fn decided(places: &[usize], limits: &[&Arc<Limit>], standings: &[Standing], refused: Option<usize>) -> Decided {
    let shown = Shown::new(limits, standings);
    let verdict = |index: usize, standing: &Standing| match refused {
        Some(at) if at == index => telemetry::Verdict::Refused,
        _ if standing.would_refuse => telemetry::Verdict::WouldRefuse,
        _ if standing.unsafely => telemetry::Verdict::Unsafe,
        _ => telemetry::Verdict::Admitted,
    };
    let standings = places.iter().zip(standings).enumerate().map(|(index, (place, standing))| telemetry::Standing {
        limit: *place,
        verdict: verdict(index, standing),
        remaining: Some(standing.remaining),
    });
    Decided { shown, standings: standings.collect() }
}

fn ask<'a>(limiter: &Limiter, limit: &'a Limit, scope: &Scope<'_>) -> Ask<'a> {
    let address = Network::of(scope.address);
    let key = scope.caller.map(|caller| caller.key.0.to_be_bytes());
    let tenant = scope.caller.map_or(&*scope.route.tenant, |c| &c.consumer.tenant).as_bytes();
    let value = |dimension: &Dimension| -> &[u8] {
        match dimension {
            Dimension::Tenant => tenant,
            Dimension::Consumer => scope.caller.map_or(&[], |c| c.consumer.name.as_bytes()),
            Dimension::Key => key.as_ref().map_or(&[], |key| key.as_slice()),
            Dimension::Route => scope.route.id.as_bytes(),
            Dimension::Ip => address.bytes(),
            Dimension::Header(name) => scope.headers.get(name).map_or(&[], |v| v.as_bytes()),
        }
    };
    // The tenant is part of every counter but the cluster's own. Documents rarely name more than three dimensions; those
    // are hashed without allocating.
    let subject = match limit.per.as_slice() {
        [] => limiter.subject(limit, &[]),
        [a] => limiter.subject(limit, &[tenant, value(a)]),
        [a, b] => limiter.subject(limit, &[tenant, value(a), value(b)]),
        [a, b, c] => limiter.subject(limit, &[tenant, value(a), value(b), value(c)]),
        many => limiter.subject(limit, &iter::once(tenant).chain(many.iter().map(value)).collect::<Vec<_>>()),
    };
    Ask { limit, subject, cost: COST }
}

/// An address as limits count it: IPv4 whole, IPv6 by its /64, which is what one subscriber gets.
struct Network {
    octets: [u8; 8],
    length: usize,
}

impl Network {
    fn of(address: IpAddr) -> Self {
        let mut octets = [0; 8];
        let length = match address.to_canonical() {
            IpAddr::V4(v4) => {
                octets[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V6(v6) => {
                octets.copy_from_slice(&v6.octets()[..8]);
                8
            }
        };
        Self { octets, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_64_are_one_client() {
        let bytes = |text: &str| Network::of(text.parse().expect("an address")).bytes().to_vec();
        assert_eq!(bytes("2001:db8::1"), bytes("2001:db8::ffff:1"));
        assert_ne!(bytes("2001:db8::1"), bytes("2001:db8:0:1::1"));
        assert_eq!(bytes("::ffff:10.0.0.1"), bytes("10.0.0.1"));
        assert_ne!(bytes("10.0.0.1"), bytes("10.0.0.2"));
    }
}
