//! Callers who prove who they are by a token. What is in it is believed when its issuer's key has signed it, and not before.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::TRAILER;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_auth::presented;
use tidegate_auth::token::{Invalid, Token, find, looks_like_one};
use tidegate_policy::{AuthScheme, Issuer, Route, Snapshot, Stranger, TokenPlace};

use super::{Caller, Who, by_key};
use crate::gate::Gate;
use crate::issuers::Proof;
use crate::refusal::Refusal;

/// `last`: nobody waits any more.
pub(super) fn caller<'s>(
    gate: &Gate,
    snapshot: &'s Snapshot,
    route: &Route,
    schemes: &[AuthScheme],
    parts: &mut Parts,
    last: bool,
) -> Result<Who<'s>, Refusal> {
    let with_keys = matches!(schemes.first(), Some(AuthScheme::Key));
    let found = carried(parts, schemes, with_keys)?;
    let Some(text) = found else {
        if !with_keys {
            return Err(Refusal::TokenMissing);
        }
        let by_key = by_key(gate, snapshot, presented(parts));
        return by_key.map(|caller| Who::Is(Some(caller))).map_err(|why| match why {
            Refusal::KeyMissing => Refusal::TokenMissing,
            why => why,
        });
    };
    if with_keys {
        // Two proofs of two callers, of which a backend may read the other.
        let key = presented(parts).map_err(|_| Refusal::KeyConflict)?;
        if key.is_some_and(|key| *key.secret != *text.as_bytes()) {
            return Err(Refusal::KeyConflict);
        }
    }
    let takes = issuers(schemes).filter(|issuer| is_there(parts, issuer, &text));
    let token = match gate.issuers.prove(&text, takes, last) {
        Proof::Good(token) => token,
        Proof::Bad(why) => return Err(Refusal::Token(why)),
        Proof::Soon(wait) => return Ok(Who::Waits(wait)),
    };
    tell(&token, &mut parts.headers);
    let at = token.consumer.as_ref().and_then(|name| snapshot.consumers.position(&route.tenant, name));
    if at.is_none() && token.issuer.consumer.is_some() && token.issuer.stranger == Stranger::Refuse {
        return Err(Refusal::TokenWithoutConsumer);
    }
    let consumer = at.map(|at| &*snapshot.consumers[at]);
    let at = at.and_then(|at| u32::try_from(at).ok());
    Ok(Who::Is(Some(Caller { proof: super::Proof::Token(token), consumer, at, own_plan: None })))
}

fn issuers(schemes: &[AuthScheme]) -> impl Iterator<Item = &Arc<Issuer>> {
    schemes.iter().filter_map(|scheme| match scheme {
        AuthScheme::Jwt(issuer) => Some(issuer),
        AuthScheme::Key => None,
    })
}

/// The one token of a request. On a route that takes keys as well, what stands in `Authorization` may be a key.
fn carried<'p>(parts: &'p Parts, schemes: &[AuthScheme], with_keys: bool) -> Result<Option<Cow<'p, str>>, Refusal> {
    let mut found: Option<Cow<'p, str>> = None;
    for issuer in issuers(schemes) {
        let one = find(parts, &issuer.places).map_err(|_| Refusal::TokenConflict)?;
        let is_key = |text: &Cow<'_, str>| {
            with_keys && issuer.places.contains(&TokenPlace::Bearer) && !looks_like_one(text.as_bytes())
        };
        match (&found, one.filter(|text| !is_key(text))) {
            (_, None) => {}
            (Some(known), Some(one)) if *known != one => return Err(Refusal::TokenConflict),
            (_, one) => found = one,
        }
    }
    Ok(found)
}

/// Was it where this issuer's tokens are?
fn is_there(parts: &Parts, issuer: &Issuer, text: &str) -> bool {
    find(parts, &issuer.places).is_ok_and(|found| found.is_some_and(|found| *found == *text))
}

/// A request's own headers of these names, in any spelling that a backend may read so.
pub(super) fn forget(names: &[HeaderName], headers: &mut HeaderMap) {
    let folded = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let alike = |a: &HeaderName, b: &HeaderName| a.as_str().bytes().map(folded).eq(b.as_str().bytes().map(folded));
    let spelled: Vec<HeaderName> =
        headers.keys().filter(|name| names.iter().any(|ours| alike(ours, name))).cloned().collect();
    for name in spelled {
        headers.remove(name);
    }
    // Nor behind the body, where a backend that mixes both would find them.
    let announced = |line: &HeaderValue| {
        let words = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        words
            .filter_map(|word| HeaderName::from_bytes(word).ok())
            .any(|name| names.iter().any(|ours| alike(ours, &name)))
    };
    if headers.get_all(TRAILER).iter().any(announced) {
        headers.remove(TRAILER);
    }
}

/// What the upstream reads of a token.
pub(super) fn tell(token: &Token, headers: &mut HeaderMap) {
    for (name, value) in &token.headers {
        headers.insert(name, value.clone());
    }
}

impl Refusal {
    /// What clients are told of a token, but not why it is none.
    pub(crate) fn of_token(why: &Invalid) -> &'static str {
        match why {
            Invalid::Expired => "The token has expired",
            Invalid::NotYet => "The token is not valid yet",
            Invalid::Audience => "The token is meant for another audience",
            Invalid::Incomplete(_) => "The token lacks a claim",
            _ => "The token is not valid",
        }
    }
}
