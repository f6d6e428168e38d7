//! Who is asking, and may they. A key names a consumer; the document says whether that consumer (still) exists. A token may
//! name one, and says more.

mod token;

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use tidegate_auth::token::Token;
use tidegate_auth::{Presented, Rejected, presented};
use tidegate_model::KeyId;
use tidegate_policy::{Attached, AuthScheme, Consumer, Route, Snapshot, TokenPlace};

use crate::gate::Gate;
use crate::refusal::Refusal;

/// By what.
#[derive(Debug, Clone)]
enum Proof {
    Key(KeyId),
    Token(Arc<Token>),
}

/// A caller who proved it.
#[derive(Debug, Clone)]
pub(crate) struct Caller<'s> {
    proof: Proof,
    /// `None`: the token names none of the document.
    pub(crate) consumer: Option<&'s Consumer>,
    /// Its place in the snapshot's list. Short, as the next.
    at: Option<u32>,
    /// Of its key's own plan, if it has one: the plan's place in the snapshot's list. Short: it goes along with the request.
    own_plan: Option<u32>,
}

impl<'s> Caller<'s> {
    pub(crate) fn key(&self) -> Option<KeyId> {
        match self.proof {
            Proof::Key(key) => Some(key),
            Proof::Token(_) => None,
        }
    }

    pub(crate) fn token(&self) -> Option<&Arc<Token>> {
        match &self.proof {
            Proof::Key(_) => None,
            Proof::Token(token) => Some(token),
        }
    }

    /// Its consumer's place in the snapshot's list.
    pub(crate) fn at(&self) -> Option<usize> {
        self.at.map(|at| at as usize)
    }

    fn own_plan(&self) -> Option<usize> {
        self.own_plan.map(|at| at as usize)
    }

    /// The plan it calls on: its key's, or else its consumer's.
    pub(crate) fn plan(&self) -> Option<usize> {
        self.own_plan().or(self.consumer?.limits.plan_at)
    }

    /// What that plan asks for.
    pub(crate) fn plan_limits(&self, snapshot: &'s Snapshot) -> &'s [Attached] {
        match self.own_plan() {
            Some(at) => snapshot.plans.get(at).map_or(&[], |plan| &plan.limits),
            None => self.consumer.map_or(&[], |consumer| &consumer.limits.plan),
        }
    }

    /// Who shares what is kept of answers to it. A token's callers share less than their consumer: one application calls for
    /// many people.
    pub(crate) fn home(&self) -> &str {
        match (self.token(), self.consumer) {
            (Some(token), _) => &token.home,
            (None, consumer) => consumer.map_or("", |consumer| &consumer.name),
        }
    }

    /// Is the `Authorization` that it sent meant for us alone?
    pub(crate) fn took(&self, authorization: &[u8]) -> bool {
        let bearer = authorization.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        bearer
            && self
                .token()
                .is_none_or(|token| !token.issuer.forward && token.issuer.places.contains(&TokenPlace::Bearer))
    }

    /// The query without what was meant for us; `None`: there is nothing of it in there.
    pub(crate) fn shed_query(&self, query: &str) -> Option<String> {
        match self.token() {
            None => tidegate_auth::strip_query(query),
            Some(token) if token.issuer.forward => None,
            Some(token) => tidegate_auth::token::strip_token_query(query, &token.issuer.places),
        }
    }

    /// Takes off what was meant for us, and puts on what the upstream reads of a token: once more, since a client may have
    /// named those headers as ones of its connection.
    pub(crate) fn shed(&self, headers: &mut HeaderMap) {
        let Some(token) = self.token() else { return tidegate_auth::strip_headers(headers) };
        if !token.issuer.forward {
            tidegate_auth::token::strip(headers, &token.issuer.places);
        }
        token::tell(token, headers);
    }
}

/// Who it is, or a wait for what tells.
pub(crate) enum Who<'s> {
    /// `None`: the route asks for nobody; what the request carries is then the upstream's business.
    Is(Option<Caller<'s>>),
    /// The keys of a token's issuer are on their way: ask [`late`] then.
    Waits(Pin<Box<dyn Future<Output = ()> + Send>>),
}

pub(crate) fn caller<'s>(
    gate: &Gate,
    snapshot: &'s Snapshot,
    route: &Route,
    parts: &mut Parts,
) -> Result<Who<'s>, Refusal> {
    if !route.claim_headers.is_empty() {
        token::forget(&route.claim_headers, &mut parts.headers);
    }
    match route.auth.as_slice() {
        [] => Ok(Who::Is(None)),
        [AuthScheme::Key] => by_key(gate, snapshot, presented(parts)).map(|caller| Who::Is(Some(caller))),
        schemes => token::caller(gate, snapshot, route, schemes, parts, false),
    }
}

