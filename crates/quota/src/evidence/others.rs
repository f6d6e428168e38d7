//! The judge of kinds that are no sliding windows: buckets, places, calendar windows, and what was settled.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Incarnation, LimitId, Nanos, Permits};

use super::course::{Course, RuleLearnt};
use super::dated::Tagged;
use super::orders::Told;
use super::places::Places;
use super::{Finding, Record, Rule, bucket, dated, places};
use crate::protocol::Key;

#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    /// Whose file is read.
    pub(super) of: Incarnation,
    /// As nodes learnt of them.
    pub(super) rules: BTreeMap<LimitId, Vec<RuleLearnt>>,
    /// Permits of windows of the calendar.
    pub(super) dated: BTreeMap<Key, Vec<Tagged>>,
    /// When it was taken, how much was reserved, how much was used.
    settled: BTreeMap<Key, Vec<(Nanos, Permits, Permits)>>,
    pub(super) places: BTreeMap<Key, Places>,
    pub(super) last: BTreeMap<Incarnation, Nanos>,
}

impl Others {
    pub(super) fn see(&mut self, record: &Record) {
        match *record {
            Record::Rule { at, limit, max, rule } => self.rules.entry(limit).or_default().push((at, max, rule)),
            Record::Dated { at, key, cost, window, .. } => {
                self.saw(at);
                self.dated.entry(key).or_default().push((at, cost, window));
            }
            Record::Begin { at, key, cost, .. } => self.place(at, key, i128::from(cost.0)),
            Record::End { at, key, cost, .. } => self.place(at, key, -i128::from(cost.0)),
            Record::Settled { at, key, used, reserved } => {
                self.settled.entry(key).or_default().push((at, reserved, used));
            }
            Record::Permit { at, .. } => self.saw(at),
            Record::Policy { .. }
            | Record::Name { .. }
            | Record::Ordered { .. }
            | Record::Rated { .. }
            | Record::Extra { .. }
            | Record::Reset { .. } => {}
        }
    }

    pub(super) fn permits(&self) -> usize {
        let dated: usize = self.dated.values().map(Vec::len).sum();
        let begun: u64 = self.places.values().map(|places| places.begun).sum();
        dated.saturating_add(usize::try_from(begun).unwrap_or(usize::MAX))
    }

    fn saw(&mut self, at: Nanos) {
        let last = self.last.entry(self.of).or_default();
        *last = at.max(*last);
    }

    fn place(&mut self, at: Nanos, key: Key, change: i128) {
        self.saw(at);
        let places = self.places.entry(key).or_default();
        places.changes.push((at, change));
        *places.open.entry(self.of).or_default() += change;
        places.begun += u64::from(change > 0);
    }

    /// What calls used beyond what they had reserved and what was at hand: it is paid by later grants.
    pub(super) fn debts(&self) -> BTreeMap<LimitId, u128> {
        let mut debts = BTreeMap::new();
        for (key, settled) in &self.settled {
            let debt = settled.iter().map(|(_, reserved, used)| u128::from(used.saturating_sub(*reserved).0));
            *debts.entry(key.limit).or_default() += debt.sum::<u128>();
        }
        debts
    }

    /// Judges what is no sliding window, and takes it out of `permits`; what was settled for less counts for less there.
    pub(super) fn judge(
        mut self,
        permits: &mut BTreeMap<Key, Vec<(Nanos, Permits)>>,
        names: &BTreeMap<LimitId, String>,
        orders: &Told,
    ) -> Vec<Finding> {
        self.settle(permits);
        self.rules.values_mut().for_each(|learnt| learnt.sort_unstable());
        let of_limits: BTreeMap<LimitId, Course> =
            self.rules.iter().map(|(limit, learnt)| (*limit, Course::new(learnt, &[], &[]))).collect();
        let mut findings = BTreeMap::new();
        let keys: BTreeSet<Key> = permits.keys().chain(self.dated.keys()).chain(self.places.keys()).copied().collect();
        let nothing = Course::default();
        for key in keys {
            let learnt = self.rules.get(&key.limit).map_or(&[][..], Vec::as_slice);
            let rule = learnt.last().map(|(_, _, rule)| *rule);
            // A grant that is used up once adds nothing that stands.
            let is_used_up = matches!(rule, Some(Rule::Bucket(_) | Rule::Dated { .. }));
            let standing = if is_used_up { Vec::new() } else { orders.standing(key) };
            let own = orders.own(key);
            let of_key = (!own.is_empty() || !standing.is_empty()).then(|| Course::new(learnt, &own, &standing));
            let course = of_key.as_ref().or_else(|| of_limits.get(&key.limit)).unwrap_or(&nothing);
            let mut excuses = orders.of(key);
            if let Some(bucket_rule @ (Rule::Bucket(_) | Rule::Smooth(_))) = rule
                && let Some(taken) = permits.get_mut(&key)
            {
                if let Rule::Smooth(_) = bucket_rule {
                    excuses.forget_grants();
                }
                taken.sort_unstable();
                note(&mut findings, names, key.limit, bucket_rule, learnt, bucket::judge(taken, course, excuses));
            } else if let Some(tagged) = self.dated.get(&key) {
                let fallback = Rule::Dated { carry: Permits::ZERO, period: Nanos::ZERO };
                let rule = rule.unwrap_or(fallback);
                for judged in dated::judge(tagged, learnt, course, &mut excuses) {
                    note(&mut findings, names, key.limit, rule, learnt, judged);
                }
            }
            if let Some(in_use) = self.places.remove(&key) {
                let judged = places::judge(in_use, &self.last, course);
                note(&mut findings, names, key.limit, Rule::Concurrency, learnt, judged);
            }
        }
        permits.retain(|key, _| !self.rules.contains_key(&key.limit));
        findings.into_values().collect()
    }

