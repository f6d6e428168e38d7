//! The judge of kinds that are no sliding windows: buckets, places, calendar windows, and what was settled.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_model::{Incarnation, LimitId, Nanos, Permits};

use super::orders::Told;
use super::{Finding, Record, Rule};
use crate::protocol::{Key, LEASE_TTL, Rate};

#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    /// Whose file is read.
    pub(super) of: Incarnation,
    /// As nodes learnt of them.
    rules: BTreeMap<LimitId, Vec<(Nanos, Permits, Rule)>>,
    /// Σ of each window, and of how many permits.
    dated: BTreeMap<(Key, u32), (u128, u64)>,
    /// When it was taken, how much was reserved, how much was used.
    settled: BTreeMap<Key, Vec<(Nanos, Permits, Permits)>>,
    /// Of windows of the calendar: reserved and not used.
    unused: BTreeMap<Key, Vec<(Nanos, Permits, u32)>>,
    places: BTreeMap<Key, Places>,
    last: BTreeMap<Incarnation, Nanos>,
}

#[derive(Debug, Clone, Default)]
struct Places {
    /// Permits taken (+) or given up (−).
    changes: Vec<(Nanos, i128)>,
    /// What each process has in use, by its own records.
    open: BTreeMap<Incarnation, i128>,
    begun: u64,
}

