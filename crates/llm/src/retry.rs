//! When to try again, in the many ways that providers say it (llm-wire line 19). Milliseconds from now.
//!
//! No clock here: where a provider names a moment, its own `date` header says what time it is.

use crate::dialect::Headers;

/// More than a day is as good as never, and a typing error at a provider should not put one to rest for a year.
const MOST: u64 = 24 * 3_600_000;

pub(crate) fn after(headers: Headers<'_>) -> Option<u64> {
    let told = headers("retry-after-ms")
        .and_then(millis)
        .or_else(|| {
            headers("retry-after").and_then(|value| seconds(value).or_else(|| until(http_date(value)?, headers)))
        })
        .or_else(|| exhausted(headers));
    told.map(|millis| millis.min(MOST))
}

fn millis(value: &str) -> Option<u64> {
    let value: f64 = value.trim().parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some(value.ceil() as u64)
}

fn seconds(value: &str) -> Option<u64> {
    let value: f64 = value.trim().parse().ok()?;
    (value.is_finite() && value >= 0.0).then_some((value * 1_000.0).ceil() as u64)
}

/// The longest wait among the limits that are used up.
fn exhausted(headers: Headers<'_>) -> Option<u64> {
    const ANTHROPIC: [(&str, &str); 4] = [
        ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
        ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
        ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
        ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
    ];
    const OPENAI: [(&str, &str); 2] = [
        ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ];
    let used_up = |remaining: &str| headers(remaining).is_some_and(|left| left.trim() == "0");
    ANTHROPIC
        .into_iter()
        .chain(OPENAI)
        .filter(|(remaining, _)| used_up(remaining))
        .filter_map(|(_, reset)| {
            let value = headers(reset)?;
            // Azure writes bare seconds.
            let bare = || seconds(value).filter(|millis| *millis <= MOST);
            span(value).or_else(bare).or_else(|| until(rfc3339(value)?, headers))
        })
        .max()
}

/// `6m0s`, `1.5s`, `17ms`, `1h2m3s`, `34.4s` (Google's `retryDelay`).
pub(crate) fn span(value: &str) -> Option<u64> {
    let mut rest = value.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let (unit, left) = [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6), ("d", 8.64e7)]
            .into_iter()
            .find_map(|(name, unit)| Some((unit, after.strip_prefix(name)?)))?;
        total += number * unit;
        rest = left;
    }
    (total.is_finite() && !value.trim().is_empty()).then_some(total.ceil() as u64)
}

fn until(moment: i64, headers: Headers<'_>) -> Option<u64> {
    let now = http_date(headers("date")?)?;
    Some(u64::try_from(moment.saturating_sub(now)).unwrap_or(0).saturating_mul(1_000))
}

/// `Wed, 21 Oct 2015 07:28:00 GMT` → Unix seconds (RFC 9110, IMF-fixdate).
fn http_date(value: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = value.split_once(", ")?.1.split(' ');
    let day = words.next()?.parse().ok()?;
    let month = words.next().and_then(|word| MONTHS.iter().position(|month| *month == word))?;
    let year = words.next()?.parse().ok()?;
    moment(year, month as i64 + 1, day, words.next()?)
}

/// `2026-01-27T18:58:20Z` → Unix seconds; fractions are dropped, other zones are not used by anybody.
fn rfc3339(value: &str) -> Option<i64> {
    let (date, time) = value.trim().split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = time.strip_suffix('Z').or_else(|| time.strip_suffix("+00:00"))?;
    moment(year, month, day, time.split('.').next()?)
}

fn moment(year: i64, month: i64, day: i64, time: &str) -> Option<i64> {
    let mut parts = time.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let sane = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    sane.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(headers: &[(&'static str, &'static str)]) -> Option<u64> {
        after(&|name| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value))
    }

    const DATE: (&str, &str) = ("date", "Wed, 21 Oct 2015 07:28:00 GMT");

    #[test]
    fn line_19_every_way_of_saying_when_is_understood() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("retry-after", "7")]), Some(7_000));
        assert_eq!(told(&[("retry-after", "0.25")]), Some(250));
        assert_eq!(told(&[("retry-after", "7"), ("retry-after-ms", "1500")]), Some(1_500));
        assert_eq!(told(&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"), DATE]), Some(30_000));
        assert_eq!(told(&[("retry-after", "Wed, 21 Oct 2015 07:27:30 GMT"), DATE]), Some(0));
        assert_eq!(told(&[("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT")]), None);
        assert_eq!(told(&[("retry-after", "soon")]), None);
        assert_eq!(told(&[("retry-after", "1e300")]), Some(MOST));
        let anthropic = [
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "2015-10-21T07:28:12Z"),
            ("anthropic-ratelimit-tokens-remaining", "900"),
            ("anthropic-ratelimit-tokens-reset", "2015-10-21T09:00:00Z"),
            DATE,
        ];
        assert_eq!(told(&anthropic), Some(12_000));
        let openai = [("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")];
        assert_eq!(told(&openai), Some(360_000));
        let azure = [("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "10")];
        assert_eq!(told(&azure), Some(10_000));
    }

    #[test]
    fn line_19_spans_are_read_with_all_their_units() {
        assert_eq!(span("6m0s"), Some(360_000));
        assert_eq!(span("17ms"), Some(17));
        assert_eq!(span("34.4s"), Some(34_400));
        assert_eq!(span("1h2m3s"), Some(3_723_000));
        for bad in ["", "6", "s", "6x", "..s"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
