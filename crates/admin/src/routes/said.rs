//! How outcomes, instants and spans are worded.

use std::time::Duration;

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

/// When something ends that lives for so many seconds from `now`.
pub(super) fn end_of_life(ttl_seconds: Option<u64>, now: Millis) -> Result<Option<Millis>, Refusal> {
    match ttl_seconds {
        None => Ok(None),
        Some(ttl) if (1..=MAX_TTL).contains(&ttl) => Ok(Some(now.saturating_add(Millis(ttl * 1_000)))),
        Some(_) => Err(Refusal::BadRequest(format!("ttl_seconds is 1 to {MAX_TTL}"))),
    }
}

/// `30s`, `500ms`, `2m`, or a number of seconds.
pub(super) fn span(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    match &text[end..] {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(span("30"), Some(Duration::from_secs(30)));
        assert_eq!(span("30s"), Some(Duration::from_secs(30)));
        assert_eq!(span("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(span("2m"), Some(Duration::from_secs(120)));
        for wrong in ["", "s", "-1", "1h", "1.5s", "99999999999999999999", "1 s", "ä"] {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(time(Millis(1_795_170_896_123)), "2026-11-20T10:34:56Z");
        assert_eq!(time(Millis::MAX), "", "nonsense is not a panic");
    }
}