impl Others {
    pub(super) fn see(&mut self, record: &Record) {
        match *record {
            Record::Rule { at, limit, max, rule } => self.rules.entry(limit).or_default().push((at, max, rule)),
            Record::Dated { at, key, cost, window, .. } => {
                self.saw(at);
                let (sum, permits) = self.dated.entry((key, window)).or_default();
                *sum += u128::from(cost.0);
                *permits += 1;
                self.unused.entry(key).or_default().push((at, cost, window));
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
        let dated: u64 = self.dated.values().map(|(_, permits)| permits).sum();
        let begun: u64 = self.places.values().map(|places| places.begun).sum();
        usize::try_from(dated + begun).unwrap_or(usize::MAX)
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

    /// Judges what is no sliding window, and takes it out of `permits`; what was settled for less counts for less there.
    pub(super) fn judge(
        mut self,
        permits: &mut BTreeMap<Key, Vec<(Nanos, Permits)>>,
        names: &BTreeMap<LimitId, String>,
        orders: &Told,
    ) -> Vec<Finding> {
        self.settle(permits);
        self.rules.values_mut().for_each(|learnt| learnt.sort_unstable());
        let mut findings: BTreeMap<LimitId, Finding> = BTreeMap::new();
        let limits: BTreeSet<LimitId> = self.rules.keys().copied().collect();
        let mut note = |limit: LimitId, rule: Rule, max: Permits, judged: Judged| {
            let finding = findings.entry(limit).or_insert_with(|| empty(limit, rule, names));
            finding.max = max;
            finding.permits += judged.permits;
            finding.worst = finding.worst.max(Permits(u64::try_from(judged.worst).unwrap_or(u64::MAX)));
            finding.worst_ratio = finding.worst_ratio.max(judged.ratio);
            if judged.total > finding.busiest.0 {
                finding.busiest = (judged.total, judged.span);
            }
        };
        for (key, of_key) in permits.iter_mut().filter(|(key, _)| limits.contains(&key.limit)) {
            let learnt = &self.rules[&key.limit];
            if let Some((_, max, rule @ Rule::Bucket(_))) = learnt.last() {
                of_key.sort_unstable();
                let judged = match orders.rules(*key, learnt) {
                    None => bucket(of_key, learnt).excused_once(orders, *key, *max),
                    // Against the smallest burst, so that it excuses what any of them would.
                    Some(own) => {
                        let least = own.iter().map(|(_, max, _)| *max).filter(|max| *max != Permits::ZERO).min();
                        bucket(of_key, &own).excused_once(orders, *key, least.unwrap_or(*max))
                    }
                };
                note(key.limit, *rule, *max, judged);
            }
        }
        permits.retain(|key, _| !limits.contains(&key.limit));
        for ((key, _), (sum, count)) in &self.dated {
            let max = self.largest(key.limit);
            let total = Permits(u64::try_from(*sum).unwrap_or(u64::MAX));
            let ratio = ratio(*sum, u128::from(max.0));
            let judged = Judged { permits: *count, worst: *sum, ratio, total, span: Nanos::ZERO };
            note(key.limit, Rule::Dated, max, judged.excused(orders, *key, max));
        }
        for (key, places) in std::mem::take(&mut self.places) {
            let learnt = self.rules.get(&key.limit).map_or(&[][..], Vec::as_slice);
            let max = self.largest(key.limit);
            note(key.limit, Rule::Concurrency, max, crowd(places, &self.last, learnt).excused(orders, key, max));
        }
        findings.into_values().collect()
    }

    /// What was reserved and not used was never spent.
    fn settle(&mut self, permits: &mut BTreeMap<Key, Vec<(Nanos, Permits)>>) {
        for (key, settled) in std::mem::take(&mut self.settled) {
            let taken = permits.entry(key).or_default();
            taken.sort_unstable();
            let dated = self.unused.entry(key).or_default();
            dated.sort_unstable();
            for (at, reserved, used) in settled {
                let used = used.min(reserved);
                if let Ok(found) = taken.binary_search(&(at, reserved)) {
                    // In its place: stamps are looked for, costs only beside them.
                    taken[found].1 = used;
                    let from = taken.partition_point(|(other, _)| *other < at);
                    let to = taken.partition_point(|(other, _)| *other <= at);
                    taken[from..to].sort_unstable();
                } else {
                    let found = dated.partition_point(|(other, cost, _)| (*other, *cost) < (at, reserved));
                    if let Some((_, _, window)) =
                        dated.get(found).filter(|(t, c, _)| (*t, *c) == (at, reserved)).copied()
                    {
                        dated.remove(found);
                        if let Some((sum, _)) = self.dated.get_mut(&(key, window)) {
                            *sum -= u128::from(reserved.saturating_sub(used).0);
                        }
                    }
                }
            }
            if taken.is_empty() {
                permits.remove(&key);
            }
        }
    }

    /// Of all that were ever in force: a lowered one binds the windows after.
    fn largest(&self, limit: LimitId) -> Permits {
        self.rules.get(&limit).into_iter().flatten().map(|(_, max, _)| *max).max().unwrap_or_default()
    }
}

struct Judged {
    permits: u64,
    worst: u128,
    ratio: f64,
    total: Permits,
    span: Nanos,
}

impl Judged {
    /// Against what operators ordered for this key beside the limit, all of it at once.
    fn excused(self, orders: &Told, key: Key, max: Permits) -> Self {
        self.against(max, orders.most(key, max))
    }

    /// The same of a bucket, whose own bursts and rates are known by their time.
    fn excused_once(self, orders: &Told, key: Key, max: Permits) -> Self {
        self.against(max, orders.once(key, max))
    }

    fn against(self, max: Permits, most: Permits) -> Self {
        if most == max { self } else { Self { ratio: self.ratio * max.0 as f64 / most.0.max(1) as f64, ..self } }
    }
}

fn empty(limit: LimitId, rule: Rule, names: &BTreeMap<LimitId, String>) -> Finding {
    let window = match rule {
        Rule::Bucket(rate) => rate.per,
        Rule::Concurrency | Rule::Dated => Nanos::ZERO,
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
    }
}

/// The deepest a bucket was drawn: the largest sum of any stretch of time, less what the rate brought in it. In units of
/// permits × `per`, so that nothing is rounded.
fn bucket(permits: &[(Nanos, Permits)], learnt: &[(Nanos, Permits, Rule)]) -> Judged {
    let (mut drawn, mut before) = (0_u128, permits[0].0);
    let (mut worst, mut worst_ratio, mut sum) = (0, 0.0_f64, 0_u128);
    for (at, cost) in permits {
        let (burst, rate) = in_force(learnt, before, *at);
        let per = u128::from(rate.per.0.max(1));
        let came = u128::from(at.saturating_sub(before).0) * u128::from(rate.permits);
        drawn = drawn.saturating_sub(came).saturating_add(u128::from(cost.0).saturating_mul(per));
        worst = worst.max(drawn.div_ceil(per));
        worst_ratio = worst_ratio.max(ratio(drawn, u128::from(burst.0).saturating_mul(per)));
        sum = sum.saturating_add(u128::from(cost.0));
        before = *at;
    }
    Judged {
        permits: permits.len() as u64,
        worst,
        ratio: worst_ratio,
        total: Permits(u64::try_from(sum).unwrap_or(u64::MAX)),
        span: before.saturating_sub(permits[0].0),
    }
}

/// The largest burst and the fastest rate that may have been in force between `from` and `to`: a change binds within D.
fn in_force(learnt: &[(Nanos, Permits, Rule)], from: Nanos, to: Nanos) -> (Permits, Rate) {
    let (mut burst, mut fastest) = (Permits::ZERO, Rate { permits: 0, per: Nanos(1) });
    for (nth, (since, max, rule)) in learnt.iter().enumerate() {
        let until = learnt[nth..].iter().find(|(_, other, of)| (other, of) != (max, rule));
        let until = until.map_or(Nanos::MAX, |(later, ..)| later.saturating_add(LEASE_TTL));
        if let Rule::Bucket(rate) = rule
            && *since <= to.saturating_add(LEASE_TTL)
            && until >= from
        {
            burst = burst.max(*max);
            if rate.slower(fastest) == fastest {
                fastest = *rate;
            }
        }
    }
    (burst, fastest)
}

/// The most places in use at a time. A process that ended without a word gave its own up no earlier than its last record.
fn crowd(places: Places, last: &BTreeMap<Incarnation, Nanos>, learnt: &[(Nanos, Permits, Rule)]) -> Judged {
    let Places { mut changes, open, begun } = places;
    for (incarnation, left) in open.into_iter().filter(|(_, left)| *left > 0) {
        // After its last word: what that may have begun was in use.
        let last = last.get(&incarnation).copied().unwrap_or_default();
        changes.push((last.saturating_add(Nanos(1)), -left));
    }
    changes.sort_unstable(); // Ends first.
    let (mut now, mut worst, mut worst_ratio, mut total) = (0_i128, 0_i128, 0.0_f64, 0_i128);
    for (at, change) in &changes {
        now += change;
        total += change.max(&0);
        worst = worst.max(now);
        let held = learnt.iter().enumerate().filter(|(nth, (since, max, _))| {
            let until = learnt[*nth..].iter().find(|(_, other, _)| other != max).map(|(later, ..)| *later);
            *since <= at.saturating_add(LEASE_TTL) && until.is_none_or(|until| until.saturating_add(LEASE_TTL) >= *at)
        });
        let max = held.map(|(_, (_, max, _))| max.0).max().unwrap_or(0);
        worst_ratio = worst_ratio.max(ratio(u128::try_from(now).unwrap_or(0), u128::from(max)));
    }
    let span = changes.last().map_or(Nanos::ZERO, |(at, _)| at.saturating_sub(changes[0].0));
    Judged {
        permits: begun,
        worst: u128::try_from(worst).unwrap_or(0),
        ratio: worst_ratio,
        total: Permits(u64::try_from(total).unwrap_or(u64::MAX)),
        span,
    }
}

fn ratio(sum: u128, max: u128) -> f64 {
    match (sum, max) {
        (0, _) => 0.0,
        (_, 0) => f64::INFINITY,
        (sum, max) => sum as f64 / max as f64,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{NodeId, Subject};

    use super::super::{Evidence, RequestMark, header};
    use super::*;
    use crate::protocol::Kind;

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
