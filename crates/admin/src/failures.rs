//! Counts wrong tokens per address, so that guessing is slow and the log stays short.
//!
//! A right token is never turned away: an attacker must not be able to lock operators out, least of all from an
//! address they share. Bounded: addresses beyond [`MAX_ADDRESSES`] share one counter.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens an address may send in one [`PERIOD`] before it hears 429.
pub(crate) const ALLOWED: u32 = 10;
pub(crate) const PERIOD: Duration = Duration::from_secs(60);
const MAX_ADDRESSES: usize = 1_024;

#[derive(Debug, Default)]
pub(crate) struct Failures {
    seen: Mutex<HashMap<Option<IpAddr>, Count>>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    since: Instant,
    failures: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Say what is wrong with the token.
    Tell,
    /// Say only: later. The first such answer of a period is worth a line in the log.
    Later { retry_after: Duration, first: bool },
}

impl Failures {
    /// A wrong token came from `address`.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> Verdict {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut who = Some(neighbour(address));
        if !seen.contains_key(&who) && seen.len() >= MAX_ADDRESSES {
            seen.retain(|_, count| now.duration_since(count.since) < PERIOD);
            if seen.len() >= MAX_ADDRESSES {
                who = None; // Everybody else shares one counter.
            }
        }
        let count = seen.entry(who).or_insert(Count { since: now, failures: 0 });
        if now.duration_since(count.since) >= PERIOD {
            *count = Count { since: now, failures: 0 };
        }
        count.failures = count.failures.saturating_add(1);
        if count.failures <= ALLOWED {
            return Verdict::Tell;
        }
        let retry_after = PERIOD.saturating_sub(now.duration_since(count.since));
        Verdict::Later { retry_after, first: count.failures == ALLOWED + 1 }
    }
}

/// IPv6 addresses of one /64 are one neighbour.
pub(crate) fn neighbour(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn ten_wrong_tokens_are_told_the_next_hear_later_until_the_period_ends() {
        let failures = Failures::default();
        let start = Instant::now();
        for _ in 0..ALLOWED {
            assert_eq!(failures.count(v4(1), start), Verdict::Tell);
        }
        assert_eq!(failures.count(v4(1), start), Verdict::Later { retry_after: PERIOD, first: true });
        assert!(matches!(failures.count(v4(1), start), Verdict::Later { first: false, .. }));
        assert_eq!(failures.count(v4(2), start), Verdict::Tell, "another address is another counter");
        assert_eq!(failures.count(v4(1), start + PERIOD), Verdict::Tell);
    }

    #[test]
    fn a_flood_of_addresses_shares_one_counter_and_stays_bounded() {
        let failures = Failures::default();
        let now = Instant::now();
        let verdicts: Vec<_> = (0..3_000).map(|n| failures.count(v4(n), now)).collect();
        assert!(matches!(verdicts.last(), Some(Verdict::Later { .. })));
        assert!(failures.seen.lock().expect("not poisoned").len() <= MAX_ADDRESSES + 1);
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let failures = Failures::default();
        let now = Instant::now();
        for n in 0..u128::from(ALLOWED) {
            let address = IpAddr::V6(((0x2001_0db8_u128 << 96) + n).into());
            assert_eq!(failures.count(address, now), Verdict::Tell);
        }
        let address = IpAddr::V6(((0x2001_0db8_u128 << 96) + 99).into());
        assert!(matches!(failures.count(address, now), Verdict::Later { .. }));
    }
}
