//! Whoever runs the cluster and gives orders: other maxima and rates, permits beyond them, counts that begin anew; and takes them back.

use tidegate_model::{Nanos, Permits};
use tidegate_quota::protocol::{Command, Extra, Key, Maximum, Orders, Rate, Rated, Reset};

use super::known::Known;
use super::publish::Desk;
use super::scenario::Sort;
use super::world::{Event, World};

/// What is ordered, and how far the quota log knows of it.
#[derive(Default)]
pub(super) struct Ordered {
    newest: Orders,
    rates: Vec<Rated>,
    in_force: u64,
}

impl Ordered {
    pub(super) fn is_in_force(&self) -> bool {
        self.in_force == self.newest.epoch
    }

    pub(super) fn command(&self) -> Option<Command> {
        (!self.is_in_force()).then(|| match self.rates.is_empty() {
            true => Command::SetOrders(self.newest.clone()),
            false => Command::SetRatedOrders(self.newest.clone(), self.rates.clone()),
        })
    }

    /// Permits that a bucket gets in its window's time, by orders.
    pub(super) fn rate(&self, known: &Known) -> u64 {
        let of_key = |rated: &&Rated| rated.limit == known.key.limit && rated.subject == Some(known.key.subject);
        let of_limit = |rated: &&Rated| rated.limit == known.key.limit && rated.subject.is_none();
        let rated = self.rates.iter().find(of_key).or_else(|| self.rates.iter().find(of_limit));
        // Whole permits: what is ordered comes in a window, a half, a quarter of one.
        rated.map_or(known.max.0, |Rated { rate, .. }| rate.permits * (known.window.0 / rate.per.0))
    }

    /// What a key may have by orders, in place of its document's maximum.
    pub(super) fn max(&self, known: &Known) -> Permits {
        let of_key =
            |maximum: &&Maximum| maximum.limit == known.key.limit && maximum.subject == Some(known.key.subject);
        let of_limit = |maximum: &&Maximum| maximum.limit == known.key.limit && maximum.subject.is_none();
        let maxima = &self.newest.maxima;
        let max = maxima.iter().find(of_key).or_else(|| maxima.iter().find(of_limit)).map_or(known.max, |m| m.max);
        if is_drawn(known) {
            return max;
        }
        // Of kinds that do not use a grant up it counts for as long as it stands.
        let extras = self.newest.extras.iter().filter(|extra| extra.key == known.key);
        extras.fold(max, |sum, extra| sum.saturating_add(extra.permits))
    }
}

/// Is a grant used up?
fn is_drawn(known: &Known) -> bool {
    known.is_dated() || matches!(known.sort, Sort::Sliding | Sort::Bucket)
}

impl World {
    pub(super) fn order(&mut self) {
        if self.desk.is_pending() {
            return;
        }
        let limit = self.random.index(self.scenario.limits.len());
        let known = self.desk.in_force(limit);
        if !known.active {
            return;
        }
        let Key { limit: id, subject } = known.key;
        let orders = &mut self.desk.ordered.newest;
        orders.epoch += 1;
        let epoch = orders.epoch;
        let max = known.max.0;
        let subject = if self.random.chance(0.5) { Some(subject) } else { None };
        let rates = matches!(known.sort, Sort::Bucket | Sort::Smooth) && self.random.chance(0.4);
        match self.random.below(6) {
            _ if rates => {
                let permits = self.random.one_of(&[max * 2, max, max.div_ceil(3), max / 20 + 1]);
                let per = Nanos(known.window.0 / self.random.one_of(&[1, 2, 4]));
                let rates = &mut self.desk.ordered.rates;
                rates.retain(|rated| (rated.limit, rated.subject) != (id, subject));
                rates.push(Rated { limit: id, subject, rate: Rate { permits, per } });
            }
            0 | 1 => {
                let max = Permits(self.random.one_of(&[max * 2, max.div_ceil(3), max / 20 + 1]));
                orders.maxima.retain(|maximum| (maximum.limit, maximum.subject) != (id, subject));
                orders.maxima.push(Maximum { limit: id, subject, max });
            }
            2 | 3 => {
                let permits = Permits(self.random.between(1, max));
                orders.extras.push(Extra { id: epoch, key: known.key, permits });
                if is_drawn(&known) {
                    self.oracle.granted(known.key, epoch, permits.0, self.now);
                }
            }
            4 => orders.resets.push(Reset { id: epoch, limit: id, subject }),
            _ => self.take_back(),
        }
        self.bind();
    }

    /// One order is gone.
    fn take_back(&mut self) {
        let Ordered { newest: orders, rates, .. } = &mut self.desk.ordered;
        let (maxima, extras) = (orders.maxima.len(), orders.extras.len());
        match self.random.index((maxima + extras + rates.len()).max(1)) {
            at if at < maxima => _ = orders.maxima.remove(at),
            at if at - maxima < extras => _ = orders.extras.remove(at - maxima),
            at if at - maxima - extras < rates.len() => _ = rates.remove(at - maxima - extras),
            _ => {}
        }
    }

    /// All orders are gone.
    pub(super) fn take_all_back(&mut self) {
        let Ordered { newest: orders, rates, .. } = &mut self.desk.ordered;
        if orders.epoch > 0 {
            rates.clear();
            *orders = Orders { epoch: orders.epoch + 1, ..Orders::default() };
            self.bind();
        }
    }

    /// Tells the oracle what may bind from now on.
    fn bind(&mut self) {
        for known in self.desk.all().filter(|known| known.active) {
            let ordered = &self.desk.ordered;
            self.oracle.proposed(known, ordered.max(known), ordered.rate(known), self.now);
        }
        self.after(0, Event::Publish);
    }

    /// A voter applied them before any other did. They were stamped at `stamped`.
    pub(super) fn ordered(&mut self, orders: &Orders, stamped: u64) {
        let before = self.desk.ordered.in_force;
        if orders.epoch <= before {
            return;
        }
        self.trace(|| format!("ordered: {orders:?}"));
        self.desk.ordered.in_force = orders.epoch;
        for reset in orders.resets.iter().filter(|reset| reset.id > before) {
            if let Some(key) = self.desk.key_of(reset.limit) {
                self.oracle.reset(key, stamped);
            }
        }
        let lease = 2 * self.scenario.lease;
        self.oracle.standing(|id| orders.extras.iter().any(|extra| extra.id == id), orders.epoch, self.now + lease);
        self.settle_bounds();
    }
}

impl Desk {
    /// Has anything been decided that the quota log does not know yet?
    pub(super) fn is_pending(&self) -> bool {
        !self.ordered.is_in_force() || self.document_is_pending()
    }
}
