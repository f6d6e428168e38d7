//! Which orders this process has written into its decision log. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_limiter::Key;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_policy::Limit;
use tidegate_quota::evidence::Record;
use tidegate_quota::protocol::Orders;

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
        orders: &Orders,
        limits: &[Arc<Limit>],
        document: &BTreeMap<LimitId, Permits>,
    ) -> Vec<Draft> {
        let mut news: Vec<Draft> = Vec::new();
        for extra in orders.extras.iter().copied().filter(|extra| self.begun < extra.id) {
            news.push(Box::new(move |at| Record::Extra { at, key: extra.key, permits: extra.permits, id: extra.id }));
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
        self.maxima(epoch <= in_ledger, orders, limits, document, &mut news);
        news
    }

    /// Raised: at once. Lowered: once it binds.
    fn maxima(
        &mut self,
        bind: bool,
        orders: &Orders,
        limits: &[Arc<Limit>],
        document: &BTreeMap<LimitId, Permits>,
        news: &mut Vec<Draft>,
    ) {
        let ordered: BTreeMap<Whose, Permits> =
            orders.maxima.iter().map(|maximum| ((maximum.limit, maximum.subject), maximum.max)).collect();
        // Those of limits come first: a subject's is compared with them.
        let all: BTreeSet<Whose> = ordered.keys().chain(self.maxima.keys()).copied().collect();
        let mut all: Vec<Whose> = all.into_iter().collect();
        all.sort_by_key(|(_, subject)| subject.is_some());
        for whose in all {
            let (id, subject) = whose;
            let Some(limit) = limits.iter().find(|limit| limit.id == id) else { continue };
            let plain = document.get(&id).copied().unwrap_or(limit.max);
            let common = |of: &BTreeMap<Whose, Permits>| of.get(&(id, None)).copied().unwrap_or(plain);
            let before = self.maxima.get(&whose).copied().unwrap_or_else(|| common(&self.maxima));
            let after = ordered.get(&whose).copied().unwrap_or_else(|| common(&ordered));
            if self.maxima.get(&whose) == ordered.get(&whose) || (after < before && !bind) {
                continue;
            }
            match ordered.get(&whose) {
                Some(max) => self.maxima.insert(whose, *max),
                None => self.maxima.remove(&whose),
            };
            let kind = limit.kind.clone();
            news.push(match subject {
                None => Box::new(move |at| Record::policy(at, id, after, &kind)),
                Some(subject) => {
                    let max = ordered.get(&whose).copied().unwrap_or_default();
                    Box::new(move |at| Record::Ordered { at, key: Key { limit: id, subject }, max })
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::Revision;
    use tidegate_policy::{Kind, Mode, OnMissing, OnUnavailable};
    use tidegate_quota::protocol::{Maximum, Reset};

    use super::*;

    const ID: LimitId = LimitId(1);

    fn news(noted: &mut Noted, in_ledger: u64, orders: &Orders) -> Vec<Record> {
        let limit = Limit {
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
            cost: tidegate_policy::Cost::ONE,
        };
        let document = BTreeMap::from([(ID, Permits(10))]);
        let drafts = noted.news(orders.epoch, in_ledger, orders, &[Arc::new(limit)], &document);
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
