//! `RateLimit-Policy` and `RateLimit` as draft-ietf-httpapi-ratelimit-headers says, and `Retry-After`.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_limiter::{Quota, Standing};
use tidegate_policy::{Limit, Mode};

use crate::limits::Few;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STANDING: HeaderName = HeaderName::from_static("ratelimit");

/// The two header values: `"per-key";q=600;w=60` and `"per-key";r=599;t=12`, a list when there are several limits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    policy: Option<HeaderValue>,
    standing: Option<HeaderValue>,
    /// What callers of another kind read. Hardly ever anything.
    also: Vec<(HeaderName, HeaderValue)>,
}

impl Shown {
    /// Observed limits are not shown: they bind nobody. `owns`: what the caller has that is not what the limits say; empty
    /// when that is nothing.
    pub(crate) fn new(limits: &[&Arc<Limit>], owns: &[Option<Quota>], standings: &[Standing]) -> Self {
        Known::with(limits, owns, |known, text| {
            let policy = known.policy.clone()?;
            text.clear();
            for (name, at) in known.names.iter().zip(standings) {
                if let Some(name) = name {
                    text.extend_from_slice(name);
                    number(text, b";r=", at.remaining.0);
                    number(text, b";t=", seconds(at.reset));
                }
            }
            Some(Self { policy: Some(policy), standing: HeaderValue::from_bytes(text).ok(), also: Vec::new() })
        })
        .unwrap_or_default()
    }

    pub(crate) fn with(self, also: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { also, ..self }
    }

    pub(crate) fn put(self, headers: &mut HeaderMap) {
        if let (Some(policy), Some(standing)) = (self.policy, self.standing) {
            headers.insert(POLICY, policy);
            headers.insert(STANDING, standing);
        }
        for (name, value) in self.also {
            headers.insert(name, value);
        }
    }
}

/// How many sets of limits a thread remembers: the same few are shown again and again.
const REMEMBERED: usize = 16;

/// What does not change about a set of limits.
struct Known {
    /// Kept alive, so that no other limit can lie at the same address.
    limits: Few<Arc<Limit>>,
    owns: Few<Option<Quota>>,
    policy: Option<HeaderValue>,
    /// As they stand in the list, with the comma before them; `None`: not shown.
    names: Few<Option<Box<[u8]>>>,
}

struct Memory {
    known: [Option<Known>; REMEMBERED],
    /// Room to write in.
    text: Vec<u8>,
}

impl Known {
    fn with<R>(limits: &[&Arc<Limit>], owns: &[Option<Quota>], then: impl FnOnce(&Self, &mut Vec<u8>) -> R) -> R {
        thread_local!(static MEMORY: RefCell<Memory> = const {
            RefCell::new(Memory { known: [const { None }; REMEMBERED], text: Vec::new() })
        });
        let place = limits.iter().fold(0, |mix: usize, limit| mix.wrapping_mul(31) ^ (Arc::as_ptr(limit).addr() >> 4));
        let place = owns.iter().flatten().fold(place, |mix, own| mix.wrapping_mul(31) ^ own.max.0 as usize);
        MEMORY.with_borrow_mut(|Memory { known, text }| {
            let slot = &mut known[place % REMEMBERED];
            match slot {
                Some(known) if known.is_of(limits, owns) => then(known, text),
                _ => then(slot.insert(Self::new(limits, owns)), text),
            }
        })
    }

    fn is_of(&self, limits: &[&Arc<Limit>], owns: &[Option<Quota>]) -> bool {
        *self.owns == *owns
            && self.limits.len() == limits.len()
            && self.limits.iter().zip(limits).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    fn new(limits: &[&Arc<Limit>], owns: &[Option<Quota>]) -> Self {
        let mut policy = Vec::new();
        let mut names = Few::new();
        for (nth, limit) in limits.iter().enumerate() {
            if limit.mode != Mode::Enforce {
                names.push(None);
                continue;
            }
            let from = policy.len();
            name(&mut policy, &limit.name);
            names.push(Some(policy[from..].into()));
            let own = owns.get(nth).copied().flatten();
            let Quota { max, span } = own.unwrap_or(Quota { max: limit.max, span: limit.span() });
            number(&mut policy, b";q=", max.0);
            // So many at a time: there is no window.
            if !matches!(limit.kind, tidegate_policy::Kind::Concurrency) {
                number(&mut policy, b";w=", seconds(span.to_duration()).max(1));
            }
        }
        let policy = (!policy.is_empty()).then(|| HeaderValue::from_bytes(&policy).ok()).flatten();
        let limits = limits.iter().map(|limit| Arc::clone(limit)).collect();
        Self { limits, owns: owns.into(), policy, names }
    }
}

/// A list's next member, a structured-field string (RFC 9651 § 3.3.3): printable ASCII, quote and backslash escaped.
fn name(list: &mut Vec<u8>, name: &str) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.push(b'"');
    for c in name.chars() {
        match c {
            '"' | '\\' => list.extend_from_slice(&[b'\\', c as u8]),
            ' '..='~' => list.push(c as u8),
            _ => list.push(b'_'),
        }
    }
    list.push(b'"');
}

fn number(list: &mut Vec<u8>, parameter: &[u8], mut number: u64) {
    list.extend_from_slice(parameter);
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    list.extend_from_slice(&digits[at..]);
}

/// Whole seconds, rounded up: a client that waits so long does not come too early.
pub(crate) fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use tidegate_model::{LimitId, Nanos, Permits, Revision};
    use tidegate_policy::{Kind, OnUnavailable};

    use super::*;

    fn limit(name: &str, mode: Mode) -> Limit {
        Limit {
            id: LimitId(1),
            revision: Revision(1),
            name: name.into(),
            max: Permits(600),
            kind: Kind::Sliding { window: Nanos::from_secs(60) },
            cost: tidegate_policy::Cost::ONE,
            per: vec![],
            mode,
            on_unavailable: OnUnavailable::Share,
            count_hits: true,
            on_missing: tidegate_policy::OnMissing::Share,
            terms: tidegate_policy::Terms::default(),
        }
    }

    #[test]
    fn each_enforced_limit_is_one_member_of_both_lists() {
        let standing = Standing {
            remaining: Permits(7),
            reset: Duration::from_millis(1_200),
            would_refuse: false,
            unsafely: false,
        };
        let [a, b, c] =
            [("a", Mode::Enforce), ("b", Mode::Observe), ("c\"", Mode::Enforce)].map(|(n, m)| Arc::new(limit(n, m)));
        for _remembered in 0..2 {
            let shown = Shown::new(&[&a, &b, &c], &[], &[standing; 3]);
            assert_eq!(shown.policy.expect("two limits"), "\"a\";q=600;w=60, \"c\\\"\";q=600;w=60");
            assert_eq!(shown.standing.expect("two limits"), "\"a\";r=7;t=2, \"c\\\"\";r=7;t=2");
            let less = Shown::new(&[&a], &[], &[standing]);
            assert_eq!(less.policy.expect("one limit"), "\"a\";q=600;w=60");
            for own in [700, 800] {
                let own = Some(Quota { max: Permits(own), span: Nanos::from_secs(10) });
                let shown = Shown::new(&[&a, &c], &[own, None], &[standing; 2]).policy.expect("two limits");
                let q = own.map_or(0, |own| own.max.0);
                assert_eq!(shown, format!("\"a\";q={q};w=10, \"c\\\"\";q=600;w=60"));
            }
        }
        assert!(Shown::new(&[&b], &[], &[standing]).policy.is_none());
    }
}
