//! One line of a decision log, and how it is written: 64 bytes, as `evidence.rs` draws them.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;
use siphasher::sip128::Hasher128 as _;
use tidegate_model::{LimitId, Nanos, Permits, Subject};

use super::RECORD_BYTES;
use crate::protocol::{Key, Kind, Period, Rate};

const KIND_SHIFT: u32 = 56;
const COST: u64 = (1 << KIND_SHIFT) - 1;

/// By what a limit is judged that is no sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Any stretch of time: at most `max` and what the rate brings.
    Bucket(Rate),
    /// At most `max` at a time.
    Concurrency,
    /// At most `max` in each calendar window: so much of it is what the one before may have left. How long one is about;
    /// zero: nobody said.
    Dated { carry: Permits, period: Nanos },
    /// As a bucket. What is granted adds to `max` while the order stands.
    Smooth(Rate),
}

impl Rule {
    pub(super) fn rate(&self) -> Rate {
        match self {
            Self::Bucket(rate) | Self::Smooth(rate) => *rate,
            Self::Concurrency | Self::Dated { .. } => Rate { permits: 0, per: Nanos(1) },
        }
    }
}

/// One line of a decision log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    Permit {
        at: Nanos,
        key: Key,
        cost: Permits,
        request: RequestMark,
    },
    /// The node learnt of this limit, or of its new maximum, at `at`.
    Policy {
        at: Nanos,
        limit: LimitId,
        max: Permits,
        window: Nanos,
    },
    /// As [`Record::Permit`]: it counts to this calendar window, whenever it was taken.
    Dated {
        at: Nanos,
        key: Key,
        cost: Permits,
        request: RequestMark,
        window: u32,
    },
    /// A place of a concurrency limit is in use from here on.
    Begin {
        at: Nanos,
        key: Key,
        cost: Permits,
        request: RequestMark,
    },
    /// It is free again, or its lease has ended.
    End {
        at: Nanos,
        key: Key,
        cost: Permits,
        request: RequestMark,
    },
    /// Of the `reserved` permits that were taken at `at` so many were used; what is above is owed.
    Settled {
        at: Nanos,
        key: Key,
        used: Permits,
        reserved: Permits,
    },
    /// As [`Record::Policy`], of other kinds.
    Rule {
        at: Nanos,
        limit: LimitId,
        max: Permits,
        rule: Rule,
    },
    /// What people call the limit: its first 32 bytes, zero-padded.
    Name {
        at: Nanos,
        limit: LimitId,
        name: [u8; 32],
    },
    /// This subject has a maximum of its own by an operator's order; 0: no longer.
    Ordered {
        at: Nanos,
        key: Key,
        max: Permits,
    },
    /// This subject's bucket has a rate of its own by an operator's order; of no permits: no longer.
    Rated {
        at: Nanos,
        key: Key,
        rate: Rate,
    },
    /// So many permits beyond the maximum, once. None: the order is gone.
    Extra {
        at: Nanos,
        key: Key,
        permits: Permits,
        id: u64,
    },
    /// A count begins anew. `done`: it has.
    Reset {
        at: Nanos,
        limit: LimitId,
        subject: Option<Subject>,
        id: u64,
        done: bool,
    },
}

/// A limit's name as a record holds it.
#[must_use]
pub fn short_name(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    let end = name.floor_char_boundary(32);
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    bytes
}

/// 128 bits that stand for a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestMark(pub u128);

impl RequestMark {
    /// What a record of a calendar window has room for.
    pub(super) fn short(self) -> Self {
        Self(self.0 >> 32 << 32)
    }

    #[must_use]
    pub fn of(request_id: &[u8]) -> Self {
        let mut hasher = siphasher::sip128::SipHasher13::new();
        hasher.write(request_id);
        Self(hasher.finish128().as_u128())
    }
}

impl Record {
    /// A permit, of the calendar window if the limit has them.
    #[must_use]
    pub fn taken(at: Nanos, key: Key, cost: Permits, request: RequestMark, window: Option<u64>) -> Self {
        match window {
            None => Self::Permit { at, key, cost, request },
            Some(window) => {
                let window = u32::try_from(window).unwrap_or(u32::MAX);
                Self::Dated { at, key, cost, request: request.short(), window }
            }
        }
    }

    /// What a node learns of a limit.
    #[must_use]
    pub fn policy(at: Nanos, limit: LimitId, max: Permits, kind: &Kind) -> Self {
        let (max, rule) = match kind {
            Kind::Sliding { window } => return Self::Policy { at, limit, max, window: *window },
            Kind::Bucket { rate } => (max, Rule::Bucket(*rate)),
            Kind::Smooth { rate } => (max, Rule::Smooth(*rate)),
            Kind::Concurrency => (max, Rule::Concurrency),
            Kind::Calendar { period, .. } => (max, dated(*period, Permits::ZERO)),
            Kind::Budget(budget) => (max, dated(budget.period, budget.carry)),
        };
        Self::Rule { at, limit, max, rule }
    }