/// As [`caller`], after the wait.
#[cold]
pub(crate) async fn late<'s>(
    gate: &Gate,
    snapshot: &'s Snapshot,
    route: &Route,
    parts: &mut Parts,
    wait: Pin<Box<dyn Future<Output = ()> + Send>>,
) -> Result<Option<Caller<'s>>, Refusal> {
    wait.await;
    match token::caller(gate, snapshot, route, &route.auth, parts, true)? {
        Who::Is(caller) => Ok(caller),
        Who::Waits(_) => Err(Refusal::Fault),
    }
}

fn by_key<'s>(
    gate: &Gate,
    snapshot: &'s Snapshot,
    presented: Result<Option<Presented<'_>>, tidegate_auth::Conflict>,
) -> Result<Caller<'s>, Refusal> {
    if gate.keys_stale.load(Ordering::Relaxed) {
        return Err(Refusal::KeysStale);
    }
    let presented = presented.map_err(|_| Refusal::KeyConflict)?.ok_or(Refusal::KeyMissing)?;
    let now = tidegate_clock::wall().0 / 1_000_000;
    let found = gate.keys.look_up(&presented.secret, now, |entry| {
        let plan = entry.plan.as_ref().map(|plan| snapshot.plans.position(plan));
        (entry.id, snapshot.consumers.position(&entry.tenant, &entry.consumer), plan)
    });
    let (key, at, plan) = found.map_err(|why| match why {
        Rejected::Unknown => Refusal::KeyUnknown,
        Rejected::Expired => Refusal::KeyExpired,
        Rejected::Revoked => Refusal::KeyRevoked,
    })?;
    let at = at.ok_or(Refusal::KeyWithoutConsumer)?;
    // A key of a plan that is gone must not fall back on a larger one.
    let own_plan =
        plan.map(|at| at.and_then(|at| u32::try_from(at).ok()).ok_or(Refusal::KeyWithoutPlan)).transpose()?;
    let consumer = Some(&*snapshot.consumers[at]);
    Ok(Caller { proof: Proof::Key(key), consumer, at: u32::try_from(at).ok(), own_plan })
}

/// Keys of one tenant do not open another's routes, and products are for callers on their plans.
pub(crate) fn may(route: &Route, caller: Option<&Caller<'_>>) -> Result<(), Refusal> {
    match caller {
        Some(Caller { consumer: Some(consumer), .. }) if *consumer.tenant != *route.tenant => Err(Refusal::KeyUnknown),
        Some(Caller { proof: Proof::Token(token), .. }) if !token.meets(&route.claims) => {
            Err(Refusal::ClaimsInsufficient)
        }
        _ if route.limits.by_plan.is_empty() => Ok(()),
        _ => {
            let plan = caller.map_or(route.limits.anonymous_plan, Caller::plan);
            route.limits.of_plan(plan).map(|_| ()).ok_or(Refusal::NotSubscribed)
        }
    }
}

/// `Authorization` as the origin gets it, and the query as it is passed on.
pub(crate) fn beyond<'p>(parts: &'p Parts, caller: Option<&Caller<'_>>) -> (Option<&'p [u8]>, Option<Cow<'p, str>>) {
    let credentials = parts.headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes);
    let sent = parts.uri.query();
    let shed = sent.and_then(|query| caller?.shed_query(query)).map(Cow::Owned);
    let query = shed.or(sent.map(Cow::Borrowed)).filter(|query| !query.is_empty() || sent == Some(""));
    (credentials.filter(|value| caller.is_none_or(|caller| !caller.took(value))), query)
}
