//! `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers says, and `Retry-After`.

use std::fmt::Write;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_limiter::Standing;
use tidegate_policy::{Limit, Mode};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");

/// The two header values: `"per-key";q=600;w=60` and `"per-key";r=599;t=12`, a list when there are several limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    policy: Option<HeaderValue>,
    standing: Option<HeaderValue>,
}

impl Shown {
    /// Observed limits are not shown: they bind nobody.
    pub(crate) fn new<'a>(limits: impl Iterator<Item = (&'a Limit, &'a Standing)>) -> Self {
        let (mut policy, mut standing) = (String::with_capacity(64), String::with_capacity(64));
        for (limit, at) in limits.filter(|(limit, _)| limit.mode == Mode::Enforce) {
            let comma = if policy.is_empty() { "" } else { ", " };
            let window = seconds(limit.window.to_duration()).max(1);
            let (max, left, reset) = (limit.max.0, at.remaining.0, seconds(at.reset));
            let name = Quoted(&limit.name);
            let _infallible = write!(policy, "{comma}{name};q={max};w={window}");
            let _infallible = write!(standing, "{comma}{name};r={left};t={reset}");
        }
        Self { policy: value(policy), standing: value(standing) }
    }

    pub(crate) fn put(self, headers: &mut HeaderMap) {
        if let (Some(policy), Some(standing)) = (self.policy, self.standing) {
            headers.insert(POLICY, policy);
            headers.insert(STANDING, standing);
        }
    }
}

fn value(text: String) -> Option<HeaderValue> {
    if text.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}

/// A structured-field string (RFC 9651 § 3.3.3): printable ASCII, quote and backslash escaped.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                ' '..='~' => f.write_char(c)?,
                _ => f.write_char('_')?,
            }
        }
        f.write_char('"')
    }
}

/// Whole seconds, rounded up: a client that waits so long does not come too early.
pub(crate) fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use tidegate_model::{LimitId, Nanos, Permits, Revision};
    use tidegate_policy::OnUnavailable;

    use super::*;

    fn limit(name: &str, mode: Mode) -> Limit {
        Limit {
            id: LimitId(1),
            revision: Revision(1),
            name: name.into(),
            max: Permits(600),
            window: Nanos::from_secs(60),
            per: vec![],
            mode,
            on_unavailable: OnUnavailable::Share,
            count_hits: true,
        }
    }

    #[test]
    fn each_enforced_limit_is_one_member_of_both_lists() {
        let standing = Standing { remaining: Permits(7), reset: Duration::from_millis(1_200), would_refuse: false, unsafely: false };
        let (a, b, c) = (limit("a", Mode::Enforce), limit("b", Mode::Observe), limit("c\"", Mode::Enforce));
        let shown = Shown::new([(&a, &standing), (&b, &standing), (&c, &standing)].into_iter());
        assert_eq!(shown.policy.expect("two limits"), "\"a\";q=600;w=60, \"c\\\"\";q=600;w=60");
        assert_eq!(shown.standing.expect("two limits"), "\"a\";r=7;t=2, \"c\\\"\";r=7;t=2");
    }
}
