//! How outcomes and instants are worded.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use tidegate_model::Millis;
use tidegate_state::Outcome;

use crate::backend::Failure;
use crate::refusal::Refusal;

/// Ten years: longer is a mistake of units.
const MAX_TTL: u64 = 315_360_000;

/// An outcome that says no, about `what`.
pub(super) fn no(outcome: &Outcome, what: &str) -> Refusal {
    let rejected = |reason: String| Refusal::Rejected { reason, hint: None };
    match outcome {
        Outcome::Conflict { current } => Refusal::Conflict { current: current.0 },
        Outcome::NotFound => Refusal::NotFound(format!("there is no {what}")),
        Outcome::Duplicate => rejected(format!("this {what} exists already")),
        Outcome::TooLarge { limit } => Refusal::BadRequest(format!("{what}: a value is longer than {limit} bytes")),
        Outcome::Full => rejected(format!("the cluster holds as many as it may: no room for another {what}")),
        Outcome::TokenUnknown => rejected("the token is unknown".to_owned()),
        Outcome::TokenExpired => rejected("the token has expired".to_owned()),
        Outcome::TokenUsed => rejected("the token is used up".to_owned()),
        other => Failure::Fault(format!("{what}: unexpected outcome {other:?}")).into(),
    }
}

pub(super) use crate::backend::time;

/// RFC 3339, to the millisecond.
pub(crate) fn moment(at: Millis) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

/// When something ends that lives for so many seconds from `now`.
pub(super) fn end_of_life(ttl_seconds: Option<u64>, now: Millis) -> Result<Option<Millis>, Refusal> {
    match ttl_seconds {
        None => Ok(None),
        Some(ttl) if (1..=MAX_TTL).contains(&ttl) => Ok(Some(now.saturating_add(Millis(ttl * 1_000)))),
        Some(_) => Err(Refusal::BadRequest(format!("ttl_seconds is 1 to {MAX_TTL}"))),
    }
}

/// What somebody wrote: an instant, or a day, which begins at midnight UTC. The last year that the format has ends a little before
/// its end: whoever means never gets that.
pub(super) fn instant(text: &str) -> Option<Millis> {
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let day = || text.parse::<Date>().ok().filter(|_| text.len() == 10).map(|day| day.at(0, 0, 0, 0));
            let utc = || text.strip_suffix(['Z', 'z'])?.parse::<DateTime>().ok();
            let at = utc().or_else(day)?;
            match at.to_zoned(TimeZone::UTC) {
                Ok(at) => at.timestamp(),
                Err(_) if at.year() == 9999 => Timestamp::MAX,
                Err(_) => return None,
            }
        }
    };
    u64::try_from(at.as_millisecond()).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_a_time_or_a_day_and_never_is_as_late_as_there_is() {
        let of = |text: &str| instant(text).map(time);
        assert_eq!(of("2026-11-20T18:00:00Z").as_deref(), Some("2026-11-20T18:00:00Z"));
        assert_eq!(of("2026-11-20T18:00:00+02:00").as_deref(), Some("2026-11-20T16:00:00Z"));
        assert_eq!(of("2026-11-20").as_deref(), Some("2026-11-20T00:00:00Z"));
        for never in ["9999-12-31", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999Z"] {
            assert_eq!(of(never).as_deref(), Some("9999-12-30T22:00:00Z"), "{never}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-11-20T18:00:00",
            "2026-13-01",
            "10000-01-01",
            "1969-12-31",
            "2026-11-20 foo",
            "-000001-01-01",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(time(Millis(1_795_170_896_123)), "2026-11-20T10:34:56Z");
        assert_eq!(time(Millis::MAX), "", "nonsense is not a panic");
    }
}