    #[must_use]
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let (at, limit, subject, cost, kind, request) = match self {
            Self::Permit { at, key, cost, request } => (at, key.limit, key.subject.0, cost.0.min(COST), 1, request.0),
            Self::Dated { at, key, cost, request, window } => {
                (at, key.limit, key.subject.0, cost.0.min(COST), 4, request.short().0 | u128::from(window))
            }
            Self::Begin { at, key, cost, request } => (at, key.limit, key.subject.0, cost.0.min(COST), 5, request.0),
            Self::End { at, key, cost, request } => (at, key.limit, key.subject.0, cost.0.min(COST), 6, request.0),
            Self::Settled { at, key, used, reserved } => {
                // The first field has room for 56 bits: the whole number follows where earlier judges saw nothing.
                let request = u128::from(reserved.0) | u128::from(used.0) << 64;
                (at, key.limit, key.subject.0, used.0.min(COST), 7, request)
            }
            Self::Rule { at, limit, max, rule } => {
                let (code, max, rate) = match rule {
                    Rule::Bucket(rate) => (1, max, rate),
                    Rule::Concurrency => (2, max, Rate { permits: 0, per: Nanos::ZERO }),
                    // The first judges knew one number: what may be carried over is in it.
                    Rule::Dated { carry, period } => {
                        (3, max.saturating_add(carry), Rate { permits: carry.0, per: period })
                    }
                    Rule::Smooth(rate) => (4, max, rate),
                };
                let subject = u128::from(max.0) | u128::from(rate.per.0) << 64;
                (at, limit, subject, 0, 8, code | u128::from(rate.permits) << 64)
            }
            Self::Policy { at, limit, max, window } => {
                (at, limit, u128::from(max.0) | u128::from(window.0) << 64, 0, 2_u64, 0)
            }
            Self::Name { at, limit, name } => {
                let half = |from: usize| u128::from_le_bytes(name[from..from + 16].try_into().expect("sixteen bytes"));
                (at, limit, half(0), 0, 3, half(16))
            }
            Self::Ordered { at, key, max } => {
                (at, key.limit, key.subject.0, max.0.min(COST), 16, u128::from(max.0) << 64)
            }
            Self::Rated { at, key, rate } => {
                let request = u128::from(rate.permits) | u128::from(rate.per.0) << 64;
                (at, key.limit, key.subject.0, 0, 19, request)
            }
            Self::Extra { at, key, permits, id } => {
                (at, key.limit, key.subject.0, permits.0.min(COST), 17, u128::from(id) | u128::from(permits.0) << 64)
            }
            Self::Reset { at, limit, subject, id, done } => {
                let flags = u64::from(subject.is_none()) | u64::from(done) << 1;
                (at, limit, subject.unwrap_or_default().0, flags, 18, u128::from(id))
            }
        };
        let mut bytes = [0; RECORD_BYTES];
        bytes[8..16].copy_from_slice(&at.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&limit.0.to_le_bytes());
        bytes[24..40].copy_from_slice(&subject.to_le_bytes());
        bytes[40..48].copy_from_slice(&(cost | kind << KIND_SHIFT).to_le_bytes());
        bytes[48..64].copy_from_slice(&request.to_le_bytes());
        let check = check(&bytes);
        bytes[..8].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// `None`: not a whole record.
    #[must_use]
    pub fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let u128_at = |at: usize| u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"));
        if u64_at(0) != check(bytes) {
            return None;
        }
        let (at, limit, subject, cost) = (Nanos(u64_at(8)), LimitId(u64_at(16)), u128_at(24), u64_at(40));
        let low = |wide: u128| u64::try_from(wide & u128::from(u64::MAX)).expect("masked");
        let high = |wide: u128| u64::try_from(wide >> 64).expect("shifted");
        let key = Key { limit, subject: Subject(subject) };
        let (spent, request) = (Permits(cost & COST), RequestMark(u128_at(48)));
        match cost >> KIND_SHIFT {
            4 => Some(Self::Dated {
                at,
                key,
                cost: spent,
                request: request.short(),
                window: u32::try_from(request.0 & u128::from(u32::MAX)).expect("masked"),
            }),
            5 => Some(Self::Begin { at, key, cost: spent, request }),
            6 => Some(Self::End { at, key, cost: spent, request }),
            7 => {
                let used = spent.max(Permits(high(request.0)));
                Some(Self::Settled { at, key, used, reserved: Permits(low(request.0)) })
            }
            8 => {
                let (max, rate) = (Permits(low(subject)), Rate { permits: high(request.0), per: Nanos(high(subject)) });
                let (max, rule) = match low(request.0) {
                    1 => (max, Rule::Bucket(rate)),
                    2 => (max, Rule::Concurrency),
                    3 => {
                        let carry = Permits(rate.permits).min(max);
                        (max.saturating_sub(carry), Rule::Dated { carry, period: rate.per })
                    }
                    4 => (max, Rule::Smooth(rate)),
                    _ => return None,
                };
                Some(Self::Rule { at, limit, max, rule })
            }
            1 => Some(Self::Permit {
                at,
                key: Key { limit, subject: Subject(subject) },
                cost: Permits(cost & COST),
                request: RequestMark(u128_at(48)),
            }),
            2 => Some(Self::Policy {
                at,
                limit,
                max: Permits(u64::try_from(subject & u128::from(u64::MAX)).expect("masked")),
                window: Nanos(u64::try_from(subject >> 64).expect("shifted")),
            }),
            3 => {
                let mut name = [0; 32];
                name[..16].copy_from_slice(&subject.to_le_bytes());
                name[16..].copy_from_slice(&bytes[48..64]);
                Some(Self::Name { at, limit, name })
            }
            19 => {
                let rate = Rate { permits: low(request.0), per: Nanos(high(request.0)) };
                Some(Self::Rated { at, key, rate })
            }
            16..=18 => {
                let key = Key { limit, subject: Subject(subject) };
                let (number, id, whole) = (cost & COST, low(request.0), high(request.0));
                Some(match cost >> KIND_SHIFT {
                    16 => Self::Ordered { at, key, max: Permits(number.max(whole)) },
                    17 => Self::Extra { at, key, permits: Permits(number.max(whole)), id },
                    _ => {
                        let subject = (number & 1 == 0).then_some(key.subject);
                        Self::Reset { at, limit, subject, id, done: number & 2 != 0 }
                    }
                })
            }
            _ => None,
        }
    }
}

