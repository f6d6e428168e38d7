//! What nodes wrote down of operators' orders, so that the judge knows a grant or a reset from a permit too many, and finds
//! what neither explains.
//!
//! A grant is a number of permits, used up by the first windows that need it, those of the calendar as well; of a bucket by
//! what it lacks, while the order stands; of other kinds it adds to the maximum while it stands. A reset forgives what was taken before it,
//! once. Nodes write that it is about to happen before the quota log can know of it, and that it has happened when it has:
//! between these two moments nobody can tell before from after.

use std::collections::{BTreeMap, VecDeque};

use tidegate_model::{LimitId, Nanos, Permits, Subject};

use super::course::{Own, Standing};
use super::{Learnt, Record};
use crate::protocol::{Key, LEASE_TTL, Rate};

/// All orders of all files.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    maxima: BTreeMap<Key, Vec<(Nanos, Permits)>>,
    rates: BTreeMap<Key, Vec<(Nanos, Rate)>>,
    /// By their orders.
    extras: BTreeMap<Key, BTreeMap<u64, Extra>>,
    resets: BTreeMap<LimitId, BTreeMap<u64, Reset>>,
}

#[derive(Debug, Clone, Copy)]
struct Extra {
    from: Nanos,
    permits: Permits,
    /// The order is gone by then.
    until: Option<Nanos>,
}

impl Extra {
    /// What it adds where it adds as long as it stands: leases may have it for D more.
    fn stands(&self) -> Standing {
        let until = self.until.map_or(Nanos::MAX, |until| until.saturating_add(LEASE_TTL));
        (self.from, until, self.permits)
    }
}

#[derive(Debug, Clone, Copy)]
struct Reset {
    subject: Option<Subject>,
    from: Nanos,
    /// It has happened by then.
    until: Option<Nanos>,
}

impl Told {
    pub(super) fn is_empty(&self) -> bool {
        self.maxima.is_empty() && self.rates.is_empty() && self.extras.is_empty() && self.resets.is_empty()
    }

    pub(super) fn see(&mut self, record: &Record) {
        match *record {
            Record::Ordered { at, key, max } => self.maxima.entry(key).or_default().push((at, max)),
            Record::Rated { at, key, rate } => self.rates.entry(key).or_default().push((at, rate)),
            Record::Extra { at, key, permits, id } => {
                let unknown = Extra { from: Nanos::MAX, permits, until: None };
                let extra = self.extras.entry(key).or_default().entry(id).or_insert(unknown);
                if permits == Permits::ZERO {
                    extra.until = Some(extra.until.map_or(at, |until| until.min(at)));
                } else {
                    (extra.permits, extra.from) = (permits, extra.from.min(at));
                }
            }
            Record::Reset { at, limit, subject, id, done } => {
                let resets = self.resets.entry(limit).or_default();
                let reset = resets.entry(id).or_insert(Reset { subject, from: at, until: None });
                reset.from = reset.from.min(at);
                if done {
                    reset.until = Some(reset.until.map_or(at, |until| until.min(at)));
                }
            }
            _ => {}
        }
    }

    /// The maxima that nodes learnt of a key, if it has some of its own: while it has, the limit's do not count.
    pub(super) fn learnt(&self, key: Key, of_limit: &[Learnt]) -> Option<Vec<Learnt>> {
        let own = self.maxima.get(&key)?;
        let window = of_limit.last().map_or(Nanos::ZERO, |(_, _, window)| *window);
        let limit = of_limit.iter().map(|(at, max, _)| (*at, Some(*max), None));
        let mut events: Vec<_> = limit.chain(own.iter().map(|(at, max)| (*at, None, Some(*max)))).collect();
        events.sort_unstable();
        let (mut common, mut mine) = (Permits::ZERO, Permits::ZERO);
        let learnt = events.into_iter().map(|(at, of_limit, of_key)| {
            (common, mine) = (of_limit.unwrap_or(common), of_key.unwrap_or(mine));
            (at, if mine == Permits::ZERO { common } else { mine }, window)
        });
        Some(learnt.collect())
    }

    /// What nodes learnt of a key's own maximum and rate, in the order of time; none: it has none of its own any more.
    pub(super) fn own(&self, key: Key) -> Vec<(Nanos, Own)> {
        let maxima = self.maxima.get(&key).into_iter().flatten().map(|(at, max)| (*at, Own::Max(*max)));
        let rates = self.rates.get(&key).into_iter().flatten().map(|(at, rate)| (*at, Own::Rate(*rate)));
        let mut own: Vec<_> = maxima.chain(rates).collect();
        own.sort_unstable();
        own
    }

