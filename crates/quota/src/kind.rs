//! The kinds of limits: what each of them counts, and for how long. What a kind does with reports and grants is in
//! `ledger/tally`; what a node does with its permits, in `holding`.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_model::{LimitId, Nanos, Permits};

use crate::calendar::Period;

/// A limit as the quota log knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub limit: LimitId,
    /// Permits in any window; in a bucket; at a time.
    pub max: Permits,
    /// D, the time to live of a lease.
    pub ttl: Nanos,
    pub kind: Kind,
}

/// What `max` is a maximum of. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// At most `max` in any window of this length.
    Sliding { window: Nanos },
    /// `max` is the burst: any stretch of time τ admits at most `max` + rate × τ.
    Bucket { rate: Rate },
    /// At most `max` at a time, on live leases.
    Concurrency,
    /// At most `max` in each window of the calendar.
    Calendar { period: Period, zone: String },
    /// At most `max` in each period, and what the one before left of it.
    Budget(Budget),
    /// A bucket that fills up faster than nodes can hand permits on: they hold parts of the *rate* and refill themselves.
    Smooth { rate: Rate },
}

/// A calendar window with more to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub period: Period,
    pub zone: String,
    pub unit: Unit,
    /// What was left of a period is there in the next one as well, up to so much.
    pub carry: Permits,
    /// Percent of `max`: passing one raises an event, once in each period.
    pub alerts: Vec<u8>,
}

/// What one permit of a budget is. Append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    Count,
    Tokens,
    /// 10⁻⁹ of the currency.
    NanoMoney,
}

/// So many permits each so often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate {
    pub permits: u64,
    pub per: Nanos,
}

impl Rate {
    /// Whole permits that come in `time`, and the time that they took, rounded up.
    #[must_use]
    pub fn whole(self, time: Nanos) -> (Permits, Nanos) {
        let (permits, per) = (u128::from(self.permits), u128::from(self.per.0.max(1)));
        let whole = u128::from(time.0) * permits / per;
        if whole == 0 {
            return (Permits::ZERO, Nanos::ZERO);
        }
        let took = (whole * per).div_ceil(permits);
        (Permits(narrow(whole)), Nanos(narrow(took)))
    }

    /// How long `permits` take to come, rounded up; [`Nanos::MAX`] if they never do.
    #[must_use]
    pub fn time(self, permits: Permits) -> Nanos {
        if self.permits == 0 {
            return Nanos::MAX;
        }
        Nanos(narrow((u128::from(permits.0) * u128::from(self.per.0)).div_ceil(u128::from(self.permits))))
    }

    /// The slower of two.
    #[must_use]
    pub fn slower(self, other: Self) -> Self {
        let cross = |one: Self, other: Self| u128::from(one.permits) * u128::from(other.per.0);
        if cross(self, other) <= cross(other, self) { self } else { other }
    }
}

fn narrow(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

/// A part of a rate, in thousandths of a permit a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Flow(pub u64);

impl Flow {
    pub const ZERO: Self = Self(0);

    /// All of a rate, rounded down.
    #[must_use]
    pub fn of(rate: Rate) -> Self {
        Self(narrow(u128::from(rate.permits) * 1_000_000_000_000 / u128::from(rate.per.0.max(1))))
    }

    #[must_use]
    pub const fn rate(self) -> Rate {
        Rate { permits: self.0, per: Nanos::from_secs(1_000) }
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// How a permit ends its life on the node that took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nature {
    /// Taken, it is spent.
    #[default]
    Spent,
    /// Taken, it is in use, and comes back when that ends.
    InUse,
    /// Taken, it is spent, and the node fills up what it holds by itself.
    Refilled,
}

/// A bucket that is full again in less than this is shared by rate: a node that is out of permits waits about so long for
/// more, so that handed out as permits a part of the rate would be lost.
const SMOOTH_BELOW: Nanos = Nanos::from_millis(25);

impl Kind {
    /// Of a limit of this rate and burst, whichever of the two kinds of buckets serves it better.
    #[must_use]
    pub fn bucket(rate: Rate, burst: Permits) -> Self {
        if rate.time(burst) < SMOOTH_BELOW { Self::Smooth { rate } } else { Self::Bucket { rate } }
    }

    /// How fast it fills up, if it does.
    #[must_use]
    pub const fn rate(&self) -> Option<Rate> {
        match self {
            Self::Bucket { rate } | Self::Smooth { rate } => Some(*rate),
            Self::Sliding { .. } | Self::Concurrency | Self::Calendar { .. } | Self::Budget(_) => None,
        }
    }

    /// The same kind of bucket with another rate; any other kind as it is.
    #[must_use]
    pub fn at_rate(&self, rate: Rate) -> Self {
        match self {
            Self::Bucket { .. } => Self::Bucket { rate },
            Self::Smooth { .. } => Self::Smooth { rate },
            other => other.clone(),
        }
    }

    #[must_use]
    pub fn nature(&self) -> Nature {
        match self {
            Self::Concurrency => Nature::InUse,
            Self::Smooth { .. } => Nature::Refilled,
            Self::Sliding { .. } | Self::Bucket { .. } | Self::Calendar { .. } | Self::Budget(_) => Nature::Spent,
        }
    }

    /// The stretch of time in which `max` permits may be used up and be there again: what "a while" means to this limit.
    #[must_use]
    pub fn span(&self, max: Permits) -> Nanos {
        match self {
            Self::Sliding { window } => *window,
            Self::Bucket { rate } | Self::Smooth { rate } => rate.time(max),
            Self::Concurrency => Nanos::SECOND,
            Self::Calendar { period, .. } | Self::Budget(Budget { period, .. }) => Nanos::from_secs(period.seconds()),
        }
    }

    /// How long a permit stays charged beyond the life of its lease.
    #[must_use]
    pub fn lingers(&self) -> Nanos {
        match self {
            Self::Sliding { window } => *window,
            Self::Bucket { .. } | Self::Smooth { .. } | Self::Concurrency => Nanos::ZERO,
            Self::Calendar { .. } | Self::Budget(_) => Nanos::ZERO,
        }
    }

    /// The windows that its permits are tagged with, if they are.
    #[must_use]
    pub fn period(&self) -> Option<(Period, &str)> {
        match self {
            Self::Calendar { period, zone } | Self::Budget(Budget { period, zone, .. }) => Some((*period, zone)),
            Self::Sliding { .. } | Self::Bucket { .. } | Self::Smooth { .. } | Self::Concurrency => None,
        }
    }

    /// Do nodes journal what they may have spent of it? What a lost process held is gone for a period otherwise: of a minute
    /// that is not worth a write to the disk.
    #[must_use]
    pub fn is_journalled(&self) -> bool {
        match self {
            Self::Budget(_) => true,
            Self::Calendar { period, .. } => period.seconds() > 60,
            Self::Sliding { .. } | Self::Bucket { .. } | Self::Concurrency | Self::Smooth { .. } => false,
        }
    }

    /// Of two kinds of one limit, one that is safe for both. Another kind is another limit, so this is for hostile logs.
    pub(crate) fn safer(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Sliding { window }, Self::Sliding { window: other }) => Self::Sliding { window: *window.max(other) },
            // The tally counts on with the slower rate.
            (Self::Bucket { .. }, Self::Bucket { .. })
            | (Self::Smooth { .. }, Self::Smooth { .. })
            | (Self::Budget(_), Self::Budget(_)) => other.clone(),
            _ => self.clone(),
        }
    }
}

