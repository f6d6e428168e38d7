//! When a certificate is renewed, and how long is waited after a failure. The caller brings the time.

use std::time::Duration;

use crate::trouble::Then;

/// Two thirds into a certificate's life, and up to a fiftieth of it later, by `seed`: certificates that were issued together
/// are not renewed together. Seconds since 1970, as the arguments.
#[must_use]
pub fn renew_at(not_before: u64, not_after: u64, seed: u64) -> u64 {
    let life = not_after.saturating_sub(not_before);
    let late = u64::try_from(u128::from(life / 50) * u128::from(seed % 1_000) / 1_000).unwrap_or_default();
    not_before.saturating_add(life - life / 3).saturating_add(late)
}

/// After so many failures in a row (1 and up). Who was not reached is asked again soon; who said no is left alone for longer:
/// authorities count refusals by the hour. What it asked for is kept to.
#[must_use]
pub fn pause(failures: u32, then: Then, retry_after: Option<Duration>, seed: u64) -> Duration {
    let (first, longest) = match then {
        Then::GoOn => (Duration::from_secs(2), Duration::from_secs(300)),
        Then::BeginAnew | Then::NoAccount => (Duration::from_secs(30), Duration::from_secs(6 * 3_600)),
    };
    let doubled = first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(20)).unwrap_or(u32::MAX));
    let pause = doubled.min(longest).max(retry_after.unwrap_or_default());
    let jitter = u32::try_from(seed % 128).unwrap_or_default();
    pause + pause / 1_024 * jitter
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_not_all_at_once() {
        assert_eq!(renew_at(0, 90 * DAY, 0), 60 * DAY);
        let latest = renew_at(0, 90 * DAY, 999);
        assert!(60 * DAY < latest && latest < 62 * DAY, "{latest}");
        assert_eq!(renew_at(1_000, 1_030, 0), 1_020);
        assert_eq!(renew_at(50, 40, 7), 50, "nonsense is renewed at once");
    }

    #[test]
    fn pauses_grow_to_a_bound_and_keep_to_what_was_asked_for() {
        let seconds = |failures, then| pause(failures, then, None, 0).as_secs();
        assert_eq!((1..5).map(|n| seconds(n, Then::GoOn)).collect::<Vec<_>>(), [2, 4, 8, 16]);
        assert_eq!(seconds(1_000, Then::GoOn), 300);
        assert_eq!((1..4).map(|n| seconds(n, Then::BeginAnew)).collect::<Vec<_>>(), [30, 60, 120]);
        assert_eq!(seconds(u32::MAX, Then::BeginAnew), 6 * 3_600);
        let asked = pause(1, Then::GoOn, Some(Duration::from_secs(900)), 127);
        assert!(Duration::from_secs(900) <= asked && asked < Duration::from_secs(1_020), "{asked:?}");
    }
}
