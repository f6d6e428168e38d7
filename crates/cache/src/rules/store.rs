//! May this response be stored, and on which terms will it be reused (RFC 9111 § 3)?

use http::header::{ETAG, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderName, StatusCode};
use tidegate_model::Millis;
use tidegate_policy::{Cache as Policy, Cookies, Ttl};

use super::control::{Listed, ResponseControl};
use super::lifetime::{self, Lifetime, Times};
use super::targeted::Said;
use super::vary::Selector;
use super::{cookies, tags, targeted};

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
    /// Its lifetime is our guess.
    pub guessed: bool,
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
    if request_forbids(policy, request) {
        return Err(Refused::Request);
    }
    let said = targeted::said(response);
    let control = &said.control;
    permitted(control, status)?;
    let selector = Selector::of(response, request).map_err(|_| Refused::Vary)?;
    let for_all = control.is_for_all() || !authorized;
    if !for_all && !private_home {
        return Err(Refused::Authorized);
    }
    let said_lifetime = lifetime::of(status, response, &said, times);
    if !cookies_agree(policy, response, &said, said_lifetime) {
        return Err(Refused::Cookie);
    }
    let validator = response.contains_key(ETAG) || response.contains_key(LAST_MODIFIED);
    let life = life(policy, exchange, &said, said_lifetime, validator).ok_or(Refused::Useless)?;
    let terms = terms(policy, control, life, validator, for_all);
    let unusable = terms.validate && !validator;
    if unusable || times.answered.saturating_sub(life.born) >= terms.keep {
        return Err(Refused::Useless);
    }
    let mut unlisted = control.no_cache.fields().to_vec();
    unlisted.extend_from_slice(control.private.fields());
    Ok(Verdict {
        terms,
        selector,
        tags: tags::of(response, &policy.tags).ok_or(Refused::Tags)?,
        unlisted,
        without_cookies: policy.cookies == Cookies::Strip,
        guessed: life.guessed,
    })
}

/// By its status and its own word.
fn permitted(control: &ResponseControl, status: StatusCode) -> Result<(), Refused> {
    storable(status)?;
    // A cache that understands the status may overlook `no-store` beside `must-understand` (§ 5.2.2.3).
    if control.must_understand && !is_understood(status) {
        return Err(Refused::Status);
    }
    if control.no_store && !control.must_understand {
        return Err(Refused::NoStore);
    }
    if control.private == Listed::Whole { Err(Refused::Private) } else { Ok(()) }
}

fn cookies_agree(policy: &Policy, response: &HeaderMap, said: &Said, lifetime: Lifetime) -> bool {
    if policy.cookies != Cookies::Explicit || !response.contains_key(SET_COOKIE) {
        return true;
    }
    // Not `public`: servers of static files say it of themselves, next to the cookie of a session middleware.
    let for_us = said.control.s_maxage.is_some() || said.targeted;
    for_us || (matches!(lifetime, Lifetime::Said(_)) && !cookies::has_login(response))
}

#[derive(Clone, Copy)]
struct Life {
    span: Millis,
    born: Millis,
    guessed: bool,
}

/// `None`: it has none, and could not be revalidated.
fn life(
    policy: &Policy,
    exchange: &Exchange<'_>,
    said: &Said,
    said_lifetime: Lifetime,
    validator: bool,
) -> Option<Life> {
    let Exchange { request: _, status, response, times } = *exchange;
    let life = |span, born| Some(Life { span, born, guessed: false });
    let guessed = |span| Some(Life { span, born: lifetime::born(response, times), guessed: true });
    match (policy.ttl, said_lifetime) {
        // A fixed lifetime counts from here: how old the response came is the origin's side of the matter.
        (Ttl::Fixed(span), _) if is_plain(status) => life(millis(span), times.answered),
        (_, Lifetime::Said(seconds)) => life(Millis(seconds * 1_000), lifetime::born(response, times)),
        (_, other) => match (negative(policy, status), other) {
            (Some(span), _) => life(span, times.answered),
            (None, Lifetime::Guessed(seconds)) => guessed(Millis(seconds * 1_000)),
            (None, _) if validator && (lifetime::is_guessable(status) || said.control.public) => guessed(Millis::ZERO),
            (None, _) => None,
        },
    }
}

