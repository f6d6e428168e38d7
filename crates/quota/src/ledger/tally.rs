//! What was spent of a key, by the rules of its limit's kind. Who holds how much of it, [`Count`](super::count::Count) knows
//! and tells.
//!
//! One file for each kind that has something to remember: [`Window`] (also used by partition reserves), [`Bucket`], [`Dated`], [`Smooth`].

mod bucket;
mod dated;
mod lives;
mod smooth;

use std::collections::VecDeque;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeTuple as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_model::{Nanos, Permits};

use self::bucket::Bucket;
pub(super) use self::dated::Dated;
use self::lives::Lives;
pub(super) use self::smooth::{Share, Smooth};
use crate::guard;
use crate::kind::next;
use crate::protocol::{Kind, Policy};
use crate::window::Window;

/// What one kind of limit remembers of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tally {
    Sliding(Window),
    Other(Other),
}

/// The kinds that came after the first. Append only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Other {
    Bucket(Bucket),
    /// All there is to know is who holds how much.
    Concurrency,
    Dated(Dated),
    Smooth(Smooth),
    /// As `Dated` is written where processes journal; in memory it is that.
    Journalled(Dated, Lives),
}

impl Tally {
    /// Of a key that nothing was spent of.
    pub(super) fn new(clock: Nanos, policy: &Policy) -> Self {
        match policy.kind {
            Kind::Sliding { .. } => Self::Sliding(Window::default()),
            Kind::Bucket { rate } => Self::Other(Other::Bucket(Bucket::full(policy.max, rate, clock))),
            Kind::Concurrency => Self::Other(Other::Concurrency),
            Kind::Smooth { rate } => Self::Other(Other::Smooth(Smooth::full(policy.max, rate, clock))),
            Kind::Calendar { .. } | Kind::Budget(_) => Self::Other(Other::Dated(Dated::default())),
        }
    }

    /// It is `clock` now, and since this was last called `outstanding` permits were held.
    pub(super) fn pass(&mut self, clock: Nanos, outstanding: Permits, policy: &Policy) {
        match self {
            Self::Sliding(spent) => spent.forget(clock, policy.span()),
            Self::Other(Other::Bucket(bucket)) => bucket.refill(clock, outstanding, policy),
            Self::Other(Other::Smooth(smooth)) => smooth.refill(clock, outstanding, policy),
            Self::Other(Other::Dated(dated)) => dated.seen(clock),
            Self::Other(Other::Concurrency | Other::Journalled(..)) => {}
        }
    }

    /// Permits that were held are spent.
    pub(super) fn spend(&mut self, spent: Permits, clock: Nanos, policy: &Policy) {
        match self {
            Self::Sliding(window) => window.charge(spent, clock, policy.span()),
            Self::Other(Other::Dated(dated)) => dated.spend(spent),
            // They left the level when they were granted.
            Self::Other(Other::Bucket(_) | Other::Concurrency | Other::Journalled(..) | Other::Smooth(_)) => {}
        }
    }

    /// A lease has ended, and nobody can tell what was spent of it. Where time forgets it, it need not be told.
    pub(super) fn lapse(&mut self, held: Permits) {
        if let Self::Other(Other::Dated(dated)) = self
            && guard!("lapsed-dated-lease-counts-as-spent")
        {
            dated.spend(held);
        }
    }

    /// The window that is counted, with calendar windows.
    pub(super) fn dated(&mut self) -> Option<&mut Dated> {
        match self {
            Self::Other(Other::Dated(dated)) => Some(dated),
            Self::Sliding(_) | Self::Other(_) => None,
        }
    }

    /// What is remembered of processes that journal.
    pub(super) fn lives(&self) -> &Lives {
        static NONE: Lives = Lives::none();
        match self {
            Self::Other(Other::Dated(dated)) => &dated.lives,
            Self::Sliding(_) | Self::Other(_) => &NONE,
        }
    }

    /// The rate's parts that nodes hold, of a smooth limit.
    pub(super) fn smooth(&mut self) -> Option<&mut Smooth> {
        match self {
            Self::Other(Other::Smooth(smooth)) => Some(smooth),
            Self::Sliding(_) | Self::Other(_) => None,
        }
    }

    /// Permits that were held, and are charged still, come back unspent. Of a smooth limit nobody can tell: what is held
    /// there is room for permits, and comes back empty.
    pub(super) fn take_back(&mut self, unspent: Permits) {
        match self {
            Self::Other(Other::Bucket(bucket)) => bucket.put(unspent),
            Self::Other(Other::Smooth(smooth)) if !guard!("share-moves-with-its-level") => smooth.put(unspent),
            Self::Sliding(_)
            | Self::Other(Other::Concurrency | Other::Journalled(..) | Other::Dated(_) | Other::Smooth(_)) => {}
        }
    }

