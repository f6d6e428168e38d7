//! Which orders this process has written into its decision log. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_limiter::Key;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_policy::{Limit, Rate};
use tidegate_quota::evidence::Record;
use tidegate_quota::protocol::{Orders, Rated};

use super::Plain;

/// A maximum is of a limit, or of one subject.
type Whose = (LimitId, Option<Subject>);

#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Orders up to here are written down as given.
    begun: u64,
    /// Resets up to here are written down as done.
    done: u64,
    /// Maxima other than the limit's, as written down.
    maxima: BTreeMap<Whose, Permits>,
    /// The same of rates.
    rates: BTreeMap<Whose, Rate>,
    /// Grants that stand, by their orders.
    extras: BTreeMap<u64, Key>,
}

/// To be stamped when it is written.
pub(super) type Draft = Box<dyn FnOnce(Nanos) -> Record>;

impl Noted {
    /// `in_ledger`: orders up to there were written down by an earlier process, or by others.
    pub(super) fn new(in_ledger: u64) -> Self {
        Self { begun: in_ledger, done: in_ledger, ..Self::default() }
    }

    /// What is to be written now. `epoch`: of `orders`; `in_ledger`: of the orders that bind.
    pub(super) fn news(
        &mut self,
        epoch: u64,
        in_ledger: u64,
        (orders, rates): (&Orders, &[Rated]),
        limits: &[Arc<Limit>],
        document: &BTreeMap<LimitId, Plain>,
    ) -> Vec<Draft> {
        let mut news: Vec<Draft> = Vec::new();
        for extra in orders.extras.iter().copied().filter(|extra| self.begun < extra.id) {
            news.push(Box::new(move |at| Record::Extra { at, key: extra.key, permits: extra.permits, id: extra.id }));
        }
        self.extras.extend(orders.extras.iter().map(|extra| (extra.id, extra.key)));
        if epoch <= in_ledger {
            // It binds that they are gone.
            let gone = self.extras.extract_if(.., |id, _| orders.extras.iter().all(|extra| extra.id != *id));
            for (id, key) in gone {
                news.push(Box::new(move |at| Record::Extra { at, key, permits: Permits::ZERO, id }));
            }
        }
        for reset in orders.resets.iter().copied() {
            let record = move |done| -> Draft {
                Box::new(move |at| Record::Reset { at, limit: reset.limit, subject: reset.subject, id: reset.id, done })
            };
            if self.begun < reset.id {
                news.push(record(false));
            }
            if self.done < reset.id && reset.id <= in_ledger {
                news.push(record(true));
            }
        }
        self.begun = self.begun.max(epoch);
        self.done = self.done.max(in_ledger.min(epoch));
        self.maxima(epoch <= in_ledger, (orders, rates), limits, document, &mut news);
        news
    }

    /// Maxima and rates. Raised: at once. Lowered: once it binds.
    fn maxima(
        &mut self,
        bind: bool,
        (orders, rates): (&Orders, &[Rated]),
        limits: &[Arc<Limit>],
        document: &BTreeMap<LimitId, Plain>,
        news: &mut Vec<Draft>,
    ) {
        let of = |id: LimitId| limits.iter().find(|limit| limit.id == id);
        let plain = |id| of(id).map(|limit| document.get(&id).copied().unwrap_or_else(|| Plain::of(limit)));
        let ordered = orders.maxima.iter().map(|it| ((it.limit, it.subject), it.max)).collect();
        let max = |id| plain(id).map(|it| it.max);
        let maxima = turned(&mut self.maxima, &ordered, max, |after, before| bind || after >= before);
        let ordered = rates.iter().map(|it| ((it.limit, it.subject), it.rate)).collect();
        let rate = |id| plain(id).and_then(|it| it.rate);
        let is_faster = |after: Rate, before: Rate| after.slower(before) == before;
        let rates = turned(&mut self.rates, &ordered, rate, |after, before| bind || is_faster(after, before));
        for id in maxima.iter().chain(&rates).filter(|(_, subject)| subject.is_none()).map(|(id, _)| *id) {
            let (Some(limit), Some(plain)) = (of(id), plain(id)) else { continue };
            let whole = (id, None);
            let max = self.maxima.get(&whole).copied().unwrap_or(plain.max);
            let rate = self.rates.get(&whole).copied().or(plain.rate);
            let kind = Plain { max, rate }.kind(&limit.kind);
            news.push(Box::new(move |at| Record::policy(at, id, max, &kind)));
        }
        for (limit, subject) in maxima {
            let Some(subject) = subject else { continue };
            let max = self.maxima.get(&(limit, Some(subject))).copied().unwrap_or_default();
            news.push(Box::new(move |at| Record::Ordered { at, key: Key { limit, subject }, max }));
        }
        for (limit, subject) in rates {
            let Some(subject) = subject else { continue };
            let none = Rate { permits: 0, per: Nanos::SECOND };
            let rate = self.rates.get(&(limit, Some(subject))).copied().unwrap_or(none);
            news.push(Box::new(move |at| Record::Rated { at, key: Key { limit, subject }, rate }));
        }
    }
}

