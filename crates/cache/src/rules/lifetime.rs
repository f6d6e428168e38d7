//! How old a response is and how long it is fresh (RFC 9111 § 4.2).

use http::header::{AGE, DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use tidegate_model::Millis;

use super::control::span;
use super::date;
use super::targeted::Said;

/// A guess is a tenth of the time since the last change, and a day at most (RFC 9111 § 4.2.2).
const GUESS: u64 = 10;
const LONGEST_GUESS: u64 = 24 * 3600;

/// By the wall clock of the node that fetched the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    pub asked: Millis,
    pub answered: Millis,
}

/// When the response was made, as far as its age tells. What cannot be read makes it infinitely old.
#[must_use]
pub fn born(headers: &HeaderMap, times: Times) -> Millis {
    let Ok(age) = age(headers) else { return Millis::ZERO };
    // A date has no fraction: the latest moment that it can mean.
    let made = date::only(headers, &DATE).map_or(times.answered, |at| Millis(at.saturating_mul(1_000) + 999));
    let apparent = times.answered.saturating_sub(made);
    let delay = times.answered.saturating_sub(times.asked);
    let corrected = Millis(age.saturating_mul(1_000)).saturating_add(delay);
    times.answered.saturating_sub(apparent.max(corrected))
}

/// RFC 9111 § 5.1 would have caches ignore an `Age` that is no number, and take the first of several; both make an old
/// response young. To hold it for stale is as correct and costs one request.
fn age(headers: &HeaderMap) -> Result<u64, ()> {
    let mut lines = headers.get_all(AGE).iter();
    let Some(first) = lines.next() else { return Ok(0) };
    if lines.next().is_some() {
        return Err(());
    }
    span(Some(first.as_bytes().trim_ascii())).ok_or(())
}

/// What a response says of its lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It says so, in seconds.
    Said(u64),
    /// It says nothing; from its last change this is a fair guess, in seconds.
    Guessed(u64),
    Unknown,
}

#[must_use]
pub fn of(status: StatusCode, headers: &HeaderMap, said: &Said, times: Times) -> Lifetime {
    let control = &said.control;
    if let Some(seconds) = control.s_maxage.or(control.max_age) {
        return Lifetime::Said(seconds);
    }
    let made = date::only(headers, &DATE).unwrap_or(times.answered.0 / 1_000);
    if !said.targeted && headers.contains_key(EXPIRES) {
        // No date, or several: it expired already (RFC 9111 § 5.3).
        let seconds = date::only(headers, &EXPIRES).map_or(0, |at| at.saturating_sub(made));
        return Lifetime::Said(seconds);
    }
    if !(control.public || is_guessable(status)) {
        return Lifetime::Unknown;
    }
    match date::only(headers, &LAST_MODIFIED) {
        Some(changed) => Lifetime::Guessed((made.saturating_sub(changed) / GUESS).min(LONGEST_GUESS)),
        None => Lifetime::Unknown,
    }
}

/// RFC 9110 § 15.1. (206 is one of them, but is not stored here.)
#[must_use]
pub fn is_guessable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::super::targeted;
    use super::*;

    const NOW: u64 = 784_111_777;
    const TIMES: Times = Times { asked: Millis(NOW * 1_000), answered: Millis(NOW * 1_000 + 200) };

    fn map(lines: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::try_from(value).expect("a value"));
        }
        headers
    }

    fn at(offset: i64) -> String {
        date::format(NOW.saturating_add_signed(offset)).to_str().expect("ASCII").to_owned()
    }

    #[test]
    fn age_is_what_is_said_or_what_the_date_shows_whichever_is_more() {
        let age = |lines: &[(&'static str, String)]| (TIMES.answered.0 - born(&map(lines), TIMES).0) / 1_000;
        assert_eq!(age(&[]), 0);
        assert_eq!(age(&[("age", "30".into())]), 30);
        assert_eq!(age(&[("date", at(-100)), ("age", "30".into())]), 99);
        assert_eq!(age(&[("date", at(-10)), ("age", "30".into())]), 30);
        assert_eq!(age(&[("date", at(500)), ("age", "30".into())]), 30);
        for broken in ["abc", "-1", "7200.0", "0, 0", "7;a=b", ""] {
            assert!(age(&[("age", broken.into())]) >= NOW, "{broken}");
        }
        assert!(age(&[("age", "0".into()), ("age", "0".into())]) >= NOW);
        assert_eq!(age(&[("date", "tomorrow".into())]), 0);
    }

    #[test]
    fn lifetimes_are_said_by_the_nearest_voice() {
        use Lifetime::{Guessed, Said, Unknown};
        let of = |status: u16, lines: &[(&'static str, String)]| {
            let headers = map(lines);
            of(StatusCode::from_u16(status).expect("a status"), &headers, &targeted::said(&headers), TIMES)
        };
        let cc = |text: &str| ("cache-control", text.to_owned());
        let ok = |lines: &[(&'static str, String)]| of(200, lines);
        assert_eq!(ok(&[]), Unknown);
        assert_eq!(ok(&[cc("max-age=60, s-maxage=5")]), Said(5));
        assert_eq!(ok(&[cc("max-age=60"), ("expires", at(9))]), Said(60));
        assert_eq!(ok(&[("expires", at(9)), ("date", at(0))]), Said(9));
        assert_eq!(ok(&[("expires", at(300)), ("date", at(400))]), Said(0));
        assert_eq!(ok(&[("expires", at(10)), ("date", "foo".into())]), Said(10));
        assert_eq!(ok(&[("expires", "0".into())]), Said(0));
        assert_eq!(ok(&[("expires", at(9)), ("expires", at(10))]), Said(0));
        assert_eq!(ok(&[("expires", at(9)), ("expires", at(9)), ("date", at(0))]), Said(9));
        assert_eq!(ok(&[("last-modified", at(-1000)), ("date", at(0))]), Guessed(100));
        assert_eq!(ok(&[("last-modified", at(-99_000_000))]), Guessed(LONGEST_GUESS));
        assert_eq!(ok(&[("last-modified", at(1000))]), Guessed(0));
        assert_eq!(of(201, &[("last-modified", at(-1000))]), Unknown);
        assert_eq!(of(201, &[("last-modified", at(-1000)), ("date", at(0)), cc("public")]), Guessed(100));
        assert_eq!(ok(&[("cdn-cache-control", "foo".into()), ("expires", at(9))]), Unknown);
    }
}
