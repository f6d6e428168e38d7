//! What is left of a caller's limits, as SDKs of models read it: `x-ratelimit-*` of requests and of tokens, each of the
//! limit that has least left.

use http::{HeaderMap, HeaderName};
use tidegate_policy::{Cost, Mode, Snapshot};
use tidegate_telemetry::Standing;

/// The limit, and what is left of it.
type Least = Option<(u64, u64)>;

pub(super) fn headers(snapshot: &Snapshot, standings: &[Standing]) -> HeaderMap {
    let (mut requests, mut tokens): (Least, Least) = (None, None);
    for standing in standings {
        let Some(limit) = snapshot.limits.get(standing.limit).filter(|limit| limit.mode == Mode::Enforce) else {
            continue;
        };
        let least = match limit.cost {
            Cost::Tokens { .. } => &mut tokens,
            Cost::Fixed(_) => &mut requests,
            _ => continue,
        };
        let Some(left) = standing.remaining else { continue };
        if least.is_none_or(|(_, known)| left.0 < known) {
            *least = Some((limit.max.0, left.0));
        }
    }
    let mut headers = HeaderMap::new();
    let names = [
        (requests, "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"),
        (tokens, "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
    ];
    for (least, limit, remaining) in names {
        if let Some((max, left)) = least {
            headers.insert(HeaderName::from_static(limit), max.into());
            headers.insert(HeaderName::from_static(remaining), left.into());
        }
    }
    headers
}
