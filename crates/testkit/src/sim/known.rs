//! A limit as a document has it: what the publisher proposes, and what nodes hear of, sooner or later.

use tidegate_model::{Nanos, Permits};
use tidegate_quota::protocol::{Budget, Key, Kind, Nature, Period, Policy, Rate, Unit};

use super::scenario::{Limit, Sort};

/// Percent of a budget that raise an alert.
pub(super) const ALERTS: [u8; 3] = [50, 80, 100];

#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) key: Key,
    pub(super) max: Permits,
    /// True time in which the maximum may be used up once; in which a bucket fills up.
    pub(super) window: Nanos,
    pub(super) sort: Sort,
    pub(super) promised: bool,
    pub(super) share: bool,
    pub(super) active: bool,
    pub(super) revision: u64,
}

impl Known {
    pub(super) fn of(limit: &Limit) -> Self {
        Self {
            key: limit.key,
            max: limit.max,
            window: Nanos(limit.window),
            sort: limit.sort,
            promised: limit.promised && !matches!(limit.sort, Sort::Places | Sort::Smooth),
            share: limit.share && limit.sort == Sort::Sliding,
            active: true,
            revision: 0,
        }
    }

    fn kind(&self) -> Kind {
        let (period, zone) = (Period::Minute, "Asia/Kathmandu".to_owned());
        match self.sort {
            Sort::Sliding => Kind::Sliding { window: self.window },
            Sort::Bucket => Kind::Bucket { rate: Rate { permits: self.max.0, per: self.window } },
            Sort::Smooth => Kind::Smooth { rate: Rate { permits: self.max.0, per: self.window } },
            Sort::Places => Kind::Concurrency,
            Sort::Calendar => Kind::Calendar { period, zone },
            Sort::Budget { .. } => {
                let (unit, carry) = (Unit::Tokens, self.carry());
                Kind::Budget(Budget { period, zone, unit, carry, alerts: ALERTS.to_vec() })
            }
        }
    }

    pub(super) fn carry(&self) -> Permits {
        match self.sort {
            Sort::Budget { carry } => Permits(self.max.0 * carry / 100),
            _ => Permits::ZERO,
        }
    }

    pub(super) fn policy(&self, ttl: Nanos) -> Policy {
        Policy { limit: self.key.limit, max: self.max, ttl, kind: self.kind() }
    }

    /// What "a while" means to the limit, as `Kind::span` says.
    pub(super) fn span(&self) -> Nanos {
        match self.sort {
            Sort::Sliding | Sort::Bucket | Sort::Smooth => self.window,
            Sort::Places => Nanos::SECOND,
            Sort::Calendar | Sort::Budget { .. } => Nanos::from_secs(Period::Minute.seconds()),
        }
    }

    pub(super) fn nature(&self) -> Nature {
        match self.sort {
            Sort::Places => Nature::InUse,
            Sort::Smooth => Nature::Refilled,
            _ => Nature::Spent,
        }
    }

    pub(super) fn is_dated(&self) -> bool {
        matches!(self.sort, Sort::Calendar | Sort::Budget { .. })
    }

    /// May another node take a permit of it for this one?
    pub(super) fn suits_owners(&self) -> bool {
        matches!(self.sort, Sort::Sliding | Sort::Bucket) && !self.promised
    }
}
