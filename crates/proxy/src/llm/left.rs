//! What is left of a caller's limits, as SDKs of models read it: `x-ratelimit-*` of requests, of tokens and of dollars,
//! each of the limit that has least left.

use http::{HeaderName, HeaderValue};
use tidegate_policy::{Cost, Mode, Snapshot};
use tidegate_telemetry::Standing;

/// The limit, and what is left of it.
type Least = Option<(u64, u64)>;

const REQUESTS: Names = names("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests");
const TOKENS: Names = names("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens");
const MONEY: Names = names("x-ratelimit-limit-cost", "x-ratelimit-remaining-cost");

type Names = [HeaderName; 2];
type Write = fn(u64) -> HeaderValue;

const fn names(limit: &'static str, remaining: &'static str) -> Names {
    [HeaderName::from_static(limit), HeaderName::from_static(remaining)]
}

/// Each at most once.
pub(super) fn headers(snapshot: &Snapshot, standings: &[Standing]) -> Vec<(HeaderName, HeaderValue)> {
    let (mut requests, mut tokens, mut money): (Least, Least, Least) = (None, None, None);
    for standing in standings {
        let Some(limit) = snapshot.limits.get(standing.limit).filter(|limit| limit.mode == Mode::Enforce) else {
            continue;
        };
        let least = match limit.cost {
            Cost::Tokens { .. } => &mut tokens,
            Cost::Money { .. } => &mut money,
            Cost::Fixed(_) => &mut requests,
            _ => continue,
        };
        let Some(left) = standing.remaining else { continue };
        if least.is_none_or(|(_, known)| left.0 < known) {
            *least = Some((limit.max.0, left.0));
        }
    }
    let mut headers = Vec::new();
    for (names, least, value) in
        [(REQUESTS, requests, HeaderValue::from as Write), (TOKENS, tokens, HeaderValue::from), (MONEY, money, dollars)]
    {
        if let Some((max, left)) = least {
            let [limit, remaining] = names;
            headers.extend([(limit, value(max)), (remaining, value(left))]);
        }
    }
    headers
}

/// `0.000175`: as many decimals as it takes.
pub(super) fn dollars(nanos: u64) -> HeaderValue {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_told_to_the_last_billionth() {
        for (nanos, text) in [(0, "0"), (1, "0.000000001"), (25_500_000_000, "25.5"), (10_000_000_000, "10")] {
            assert_eq!(dollars(nanos), text);
        }
    }
}