    pub(super) fn grant(&mut self, granted: Permits) {
        match self {
            Self::Other(Other::Bucket(bucket)) => bucket.take(granted),
            Self::Other(Other::Smooth(smooth)) => smooth.take(granted),
            Self::Sliding(_) | Self::Other(Other::Concurrency | Other::Journalled(..) | Other::Dated(_)) => {}
        }
    }

    /// What counts against the maximum, beside what is held.
    pub(super) fn spent(&self) -> Permits {
        match self {
            Self::Sliding(window) => window.total(),
            Self::Other(Other::Dated(dated)) => dated.spent(),
            Self::Other(Other::Bucket(_) | Other::Concurrency | Other::Journalled(..) | Other::Smooth(_)) => {
                Permits::ZERO
            }
        }
    }

    /// What may be charged at a time.
    pub(super) fn most(&self, policy: &Policy) -> Permits {
        policy.max.saturating_add(self.carried())
    }

    /// Beyond the maximum, since the window before left it.
    pub(super) fn carried(&self) -> Permits {
        match self {
            Self::Other(Other::Dated(dated)) => dated.carried(),
            Self::Sliding(_) | Self::Other(_) => Permits::ZERO,
        }
    }

    /// As of a key that nothing was spent of. A calendar window stays the one it is.
    pub(super) fn reset(&mut self, clock: Nanos, policy: &Policy) {
        match self {
            Self::Other(Other::Dated(dated)) => dated.reset(),
            Self::Sliding(_) | Self::Other(_) => *self = Self::new(clock, policy),
        }
    }

    /// What nobody holds of a bucket.
    pub(super) fn level(&self) -> Permits {
        match self {
            Self::Other(Other::Bucket(bucket)) => bucket.level(),
            Self::Other(Other::Smooth(smooth)) => smooth.level(),
            Self::Sliding(_) | Self::Other(_) => Permits::ZERO,
        }
    }

    /// What could be granted now.
    pub(super) fn free(&self, charged: Permits, policy: &Policy) -> Permits {
        let free = self.most(policy).saturating_sub(charged);
        match self {
            Self::Other(Other::Bucket(_) | Other::Smooth(_)) => self.level().min(free),
            Self::Sliding(_) | Self::Other(Other::Concurrency | Other::Journalled(..) | Other::Dated(_)) => free,
        }
    }

    /// How long until `missing` more permits than now are free; `None`: not by waiting alone.
    pub(super) fn frees(&self, missing: Permits, clock: Nanos, policy: &Policy) -> Option<Nanos> {
        match self {
            Self::Sliding(window) => window.frees(missing, clock, policy.span()),
            Self::Other(Other::Bucket(bucket)) => bucket.frees(missing, clock, policy),
            // Whenever somebody is done.
            Self::Other(Other::Concurrency | Other::Journalled(..) | Other::Smooth(_)) => Some(policy.span()),
            Self::Other(Other::Dated(_)) => None,
        }
    }

    /// Until when this must be remembered though nobody holds anything; `None`: a new tally would be the same.
    pub(super) fn ends(&self, policy: &Policy) -> Option<Nanos> {
        match self {
            Self::Sliding(window) => (!window.is_empty()).then(|| window.ends(policy.span())),
            Self::Other(Other::Bucket(bucket)) => bucket.is_full_at(policy),
            Self::Other(Other::Smooth(smooth)) => smooth.is_full_at(policy),
            Self::Other(Other::Dated(dated)) => dated.ends(policy),
            Self::Other(Other::Concurrency | Other::Journalled(..)) => None,
        }
    }
}

/// The first tallies were windows, written as (buckets, total), and are so still. No buckets with a total say that another
/// kind comes after them.
const OTHER_FOLLOWS: Permits = Permits(u64::MAX);

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Sliding(window) => window.serialize(serializer),
            Self::Other(other) => {
                let journalled = match other {
                    Other::Dated(dated) if !dated.lives.is_empty() => {
                        Some(Other::Journalled(dated.clone(), dated.lives.clone()))
                    }
                    _ => None,
                };
                let other = journalled.as_ref().unwrap_or(other);
                let mut tuple = serializer.serialize_tuple(3)?;
                tuple.serialize_element(&Vec::<()>::new())?;
                tuple.serialize_element(&OTHER_FOLLOWS)?;
                tuple.serialize_element(other)?;
                tuple.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(3, Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Tally;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("what was spent of a key")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tally, A::Error> {
        let buckets: VecDeque<crate::window::Bucket> = next(&mut seq)?;
        let total: Permits = next(&mut seq)?;
        if buckets.is_empty() && total == OTHER_FOLLOWS {
            return Ok(Tally::Other(match next(&mut seq)? {
                Other::Journalled(dated, lives) => Other::Dated(dated.with(lives)),
                other => other,
            }));
        }
        Ok(Tally::Sliding(Window::of(buckets, total)))
    }
}