/// What is to be written down anew, and is from now on `written`. `plain`: of a limit that nothing is ordered about; `None`:
/// it is no such limit.
fn turned<T: Copy + PartialEq>(
    written: &mut BTreeMap<Whose, T>,
    ordered: &BTreeMap<Whose, T>,
    plain: impl Fn(LimitId) -> Option<T>,
    may: impl Fn(T, T) -> bool,
) -> Vec<Whose> {
    // Those of limits come first: a subject's is compared with them.
    let all: BTreeSet<Whose> = ordered.keys().chain(written.keys()).copied().collect();
    let (whole, single): (Vec<Whose>, Vec<Whose>) = all.into_iter().partition(|(_, subject)| subject.is_none());
    let mut turned = Vec::new();
    for whose in whole.into_iter().chain(single) {
        let Some(plain) = plain(whose.0) else { continue };
        let common = |of: &BTreeMap<Whose, T>| of.get(&(whose.0, None)).copied().unwrap_or(plain);
        let before = written.get(&whose).copied().unwrap_or_else(|| common(written));
        let after = ordered.get(&whose).copied().unwrap_or_else(|| common(ordered));
        if written.get(&whose) == ordered.get(&whose) || !may(after, before) {
            continue;
        }
        match ordered.get(&whose) {
            Some(of) => written.insert(whose, *of),
            None => written.remove(&whose),
        };
        turned.push(whose);
    }
    turned
}

#[cfg(test)]
mod tests {
    use tidegate_model::Revision;
    use tidegate_policy::{Kind, Mode, OnMissing, OnUnavailable};
    use tidegate_quota::protocol::{Maximum, Reset};

    use super::*;

    const ID: LimitId = LimitId(1);

    fn limit() -> Limit {
        Limit {
            id: ID,
            revision: Revision(1),
            name: "it".into(),
            max: Permits(10),
            kind: Kind::Sliding { window: Nanos(100) },
            per: Vec::new(),
            mode: Mode::Enforce,
            on_unavailable: OnUnavailable::Deny,
            count_hits: true,
            on_missing: OnMissing::Share,
            terms: tidegate_policy::Terms::default(),
            cost: tidegate_policy::Cost::ONE,
        }
    }

    fn news(noted: &mut Noted, in_ledger: u64, orders: &Orders) -> Vec<Record> {
        of(noted, limit(), in_ledger, orders, &[])
    }

    fn of(noted: &mut Noted, limit: Limit, in_ledger: u64, orders: &Orders, rates: &[Rated]) -> Vec<Record> {
        let document = BTreeMap::from([(ID, Plain::of(&limit))]);
        let drafts = noted.news(orders.epoch, in_ledger, (orders, rates), &[Arc::new(limit)], &document);
        drafts.into_iter().map(|draft| draft(Nanos(5))).collect()
    }

    fn maxima(epoch: u64, list: &[(Option<u128>, u64)]) -> Orders {
        let maximum = |(subject, max): &(Option<u128>, u64)| Maximum {
            limit: ID,
            subject: subject.map(Subject),
            max: Permits(*max),
        };
        Orders { epoch, maxima: list.iter().map(maximum).collect(), ..Orders::default() }
    }