    /// What was reserved and not used was never spent.
    pub(super) fn settle(&mut self, permits: &mut BTreeMap<Key, Vec<(Nanos, Permits)>>) {
        for (key, mut settled) in std::mem::take(&mut self.settled) {
            settled.sort_unstable();
            let mut to_settle: BTreeMap<(Nanos, Permits), Vec<Permits>> = BTreeMap::new();
            for (at, reserved, used) in settled {
                to_settle.entry((at, reserved)).or_default().push(used.min(reserved));
            }
            let mut settle = |at: Nanos, cost: &mut Permits| {
                if let Some(used) = to_settle.get_mut(&(at, *cost)).and_then(Vec::pop) {
                    *cost = used;
                }
            };
            permits.entry(key).and_modify(|taken| taken.iter_mut().for_each(|(at, cost)| settle(*at, cost)));
            self.dated.entry(key).and_modify(|taken| taken.iter_mut().for_each(|(at, cost, _)| settle(*at, cost)));
        }
    }
}

fn note(
    findings: &mut BTreeMap<LimitId, Finding>,
    names: &BTreeMap<LimitId, String>,
    limit: LimitId,
    rule: Rule,
    learnt: &[RuleLearnt],
    judged: Judged,
) {
    let finding = findings.entry(limit).or_insert_with(|| empty(limit, rule, names));
    finding.max = learnt.last().map_or(Permits::ZERO, |(_, max, _)| *max);
    finding.permits += judged.permits;
    finding.worst = finding.worst.max(judged.worst);
    finding.worst_ratio = finding.worst_ratio.max(judged.ratio);
    if judged.total > finding.busiest.0 {
        finding.busiest = (judged.total, judged.span);
    }
}

/// What was found of one key, or of one window of it.
pub(super) struct Judged {
    permits: u64,
    pub(super) worst: Permits,
    pub(super) ratio: f64,
    total: Permits,
    span: Nanos,
}

impl Judged {
    pub(super) fn new(permits: u64, worst: u128, ratio: f64, total: u128, span: Nanos) -> Self {
        let narrow = |wide: u128| Permits(u64::try_from(wide).unwrap_or(u64::MAX));
        Self { permits, worst: narrow(worst), ratio, total: narrow(total), span }
    }
}

fn empty(limit: LimitId, rule: Rule, names: &BTreeMap<LimitId, String>) -> Finding {
    let window = match rule {
        Rule::Bucket(rate) | Rule::Smooth(rate) => rate.per,
        Rule::Concurrency | Rule::Dated { .. } => Nanos::ZERO,
    };
    Finding {
        limit,
        name: names.get(&limit).cloned().unwrap_or_default(),
        max: Permits::ZERO,
        rule: Some(rule),
        window,
        permits: 0,
        busiest: (Permits::ZERO, Nanos::ZERO),
        worst: Permits::ZERO,
        worst_ratio: 0.0,
        debt: Permits::ZERO,
    }
}