fn terms(policy: &Policy, control: &ResponseControl, life: Life, validator: bool, for_all: bool) -> Terms {
    let validate = control.no_cache == Listed::Whole;
    let strict = control.must_revalidate || control.proxy_revalidate || validate;
    // `s-maxage` alone forbids stale answers (§ 5.2.2.10); next to it the response's own word on them stands.
    let lenient = !strict && control.s_maxage.is_none();
    let window = |own: Option<u64>, route: std::time::Duration| match own {
        _ if strict => Millis::ZERO,
        Some(seconds) => Millis(seconds * 1_000),
        None if lenient => millis(route),
        None => Millis::ZERO,
    };
    let stale_while_revalidate = window(control.stale_while_revalidate, policy.stale_while_revalidate);
    let stale_if_error = window(control.stale_if_error, policy.stale_if_error);
    let asking = match () {
        () if validator => REVALIDATE,
        () if lenient && life.span > Millis::ZERO => MAX_STALE,
        () => Millis::ZERO,
    };
    let stand_in = if lenient { millis(policy.stand_in) } else { Millis::ZERO };
    let beyond = stale_while_revalidate.max(stale_if_error).max(asking).max(stand_in);
    Terms {
        born: life.born,
        lifetime: life.span,
        stale_while_revalidate,
        stale_if_error,
        may_be_stale: lenient,
        validate,
        for_all,
        keep: life.span.saturating_add(beyond),
    }
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

pub(crate) fn millis(span: std::time::Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rules::map;

    const NOW: u64 = 784_111_777_000;

    fn judged(
        policy: &Policy,
        status: u16,
        lines: &[(&'static str, &'static str)],
        who: Who,
    ) -> Result<Terms, Refused> {
        let times = Times { asked: Millis(NOW), answered: Millis(NOW) };
        let status = StatusCode::from_u16(status).expect("a status");
        let (request, response) = (HeaderMap::new(), map(lines));
        let exchange = Exchange { request: &request, status, response: &response, times };
        judge(policy, &exchange, who != Who::Anybody, who == Who::WithHome).map(|verdict| verdict.terms)
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Who {
        Anybody,
        Authorized,
        WithHome,
    }

    #[test]
    fn what_is_stored_and_what_is_not() {
        use Refused::{Authorized, Cookie, NoStore, Partial, Private, Status, Useless, Vary};
        let cc = |text| ("cache-control", text);
        let (etag, cookie) = (("etag", "\"a\""), ("set-cookie", "a=b"));
        let modified = ("last-modified", "Sun, 06 Nov 1994 08:39:37 GMT");
        for (status, lines, expected) in [
            (200, &[cc("max-age=60")][..], Ok(60)),
            (299, &[cc("max-age=60")], Ok(60)),
            (503, &[cc("max-age=60")], Ok(60)),
            (200, &[cc("max-age=60, no-store")], Err(NoStore)),
            (200, &[cc("max-age=60, no-store, must-understand")], Ok(60)),
            (599, &[cc("max-age=60, must-understand")], Err(Status)),
            (200, &[cc("max-age=60, private")], Err(Private)),
            (200, &[cc("max-age=60, private=\"x\"")], Ok(60)),
            (200, &[cc("max-age=60"), ("vary", "*")], Err(Vary)),
            (206, &[cc("max-age=60")], Err(Partial)),
            (304, &[cc("max-age=60")], Err(Status)),
            (416, &[cc("max-age=60")], Err(Status)),
            (200, &[], Err(Useless)),
            (200, &[etag], Ok(0)),
            (201, &[etag], Err(Useless)),
            (200, &[cc("max-age=0")], Err(Useless)),
            (200, &[cc("max-age=0"), etag], Ok(0)),
            (200, &[cc("no-cache")], Err(Useless)),
            (200, &[cc("no-cache"), etag], Ok(0)),
            (200, &[modified], Ok(60)),
            (404, &[modified], Ok(60)),
            (403, &[modified], Err(Useless)),
            (403, &[modified, cc("public")], Ok(60)),
            (200, &[cc("max-age=60"), cookie], Ok(60)),
            (200, &[cc("max-age=60"), ("set-cookie", "a=b; HttpOnly")], Err(Cookie)),
            (200, &[cc("public, max-age=60"), ("set-cookie", "SessionId=b")], Err(Cookie)),
            (200, &[("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT"), cookie], Err(Cookie)),
            (200, &[cc("s-maxage=60"), ("set-cookie", "sid=b; HttpOnly")], Ok(60)),
            (200, &[cc("s-maxage=60"), cookie], Ok(60)),
            (200, &[("cdn-cache-control", "max-age=60"), cc("no-store"), cookie], Ok(60)),
            (200, &[("cdn-cache-control", "no-store"), cc("max-age=60")], Err(NoStore)),
        ] {
            let judged = judged(&Policy::default(), status, lines, Who::Anybody).map(|terms| terms.lifetime.0 / 1_000);
            assert_eq!(judged, expected, "{status} {lines:?}");
        }
        for (line, who, expected) in [
            ("max-age=60", Who::Authorized, Err(Authorized)),
            ("max-age=60", Who::WithHome, Ok(false)),
            ("max-age=60, public", Who::Authorized, Ok(true)),
            ("s-maxage=60", Who::Authorized, Ok(true)),
            ("max-age=60, must-revalidate", Who::Authorized, Ok(true)),
            ("max-age=60", Who::Anybody, Ok(true)),
        ] {
            let judged = judged(&Policy::default(), 200, &[cc(line)], who).map(|terms| terms.for_all);
            assert_eq!(judged, expected, "{line}");
        }
    }

    #[test]
    fn stale_windows_are_the_responses_or_the_routes() {
        let minute = Duration::from_secs(60);
        let policy = Policy { stale_while_revalidate: minute, stale_if_error: minute, ..Policy::default() };
        for (line, expected) in [
            ("max-age=1", (60, 60, true)),
            ("max-age=1, stale-while-revalidate=5, stale-if-error=7", (5, 7, true)),
            ("max-age=1, must-revalidate", (0, 0, false)),
            ("max-age=1, proxy-revalidate, stale-if-error=7", (0, 0, false)),
            ("s-maxage=1", (0, 0, false)),
            ("s-maxage=1, stale-while-revalidate=5", (5, 0, false)),
        ] {
            let terms = judged(&policy, 200, &[("cache-control", line)], Who::Anybody).expect("it is stored");
            let seconds = |m: Millis| m.0 / 1_000;
            let got = (seconds(terms.stale_while_revalidate), seconds(terms.stale_if_error), terms.may_be_stale);
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn routes_have_lifetimes_of_their_own() {
        let policy = Policy {
            ttl: Ttl::Fixed(Duration::from_secs(9)),
            negative: vec![(StatusCode::NOT_FOUND, Duration::from_secs(3))],
            ..Policy::default()
        };
        let lifetime = |status, line| {
            let lines = [("cache-control", line)];
            judged(&policy, status, &lines, Who::Anybody).map(|terms| terms.lifetime.0 / 1_000)
        };
        assert_eq!(lifetime(200, "max-age=60"), Ok(9));
        assert_eq!(lifetime(200, "x"), Ok(9));
        assert_eq!(lifetime(200, "no-store"), Err(Refused::NoStore));
        assert_eq!(lifetime(404, "x"), Ok(3));
        assert_eq!(lifetime(404, "max-age=60"), Ok(60));
        assert_eq!(lifetime(500, "x"), Err(Refused::Useless));
    }
}
