//! What operators ordered about limits, as the ledger goes by it: maxima instead of the document's, extra permits, counts
//! begun anew. Who ordered it and until when, the control group knows; an order that lapsed is one that is missing here.
//!
//! ```text
//!  extra permits of a window     free = max + extra − charged        over max: the excess leaves the extra and is a credit for W
//!  of a bucket                   level += extra, and level + held ≤ B + extra; the extra is what is above B, and only shrinks
//!  of a calendar, a budget       as of a window, and the credit is the open window's; nothing of an extra is carried over
//!  of places, a smooth limit     max + extra while the order stands
//! ```
//! A credit is drawn when a grant goes above the maximum, and what made it necessary is charged for at least as long as it:
//! over all time no more than the extra is admitted beyond the limit.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Deserializer, Serialize};
use tidegate_model::{LimitId, Nanos, Permits, Subject};

use super::count::Count;
use super::windows::Window;
use crate::guard;
use crate::protocol::{self, Key, Kind, Policy, Rate, Rated, Reset};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Orders {
    /// Of the newest orders; lower ones are a slower leader's.
    epoch: u64,
    limits: BTreeMap<LimitId, Permits>,
    keys: BTreeMap<Key, Permits>,
    extras: BTreeMap<Key, Extra>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Extra {
    /// By their orders, oldest first: what is left of each.
    left: BTreeMap<u64, Permits>,
    /// What a window holds beyond its maximum, and since when; of a window of the calendar its number. Never more entries
    /// than there were permits.
    drawn: VecDeque<(Nanos, Permits)>,
}

/// Rates of buckets. They came later than other orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rates {
    limits: BTreeMap<LimitId, Rate>,
    keys: BTreeMap<Key, Rate>,
}

/// The first ledgers ended before them.
pub(super) fn added_later<'de, D: Deserializer<'de>>(from: D) -> Result<Orders, D::Error> {
    Ok(Orders::deserialize(from).unwrap_or_default())
}

/// As [`added_later`].
pub(super) fn rates_added_later<'de, D: Deserializer<'de>>(from: D) -> Result<Rates, D::Error> {
    Ok(Rates::deserialize(from).unwrap_or_default())
}

impl Rates {
    pub(super) fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.keys.is_empty()
    }

    /// Takes the place of what was ordered before.
    pub(super) fn set(&mut self, rates: &[Rated]) {
        *self = Self::default();
        for Rated { limit, subject, rate } in rates.iter().copied() {
            match subject {
                Some(subject) => self.keys.insert(Key { limit, subject }, rate),
                None => self.limits.insert(limit, rate),
            };
        }
    }

    /// Other than the policy's.
    fn of(&self, policy: &Policy, key: Key) -> Option<Rate> {
        let rate = self.keys.get(&key).or_else(|| self.limits.get(&key.limit)).copied()?;
        (policy.kind.rate()? != rate && guard!("ordered-rate-binds")).then_some(rate)
    }
}

/// What newer orders ask of the counts.
pub(super) struct News {
    /// Extra permits, once.
    pub(super) came: Vec<(Key, Permits)>,
    /// Counts that begin anew.
    pub(super) resets: Vec<Reset>,
}