impl Policy {
    /// A sliding window.
    #[must_use]
    pub const fn sliding(limit: LimitId, max: Permits, window: Nanos, ttl: Nanos) -> Self {
        Self { limit, max, ttl, kind: Kind::Sliding { window } }
    }

    #[must_use]
    pub fn span(&self) -> Nanos {
        self.kind.span(self.max)
    }
}

/// The first policies were sliding windows, written as (limit, max, window, ttl), and are so still. A window that nobody
/// can write says that the kind comes after them: what an earlier release wrote is read as it was.
const KIND_FOLLOWS: Nanos = Nanos::MAX;

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let plain = match &self.kind {
            Kind::Sliding { window } if *window != KIND_FOLLOWS => Some(*window),
            _ => None,
        };
        let mut tuple = serializer.serialize_tuple(if plain.is_some() { 4 } else { 5 })?;
        tuple.serialize_element(&self.limit)?;
        tuple.serialize_element(&self.max)?;
        tuple.serialize_element(&plain.unwrap_or(KIND_FOLLOWS))?;
        tuple.serialize_element(&self.ttl)?;
        if plain.is_none() {
            tuple.serialize_element(&self.kind)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(5, Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Policy;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a policy")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Policy, A::Error> {
        let limit = next(&mut seq)?;
        let max = next(&mut seq)?;
        let window: Nanos = next(&mut seq)?;
        let ttl = next(&mut seq)?;
        let kind = if window == KIND_FOLLOWS { next(&mut seq)? } else { Kind::Sliding { window } };
        Ok(Policy { limit, max, ttl, kind })
    }
}

pub(crate) fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom("cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_never_gives_more_than_time_allows() {
        let thirds = Rate { permits: 3, per: Nanos(10) };
        assert_eq!(thirds.whole(Nanos(3)), (Permits(0), Nanos(0)));
        assert_eq!(thirds.whole(Nanos(4)), (Permits(1), Nanos(4)));
        assert_eq!(thirds.whole(Nanos(19)), (Permits(5), Nanos(17)));
        assert_eq!(thirds.time(Permits(5)), Nanos(17));
        assert_eq!(Rate { permits: 0, per: Nanos(1) }.time(Permits(1)), Nanos::MAX);
        assert_eq!(Rate { permits: u64::MAX, per: Nanos(1) }.whole(Nanos::MAX).0, Permits(u64::MAX));
    }

    #[test]
    fn policies_of_the_first_release_are_read_and_written_as_they_were() {
        let config = bincode::config::standard();
        let write = |policy: &Policy| bincode::serde::encode_to_vec(policy, config).expect("plain data");
        let first = (LimitId(3), Permits(9), Nanos(60), Nanos(4));
        let policy = Policy::sliding(LimitId(3), Permits(9), Nanos(60), Nanos(4));
        assert_eq!(write(&policy), bincode::serde::encode_to_vec(first, config).expect("plain data"));
        let rate = Rate { permits: 3, per: Nanos::SECOND };
        for kind in
            [Kind::Sliding { window: Nanos::MAX }, Kind::Bucket { rate }, Kind::Smooth { rate }, Kind::Concurrency]
        {
            let policies = vec![Policy { kind, ..policy.clone() }, policy.clone()];
            let bytes = bincode::serde::encode_to_vec(&policies, config).expect("plain data");
            let (read, used): (Vec<Policy>, _) = bincode::serde::decode_from_slice(&bytes, config).expect("as written");
            assert_eq!((read, used), (policies, bytes.len()));
        }
    }
}