    /// What grants add to a maximum while they stand.
    pub(super) fn standing(&self, key: Key) -> Vec<Standing> {
        self.extras.get(&key).into_iter().flat_map(BTreeMap::values).map(Extra::stands).collect()
    }

    pub(super) fn of(&self, key: Key) -> Excuses {
        let mut extras: Vec<_> =
            self.extras.get(&key).into_iter().flat_map(BTreeMap::values).map(Extra::stands).collect();
        extras.sort_unstable();
        let resets = self.resets.get(&key.limit).into_iter().flat_map(BTreeMap::values);
        let resets = resets.filter(|reset| reset.subject.is_none_or(|subject| subject == key.subject));
        let mut resets: VecDeque<_> = resets.map(Reset::span).collect();
        resets.make_contiguous().sort_unstable();
        Excuses { extras, resets, drawn: VecDeque::new(), credit: 0 }
    }
}

impl Reset {
    fn span(&self) -> (Nanos, Nanos) {
        (self.from, self.until.unwrap_or_else(|| self.from.saturating_add(LEASE_TTL)))
    }
}

/// What may explain that a key's window holds more than its maximum.
#[derive(Debug)]
pub(super) struct Excuses {
    /// Since when, until when, and what is left.
    extras: Vec<Standing>,
    resets: VecDeque<(Nanos, Nanos)>,
    drawn: VecDeque<(Nanos, u128)>,
    /// The sum of `drawn`.
    credit: u128,
}

impl Excuses {
    /// It is `at` now: what was drawn a window ago excuses nothing any more.
    pub(super) fn pass(&mut self, at: Nanos, window: Nanos) {
        while self.drawn.front().is_some_and(|(since, _)| at.saturating_sub(*since) >= window) {
            self.credit -= self.drawn.pop_front().map_or(0, |(_, drawn)| drawn);
        }
    }

    /// A reset that has come: what was taken until then is forgiven.
    pub(super) fn reset(&mut self, at: Nanos) -> Option<Nanos> {
        self.resets.pop_front_if(|(from, _)| *from <= at).map(|(_, until)| {
            self.drawn.clear();
            self.credit = 0;
            until
        })
    }

    /// So many permits of a bucket, if grants that stand have them left: what is not used goes with the order.
    pub(super) fn grant(&mut self, at: Nanos, mut missing: Permits) -> Permits {
        let mut granted = Permits::ZERO;
        for (_, _, left) in self.extras.iter_mut().filter(|(since, until, _)| *since <= at && at <= *until) {
            let part = missing.min(*left);
            *left = left.saturating_sub(part);
            missing = missing.saturating_sub(part);
            granted = granted.saturating_add(part);
        }
        granted
    }

    /// So many permits of a window of the calendar, if grants that came before have them left.
    pub(super) fn draw(&mut self, at: Nanos, mut missing: u128) -> u128 {
        let mut drawn = 0;
        for (_, _, left) in self.extras.iter_mut().filter(|(since, ..)| *since <= at) {
            let part = Permits(u64::try_from(missing).unwrap_or(u64::MAX)).min(*left);
            *left = left.saturating_sub(part);
            missing -= u128::from(part.0);
            drawn += u128::from(part.0);
        }
        drawn
    }

    pub(super) fn forget_grants(&mut self) {
        self.extras.clear();
    }

    /// The resets that may have been by then, in the order of time.
    pub(super) fn resets_until(&self, ends: Nanos) -> Vec<(Nanos, Nanos)> {
        self.resets.iter().copied().filter(|(from, _)| *from <= ends).collect()
    }