    #[test]
    fn what_is_raised_is_told_at_once_and_what_is_lowered_when_it_binds() {
        let mut noted = Noted::new(0);
        let policy = |max| Record::Policy { at: Nanos(5), limit: ID, max: Permits(max), window: Nanos(100) };
        let own =
            |max| Record::Ordered { at: Nanos(5), key: Key { limit: ID, subject: Subject(1) }, max: Permits(max) };
        assert_eq!(news(&mut noted, 0, &maxima(1, &[(None, 20)])), [policy(20)]);
        assert_eq!(news(&mut noted, 1, &maxima(1, &[(None, 20)])), []);
        assert_eq!(news(&mut noted, 1, &maxima(2, &[(None, 3)])), []);
        assert_eq!(news(&mut noted, 2, &maxima(2, &[(None, 3)])), [policy(3)]);
        assert_eq!(news(&mut noted, 2, &maxima(3, &[(None, 3), (Some(1), 5)])), [own(5)]);
        assert_eq!(news(&mut noted, 3, &maxima(4, &[(Some(1), 5)])), [policy(10)]);
        assert_eq!(news(&mut noted, 3, &maxima(5, &[])), [own(0)], "from five to ten");
    }

    #[test]
    fn a_faster_rate_is_told_at_once_and_a_slower_one_when_it_binds() {
        let mut noted = Noted::new(0);
        let rate = |permits| Rate { permits, per: Nanos::SECOND };
        let mut told = |in_ledger, epoch, bursts: &[(Option<u128>, u64)], rates: &[(Option<u128>, u64)]| {
            let bucket = Limit { kind: Kind::Bucket { rate: rate(5) }, ..limit() };
            let rated = |(subject, permits): &(Option<u128>, u64)| Rated {
                limit: ID,
                subject: subject.map(Subject),
                rate: rate(*permits),
            };
            let rates: Vec<Rated> = rates.iter().map(rated).collect();
            of(&mut noted, bucket, in_ledger, &maxima(epoch, bursts), &rates)
        };
        let policy = |max, permits| {
            let rule = tidegate_quota::evidence::Rule::Bucket(rate(permits));
            Record::Rule { at: Nanos(5), limit: ID, max: Permits(max), rule }
        };
        let key = Key { limit: ID, subject: Subject(1) };
        let own = |permits| Record::Rated { at: Nanos(5), key, rate: rate(permits) };
        // A larger burst and a slower rate: one at once, the other later.
        assert_eq!(told(0, 1, &[(None, 20)], &[(None, 2)]), [policy(20, 5)]);
        assert_eq!(told(1, 1, &[(None, 20)], &[(None, 2)]), [policy(20, 2)]);
        assert_eq!(told(1, 2, &[(None, 20)], &[(None, 2), (Some(1), 9)]), [own(9)]);
        assert_eq!(told(2, 3, &[(None, 20)], &[(None, 2), (Some(1), 3)]), []);
        assert_eq!(told(3, 3, &[(None, 20)], &[(None, 2), (Some(1), 3)]), [own(3)]);
        assert_eq!(told(3, 4, &[], &[]), [policy(20, 5), own(0)], "five again, for all");
        assert_eq!(told(4, 4, &[], &[]), [policy(10, 5)]);
    }

    #[test]
    fn a_grant_is_told_when_it_is_given_and_when_it_is_gone_for_good() {
        let mut noted = Noted::new(0);
        let key = Key { limit: ID, subject: Subject(1) };
        let extra = |permits| Record::Extra { at: Nanos(5), key, permits: Permits(permits), id: 1 };
        let granted = vec![tidegate_quota::protocol::Extra { id: 1, key, permits: Permits(7) }];
        let orders = Orders { epoch: 1, extras: granted, ..Orders::default() };
        assert_eq!(news(&mut noted, 0, &orders), [extra(7)]);
        assert_eq!(news(&mut noted, 1, &orders), []);
        assert_eq!(news(&mut noted, 1, &maxima(2, &[])), [], "leases may go by it still");
        assert_eq!(news(&mut noted, 2, &maxima(2, &[])), [extra(0)]);
        assert_eq!(news(&mut noted, 2, &maxima(2, &[])), []);
    }

    #[test]
    fn a_reset_is_told_twice_and_never_again() {
        let mut noted = Noted::new(3);
        let resets = [3, 4].map(|id| Reset { id, limit: ID, subject: None });
        let orders = Orders { epoch: 4, resets: resets.to_vec(), ..Orders::default() };
        let reset = |done| Record::Reset { at: Nanos(5), limit: ID, subject: None, id: 4, done };
        assert_eq!(news(&mut noted, 3, &orders), [reset(false)]);
        assert_eq!(news(&mut noted, 3, &orders), []);
        assert_eq!(news(&mut noted, 4, &orders), [reset(true)]);
        assert_eq!(news(&mut noted, 4, &orders), []);
    }
}
