//! How outcomes and instants are worded.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339() {
        assert_eq!(time(Millis(1_795_170_896_123)), "2026-11-20T10:34:56Z");
        assert_eq!(time(Millis::MAX), "", "nonsense is not a panic");
    }
}