pub(super) fn ratio(sum: u128, max: u128) -> f64 {
    match (sum, max) {
        (0, _) => 0.0,
        (_, 0) => f64::INFINITY,
        (sum, max) if sum > max => (sum as f64 / max as f64).max(1.0 + f64::EPSILON),
        (sum, max) => sum as f64 / max as f64,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{NodeId, Subject};

    use super::super::{Evidence, RequestMark, header};
    use super::*;
    use crate::protocol::{Kind, Rate};

    const KEY: Key = Key { limit: LimitId(3), subject: Subject(1) };
    const REQUEST: RequestMark = RequestMark(1 << 64);

    fn worst(kind: &Kind, max: u64, records: &[Record]) -> (u64, bool) {
        let mut evidence = Evidence::default();
        evidence.add(Record::policy(Nanos(0), KEY.limit, Permits(max), kind));
        records.iter().for_each(|record| evidence.add(*record));
        let findings = evidence.judge();
        assert_eq!(findings.len(), 1);
        (findings[0].worst.0, findings[0].worst_ratio <= 1.0)
    }

    fn permit(at: u64, cost: u64, window: Option<u64>) -> Record {
        Record::taken(Nanos(at), KEY, Permits(cost), REQUEST, window)
    }

    #[test]
    fn a_bucket_is_judged_over_every_stretch_of_time() {
        let kind = Kind::Bucket { rate: Rate { permits: 1, per: Nanos(10) } };
        let steady = [permit(100, 5, None), permit(110, 1, None), permit(130, 2, None)];
        assert_eq!(worst(&kind, 5, &steady), (5, true));
        assert_eq!(worst(&kind, 5, &[steady[0], permit(109, 1, None)]), (6, false), "a moment too early");
        // Each stretch from one permit to the next is right, and the whole is not.
        let creeping = [permit(100, 3, None), permit(105, 2, None), permit(112, 2, None)];
        assert_eq!(worst(&kind, 5, &creeping), (6, false));
    }

    #[test]
    fn a_calendar_window_is_judged_by_its_tag_and_not_by_the_clock() {
        let kind = Kind::Calendar { period: crate::protocol::Period::Minute, zone: "UTC".into() };
        let tagged = [permit(10, 3, Some(7)), permit(11, 3, Some(8)), permit(12, 2, Some(7))];
        assert_eq!(worst(&kind, 5, &tagged), (5, true));
        assert_eq!(worst(&kind, 4, &tagged), (5, false));
    }

    #[test]
    fn what_was_settled_for_less_counts_for_less() {
        let kind = Kind::Bucket { rate: Rate { permits: 1, per: Nanos(10) } };
        let settled = Record::Settled { at: Nanos(100), key: KEY, used: Permits(2), reserved: Permits(5) };
        assert_eq!(worst(&kind, 5, &[permit(100, 5, None), settled, permit(101, 3, None)]), (5, true));
        let kind = Kind::Calendar { period: crate::protocol::Period::Minute, zone: "UTC".into() };
        let tagged = [permit(100, 5, Some(7)), settled, permit(101, 3, Some(7))];
        assert_eq!(worst(&kind, 5, &tagged), (5, true));
        assert_eq!(worst(&kind, 4, &tagged), (5, false));
    }

    #[test]
    fn places_are_counted_while_they_are_in_use() {
        let begin = |at| Record::Begin { at: Nanos(at), key: KEY, cost: Permits(1), request: REQUEST };
        let end = |at| Record::End { at: Nanos(at), key: KEY, cost: Permits(1), request: REQUEST };
        let handed_on = [begin(10), begin(11), end(20), begin(20), end(30), end(40)];
        assert_eq!(worst(&Kind::Concurrency, 2, &handed_on), (2, true));
        assert_eq!(worst(&Kind::Concurrency, 2, &[begin(10), begin(11), begin(19), end(20)]), (3, false));
    }

    #[test]
    fn a_process_that_was_killed_had_its_places_until_its_last_word() {
        let begin = |at| Record::Begin { at: Nanos(at), key: KEY, cost: Permits(1), request: REQUEST };
        let file = |incarnation, records: &[Record]| {
            let mut bytes = header(NodeId(1), Incarnation(incarnation)).to_vec();
            records.iter().for_each(|record| bytes.extend(record.encode()));
            bytes
        };
        let rule = Record::policy(Nanos(0), KEY.limit, Permits(1), &Kind::Concurrency);
        for (at, holds) in [(15, false), (25, true)] {
            let mut evidence = Evidence::default();
            evidence.read(&file(1, &[rule, begin(10), permit(20, 1, None)])).expect("a log");
            evidence.read(&file(2, &[begin(at)])).expect("a log");
            assert_eq!(evidence.judge()[0].worst_ratio <= 1.0, holds, "the next at {at}");
        }
    }
}