fn dated(period: Period, carry: Permits) -> Rule {
    Rule::Dated { carry, period: Nanos::from_secs(period.seconds()) }
}

pub(super) fn check(bytes: &[u8; RECORD_BYTES]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&bytes[8..]);
    hasher.finish() | 1 // never the zero of an unwritten record
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { limit: LimitId(3), subject: Subject(1) };

    #[test]
    fn records_survive_the_file() {
        for record in [
            Record::Permit { at: Nanos(9), key: KEY, cost: Permits(4), request: RequestMark(77) },
            Record::Policy {
                at: Nanos(9),
                limit: LimitId(8),
                max: Permits(u64::MAX),
                window: Nanos::from_secs(86_400),
            },
            Record::Name { at: Nanos(9), limit: LimitId(8), name: short_name("per-key") },
            Record::Begin { at: Nanos(9), key: KEY, cost: Permits(1), request: RequestMark(77) },
            Record::End { at: Nanos(9), key: KEY, cost: Permits(1), request: RequestMark(77) },
            Record::Settled { at: Nanos(9), key: KEY, used: Permits(3), reserved: Permits(5) },
            Record::Settled { at: Nanos(9), key: KEY, used: Permits(u64::MAX), reserved: Permits(5) },
            Record::Ordered { at: Nanos(9), key: KEY, max: Permits(1_000_000_000_000_000_000) },
            Record::Extra { at: Nanos(9), key: KEY, permits: Permits(1_000_000_000_000_000_000), id: 7 },
            Record::taken(Nanos(9), KEY, Permits(3), RequestMark(u128::MAX), Some(29_000_000)),
            Record::policy(Nanos(9), LimitId(8), Permits(7), &Kind::Concurrency),
            Record::policy(
                Nanos(9),
                LimitId(8),
                Permits(7),
                &Kind::Bucket { rate: Rate { permits: 3, per: Nanos(9) } },
            ),
            Record::policy(
                Nanos(9),
                LimitId(8),
                Permits(7),
                &Kind::Smooth { rate: Rate { permits: 3, per: Nanos(9) } },
            ),
            Record::policy(
                Nanos(9),
                LimitId(8),
                Permits(7),
                &Kind::Budget(crate::protocol::Budget {
                    period: Period::Month,
                    zone: "UTC".into(),
                    unit: crate::protocol::Unit::Tokens,
                    carry: Permits(3),
                    alerts: Vec::new(),
                }),
            ),
            Record::Ordered { at: Nanos(9), key: KEY, max: Permits(5) },
            Record::Rated { at: Nanos(9), key: KEY, rate: Rate { permits: u64::MAX, per: Nanos(7) } },
            Record::Extra { at: Nanos(9), key: KEY, permits: Permits(5), id: u64::MAX },
            Record::Reset { at: Nanos(9), limit: LimitId(8), subject: None, id: 7, done: true },
            Record::Reset { at: Nanos(9), limit: LimitId(8), subject: Some(KEY.subject), id: 7, done: false },
        ] {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }
}