    /// What of `sum` is not excused, against this maximum.
    pub(super) fn rest(&mut self, sum: u128, max: Permits, at: Nanos) -> u128 {
        let mut over = sum.saturating_sub(self.credit).saturating_sub(u128::from(max.0));
        for (since, _, left) in &mut self.extras {
            let part = over.min(u128::from(left.0));
            if *since <= at && part > 0 {
                *left = left.saturating_sub(Permits(u64::try_from(part).unwrap_or(u64::MAX)));
                self.drawn.push_back((at, part));
                self.credit += part;
                over -= part;
            }
        }
        sum.saturating_sub(self.credit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Evidence, RequestMark};
    use super::*;

    const KEY: Key = Key { limit: LimitId(3), subject: Subject(1) };

    /// Permits of one at these moments, with a maximum of two in windows of 100.
    fn ratio(stamps: &[u64], orders: &[Record]) -> f64 {
        let mut evidence = Evidence::default();
        evidence.add(Record::Policy { at: Nanos(0), limit: KEY.limit, max: Permits(2), window: Nanos(100) });
        for record in orders {
            evidence.add(Record::decode(&record.encode()).expect("as written"));
        }
        for stamp in stamps {
            let request = RequestMark::of(&stamp.to_le_bytes());
            evidence.add(Record::Permit { at: Nanos(*stamp), key: KEY, cost: Permits(1), request });
        }
        evidence.judge()[0].worst_ratio
    }

    fn extra(at: u64, id: u64, permits: u64) -> Record {
        Record::Extra { at: Nanos(at), key: KEY, permits: Permits(permits), id }
    }

    fn reset(at: u64, done: bool, subject: Option<Subject>) -> Record {
        Record::Reset { at: Nanos(at), limit: KEY.limit, subject, id: 9, done }
    }

    #[test]
    fn a_grant_excuses_so_many_permits_once_and_none_before_it() {
        let stamps = [10, 20, 30, 40];
        assert_eq!(ratio(&stamps, &[]), 2.0);
        assert_eq!(ratio(&stamps, &[extra(25, 1, 2), extra(26, 1, 2)]), 1.0);
        assert_eq!(ratio(&stamps, &[extra(25, 1, 1)]), 1.5);
        assert_eq!(ratio(&stamps, &[extra(35, 1, 2)]), 1.5);
        assert_eq!(ratio(&[10, 20, 30, 40, 210, 220, 230], &[extra(25, 1, 2)]), 1.5, "the next window has two again");
    }

    #[test]
    fn a_reset_forgives_what_was_before_it_and_nothing_after() {
        let told = [reset(50, false, None), reset(52, true, None), reset(60, false, None)];
        assert_eq!(ratio(&[10, 20, 60, 70], &told), 1.0);
        assert_eq!(ratio(&[10, 20, 60, 70, 80], &told), 1.5);
        assert_eq!(ratio(&[10, 20, 30, 60, 70], &told), 1.5);
        assert_eq!(ratio(&[10, 20, 60, 70, 110, 120], &told), 2.0);
        assert_eq!(ratio(&[10, 20, 60, 70], &[reset(50, false, Some(Subject(2)))]), 2.0, "somebody else's");
    }

    #[test]
    fn a_keys_own_burst_and_rate_count_in_place_of_its_limits_while_they_hold() {
        let late = 2 * LEASE_TTL.0;
        let rate = |permits| Rate { permits, per: Nanos::SECOND };
        let ratio = |stamps: &[u64], orders: &[Record]| {
            let mut evidence = Evidence::default();
            let rule = super::super::Rule::Bucket(rate(1));
            evidence.add(Record::Rule { at: Nanos(0), limit: KEY.limit, max: Permits(2), rule });
            for record in orders {
                evidence.add(Record::decode(&record.encode()).expect("as written"));
            }
            for stamp in stamps {
                let request = RequestMark::of(&stamp.to_le_bytes());
                evidence.add(Record::Permit { at: Nanos(*stamp), key: KEY, cost: Permits(1), request });
            }
            evidence.judge()[0].worst_ratio
        };
        let own = |at, max| Record::Ordered { at: Nanos(at), key: KEY, max: Permits(max) };
        let rated = |at, permits| Record::Rated { at: Nanos(at), key: KEY, rate: rate(permits) };
        // Ten a second for one second.
        let fast: Vec<u64> = (0..10).map(|n| late + n * Nanos::SECOND.0 / 10).collect();
        assert!(ratio(&fast, &[]) > 4.0);
        assert!(ratio(&fast, &[rated(0, 10)]) <= 1.0);
        assert!(ratio(&fast, &[rated(0, 5)]) > 2.0);
        assert!(ratio(&fast, &[rated(0, 10), rated(1, 0)]) > 4.0, "it is gone again");
        assert!(ratio(&fast, &[own(0, 10)]) <= 1.0, "a burst of ten");
        assert!(ratio(&fast, &[own(0, 10), own(1, 2)]) > 4.0, "a burst that was lowered excuses nothing later");
    }

    #[test]
    fn a_keys_own_maximum_counts_in_place_of_its_limits() {
        let own = |at, max| Record::Ordered { at: Nanos(at), key: KEY, max: Permits(max) };
        let late = 2 * LEASE_TTL.0;
        assert_eq!(ratio(&[10, 20, 30], &[own(0, 3)]), 1.0);
        assert_eq!(ratio(&[late + 10, late + 20], &[own(0, 3), own(1, 1)]), 2.0);
        assert_eq!(ratio(&[late + 10, late + 20], &[own(0, 1), own(1, 0)]), 1.0, "it is gone again");
    }
}
