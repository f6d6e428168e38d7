//! May this response be stored, and on which terms will it be reused (RFC 9111 § 3)?

use http::header::{ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use tidegate_model::Millis;
use tidegate_policy::{Cache as Policy, Cookies, Ttl};

use super::control::Listed;
use super::lifetime::{self, Lifetime, Times};
use super::vary::Selector;
use super::{tags, targeted};

/// How long a response that can be revalidated is kept beyond its lifetime.
const REVALIDATE: Millis = Millis(3_600_000);
/// The same for one that a request may ask for when it is stale.
const MAX_STALE: Millis = Millis(300_000);

/// On which terms a stored response is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// By the wall clock: `now - born` is its age.
    pub born: Millis,
    pub lifetime: Millis,
    pub stale_while_revalidate: Millis,
    pub stale_if_error: Millis,
    /// May a request ask for it when it is stale?
    pub may_be_stale: bool,
    /// Only after the origin agreed, each time.
    pub validate: bool,
    /// Is it for all, even if it answered an authorised request?
    pub for_all: bool,
    /// No use is left when it is this old.
    pub keep: Millis,
}

/// What is stored beside headers and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub terms: Terms,
    pub selector: Selector,
    pub tags: Vec<Box<str>>,
    /// Fields that are not stored.
    pub unlisted: Vec<HeaderName>,
    pub without_cookies: bool,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The request says `no-store`.
    Request,
    Status,
    /// A part of a representation (206).
    Partial,
    NoStore,
    Private,
    Vary,
    Tags,
    Authorized,
    Cookie,
    /// Neither fresh for a moment nor a validator to ask with.
    Useless,
}

/// An exchange as far as the rules look at it.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    pub request: &'a HeaderMap,
    pub status: StatusCode,
    pub response: &'a HeaderMap,
    pub times: Times,
}

/// `authorized`: the request says who asks, to us or to the origin. `private_home`: there is a partition of this caller's own for what is not for all.
///
/// # Errors
/// Why it must not, or need not, be stored.
pub fn judge(
    policy: &Policy,
    exchange: &Exchange<'_>,
    authorized: bool,
    private_home: bool,
) -> Result<Verdict, Refused> {
    let Exchange { request, status, response, times } = *exchange;
    let said = targeted::said(response);
    let control = &said.control;
    if request_forbids(policy, request) {
        return Err(Refused::Request);
    }
    storable(status)?;
    // A cache that understands the status may overlook `no-store` beside `must-understand` (§ 5.2.2.3).
    if control.must_understand && !is_understood(status) {
        return Err(Refused::Status);
    }
    if control.no_store && !control.must_understand {
        return Err(Refused::NoStore);
    }
    if control.private == Listed::Whole {
        return Err(Refused::Private);
    }
    let selector = Selector::of(response, request).map_err(|_| Refused::Vary)?;
    let for_all = control.is_for_all() || !authorized;
    if !for_all && !private_home {
        return Err(Refused::Authorized);
    }
    let explicit = control.public || control.s_maxage.is_some() || said.targeted;
    let cookie = response.contains_key(SET_COOKIE);
    if cookie && policy.cookies == Cookies::Explicit && !explicit {
        return Err(Refused::Cookie);
    }
    let validate = control.no_cache == Listed::Whole;
    let validator = response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED);
    let said_lifetime = lifetime::of(status, response, &said, times);
    let (lifetime, born) = match (policy.ttl, said_lifetime) {
        // A fixed lifetime counts from here: how old the response came is the origin's side of the matter.
        (Ttl::Fixed(span), _) if is_plain(status) => (millis(span), times.answered),
        (_, Lifetime::Said(seconds)) => (Millis(seconds * 1_000), lifetime::born(response, times)),
        (_, other) => match (negative(policy, status), other) {
            (Some(span), _) => (span, times.answered),
            (None, Lifetime::Guessed(seconds)) => (Millis(seconds * 1_000), lifetime::born(response, times)),
            (None, _) if validator && (lifetime::is_guessable(status) || control.public) => {
                (Millis::ZERO, lifetime::born(response, times))
            }
            (None, _) => return Err(Refused::Useless),
        },
    };
    let strict = control.must_revalidate || control.proxy_revalidate || validate;
    // `s-maxage` alone forbids stale answers (§ 5.2.2.10); next to it the response's own word on them stands.
    let lenient = !strict && control.s_maxage.is_none();
    let window = |own: Option<u64>, route: std::time::Duration| match own {
        _ if strict => Millis::ZERO,
        Some(seconds) => Millis(seconds * 1_000),
        None if lenient => millis(route),
        None => Millis::ZERO,
    };
    let terms = Terms {
        born,
        lifetime,
        stale_while_revalidate: window(control.stale_while_revalidate, policy.stale_while_revalidate),
        stale_if_error: window(control.stale_if_error, policy.stale_if_error),
        may_be_stale: lenient,
        validate,
        for_all,
        keep: Millis::ZERO,
    };
    let stale = terms.stale_while_revalidate.max(terms.stale_if_error);
    let asking = match () {
        () if validator => REVALIDATE,
        () if lenient && lifetime > Millis::ZERO => MAX_STALE,
        () => Millis::ZERO,
    };
    let keep = lifetime.saturating_add(stale.max(asking));
    let unusable = validate && !validator;
    if unusable || times.answered.saturating_sub(born) >= keep {
        return Err(Refused::Useless);
    }
    let mut unlisted = control.no_cache.fields().to_vec();
    unlisted.extend_from_slice(control.private.fields());
    Ok(Verdict {
        terms: Terms { keep, ..terms },
        selector,
        tags: tags::of(response, &policy.tags).ok_or(Refused::Tags)?,
        unlisted,
        without_cookies: policy.cookies == Cookies::Strip,
    })
}

fn request_forbids(policy: &Policy, request: &HeaderMap) -> bool {
    policy.heed_clients && super::control::RequestControl::of(request).no_store
}

fn storable(status: StatusCode) -> Result<(), Refused> {
    match status.as_u16() {
        206 => Err(Refused::Partial),
        // A 416 answers a range, which is no part of the key.
        ..=199 | 304 | 416 => Err(Refused::Status),
        _ => Ok(()),
    }
}

/// Statuses whose meaning for caches is known (RFC 9110 § 15 and 451).
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=205 | 300..=303 | 307 | 308 | 400..=415 | 417 | 421 | 422 | 426 | 451 | 500..=505)
}

/// Those a fixed lifetime is meant for. Errors have `negative`.
fn is_plain(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300..=303 | 307 | 308)
}

fn negative(policy: &Policy, status: StatusCode) -> Option<Millis> {
    policy.negative.iter().find(|(of, _)| *of == status).map(|(_, span)| millis(*span))
}

fn millis(span: std::time::Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