impl Orders {
    /// Nothing was ever ordered.
    pub(super) fn is_new(&self) -> bool {
        self.epoch == 0
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The limits whose maximum is another one by them.
    pub(super) fn limits(&self) -> impl Iterator<Item = LimitId> {
        let keys = self.keys.keys().chain(self.extras.keys()).map(|key| key.limit);
        self.limits.keys().copied().chain(keys)
    }

    /// What a key's count goes by. Hardly ever anything but the policy.
    pub(super) fn in_force<'p>(&self, rates: &Rates, policy: &'p Policy, subject: Subject) -> Cow<'p, Policy> {
        if self.limits.is_empty() && self.keys.is_empty() && self.extras.is_empty() && rates.is_empty() {
            return Cow::Borrowed(policy);
        }
        let key = Key { limit: policy.limit, subject };
        let max = self.max(policy, key).saturating_add(self.extras.get(&key).map_or(Permits::ZERO, Extra::total));
        match rates.of(policy, key) {
            None if max == policy.max => Cow::Borrowed(policy),
            None => Cow::Owned(Policy { max, ..policy.clone() }),
            Some(rate) => Cow::Owned(Policy { max, kind: policy.kind.at_rate(rate), ..policy.clone() }),
        }
    }

    /// Without what is granted once.
    pub(super) fn max(&self, policy: &Policy, key: Key) -> Permits {
        if !guard!("ordered-maximum-binds") {
            return policy.max;
        }
        self.keys.get(&key).or_else(|| self.limits.get(&key.limit)).copied().unwrap_or(policy.max)
    }

    /// Of extra permits: what is left.
    pub(super) fn left(&self, key: Key) -> Permits {
        self.extras.get(&key).map_or(Permits::ZERO, Extra::left)
    }

    /// Takes newer orders.
    pub(super) fn set(&mut self, orders: &protocol::Orders) -> Option<News> {
        if orders.epoch <= self.epoch {
            return None;
        }
        let before = std::mem::replace(&mut self.epoch, orders.epoch);
        self.limits.clear();
        self.keys.clear();
        for maximum in &orders.maxima {
            match maximum.subject {
                Some(subject) => self.keys.insert(Key { limit: maximum.limit, subject }, maximum.max),
                None => self.limits.insert(maximum.limit, maximum.max),
            };
        }
        for extra in self.extras.values_mut() {
            extra.left.retain(|id, _| orders.extras.iter().any(|order| order.id == *id));
        }
        let mut came = Vec::new();
        for order in orders.extras.iter().filter(|order| before < order.id || !guard!("extra-comes-once")) {
            self.extras.entry(order.key).or_default().left.insert(order.id, order.permits);
            came.push((order.key, order.permits));
        }
        self.extras.retain(|_, extra| !extra.is_over());
        let resets = orders.resets.iter().filter(|reset| before < reset.id).copied().collect();
        Some(News { came, resets })
    }

    /// It is `clock` now, and this window of the calendar is open: credits of a window ago are over.
    pub(super) fn pass(&mut self, key: Key, clock: Nanos, policy: &Policy, open: Option<&Window>) {
        let Some(extra) = self.extras.get_mut(&key) else { return };
        let lasts = policy.kind.lingers();
        let is_over = |since: Nanos| match open {
            Some(open) => since < open.since(),
            None => since.saturating_add(lasts) <= clock,
        };
        while extra.drawn.front().is_some_and(|(since, _)| is_over(*since)) {
            extra.drawn.pop_front();
        }
        if extra.is_over() {
            self.extras.remove(&key);
        }
    }

    /// Credits of earlier windows of the calendar, of a key that nobody has asked for since.
    pub(super) fn over(&self, key: Key, open: &Window) -> Permits {
        let drawn = self.extras.get(&key).into_iter().flat_map(|extra| &extra.drawn);
        let over = drawn.filter(|(since, _)| *since < open.since());
        over.fold(Permits::ZERO, |sum, (_, drawn)| sum.saturating_add(*drawn))
    }

    /// After a grant: what of it came from the extra.
    pub(super) fn draw(&mut self, key: Key, count: &Count, clock: Nanos, policy: &Policy, open: Option<&Window>) {
        let max = self.max(policy, key);
        let Some(extra) = self.extras.get_mut(&key) else { return };
        match policy.kind {
            Kind::Sliding { .. } => extra.draw(count.charged().saturating_sub(max), clock),
            Kind::Calendar { .. } | Kind::Budget(_) => {
                let most = max.saturating_add(count.carried());
                extra.draw(count.charged().saturating_sub(most), open.map_or(Nanos::ZERO, Window::since));
            }
            Kind::Bucket { .. } => {
                let above = count.reach().saturating_sub(max);
                extra.take(extra.left().saturating_sub(above));
            }
            Kind::Concurrency | Kind::Smooth { .. } => {}
        }
        if extra.is_over() {
            self.extras.remove(&key);
        }
    }

    /// The count begins anew: nothing of it is beyond the maximum.
    pub(super) fn reset(&mut self, key: Key) {
        if let Some(extra) = self.extras.get_mut(&key) {
            extra.drawn.clear();
        }
    }
}

impl Extra {
    fn left(&self) -> Permits {
        self.left.values().fold(Permits::ZERO, |sum, left| sum.saturating_add(*left))
    }

    fn credit(&self) -> Permits {
        self.drawn.iter().fold(Permits::ZERO, |sum, (_, drawn)| sum.saturating_add(*drawn))
    }

    fn total(&self) -> Permits {
        self.left().saturating_add(self.credit())
    }

    fn is_over(&self) -> bool {
        self.drawn.is_empty() && self.left.values().all(|left| *left == Permits::ZERO)
    }

    /// So much is beyond the maximum now: what the credit does not cover is drawn, and is one from here on.
    fn draw(&mut self, beyond: Permits, since: Nanos) {
        let drawn = self.take(beyond.saturating_sub(self.credit()));
        if drawn != Permits::ZERO {
            self.drawn.push_back((since, drawn));
        }
    }

    /// Up to so many, of the oldest first.
    fn take(&mut self, mut wanted: Permits) -> Permits {
        let mut taken = Permits::ZERO;
        for left in self.left.values_mut() {
            let part = wanted.min(*left);
            if guard!("extra-is-used-up") {
                *left = left.saturating_sub(part);
            }
            wanted = wanted.saturating_sub(part);
            taken = taken.saturating_add(part);
        }
        taken
    }
}
