//! HTTP dates (RFC 9110 § 5.6.7) as whole seconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The three formats of the RFC. Anything else, and everything before 1970, is no date.
#[must_use]
pub fn parse(value: &HeaderValue) -> Option<u64> {
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The one date a field holds. `None`: no line, several different lines, or not a date.
#[must_use]
pub fn only(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.any(|other| other != first) {
        return None;
    }
    parse(first)
}

/// # Panics
/// Never: years beyond 9999 are cut.
#[must_use]
pub fn format(seconds: u64) -> HeaderValue {
    const LAST: u64 = 253_402_300_799; // 9999-12-31, where the format ends.
    let at: SystemTime = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    HeaderValue::try_from(httpdate::fmt_http_date(at)).expect("a date is visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_formats_are_dates_and_nothing_else() {
        let at = |text| parse(&HeaderValue::from_static(text));
        let known = Some(784_111_777);
        assert_eq!(at("Sun, 06 Nov 1994 08:49:37 GMT"), known);
        assert_eq!(at("Sunday, 06-Nov-94 08:49:37 GMT"), known);
        assert_eq!(at("Sun Nov  6 08:49:37 1994"), known);
        for not in ["0", "-1", "", "tomorrow", "Sun, 06 Nov 1994 08:49:37", "Sun, 32 Nov 1994 08:49:37 GMT"] {
            assert_eq!(at(not), None, "{not}");
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse(&format(u64::MAX)), Some(253_402_300_799));
    }
}
