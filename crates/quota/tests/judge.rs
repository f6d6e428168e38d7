//! The judge of decision logs against the definition of each kind, on small logs: in steps of a quarter of D, so that whatever
//! binds late binds within a few of them.

use proptest::prelude::*;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_quota::evidence::{Evidence, Finding, Record, RequestMark};
use tidegate_quota::protocol::{Budget, Key, Kind, LEASE_TTL, Period, Rate, Unit};

const KEY: Key = Key { limit: LimitId(3), subject: Subject(1) };
/// D, in steps.
const D: u64 = 4;
const STEPS: u64 = 40;

fn at(step: u64) -> Nanos {
    Nanos(step * (LEASE_TTL.0 / D))
}

fn bucket(rate: u64) -> Kind {
    Kind::Bucket { rate: Rate { permits: rate, per: at(1) } }
}

fn budget(carry: u64) -> Kind {
    let (period, zone) = (Period::Hour, "UTC".to_owned());
    Kind::Budget(Budget { period, zone, unit: Unit::Tokens, carry: Permits(carry), alerts: Vec::new() })
}

fn judged(records: impl IntoIterator<Item = Record>) -> Finding {
    let mut evidence = Evidence::default();
    for record in records {
        evidence.add(Record::decode(&record.encode()).expect("as written"));
    }
    evidence.judge().remove(0)
}

fn holds(records: impl IntoIterator<Item = Record>) -> bool {
    judged(records).worst_ratio <= 1.0
}

fn rule(step: u64, max: u64, kind: &Kind) -> Record {
    Record::policy(at(step), KEY.limit, Permits(max), kind)
}

fn permit(step: u64, cost: u64, window: Option<u64>) -> Record {
    Record::taken(at(step), KEY, Permits(cost), RequestMark(1 << 64), window)
}

fn begin(step: u64) -> Record {
    Record::Begin { at: at(step), key: KEY, cost: Permits(1), request: RequestMark(1) }
}

fn end(step: u64) -> Record {
    Record::End { at: at(step), key: KEY, cost: Permits(1), request: RequestMark(1) }
}

fn own(step: u64, max: u64) -> Record {
    Record::Ordered { at: at(step), key: KEY, max: Permits(max) }
}

fn extra(step: u64, permits: u64) -> Record {
    Record::Extra { at: at(step), key: KEY, permits: Permits(permits), id: 7 }
}

fn reset(step: u64, done: bool) -> Record {
    Record::Reset { at: at(step), limit: KEY.limit, subject: None, id: 8, done }
}

/// Maxima and rates in the order of time.
type Rules = Vec<(u64, u64, u64)>;

/// From the definition: what may be in force at this step, or between it and the next.
fn in_force(rules: &Rules, from: u64, to: u64) -> (u64, u64) {
    let (mut max, mut rate) = (0, 0);
    for (nth, rule) in rules.iter().enumerate() {
        let replaced = rules[nth..].iter().find(|other| (other.1, other.2) != (rule.1, rule.2));
        if rule.0 <= from + D && replaced.is_none_or(|other| to <= other.0 + D) {
            (max, rate) = (max.max(rule.1), rate.max(rule.2));
        }
    }
    (max, rate)
}

/// Step by step: is more taken than is there?
fn bucket_holds(rules: &Rules, permits: &[(u64, u64)]) -> bool {
    let (mut drawn, mut max) = (0_u64, 0);
    let mut bind = |drawn: &mut u64, new: u64| {
        *drawn = drawn.saturating_sub(u64::saturating_sub(max, new));
        max = new;
    };
    for step in 0..STEPS {
        let cost: u64 = permits.iter().filter(|permit| permit.0 == step).map(|permit| permit.1).sum();
        if permits.iter().any(|permit| permit.0 == step) {
            bind(&mut drawn, in_force(rules, step, step).0);
            drawn += cost;
            if drawn > in_force(rules, step, step).0 {
                return false;
            }
        }
        let (next, rate) = in_force(rules, step, step + 1);
        bind(&mut drawn, next);
        drawn = drawn.saturating_sub(rate);
    }
    true
}

fn dated_holds(rules: &Rules, permits: &[(u64, u64, u64)]) -> bool {
    permits.iter().all(|(step, _, window)| {
        let before = permits.iter().filter(|other| other.2 == *window && other.0 <= *step);
        before.map(|other| other.1).sum::<u64>() <= in_force(rules, *step, *step).0
    })
}

fn places_hold(rules: &Rules, calls: &[(u64, u64)]) -> bool {
    calls.iter().all(|(step, _)| {
        let running = calls.iter().filter(|(begun, lasts)| begun <= step && *step < begun + lasts).count() as u64;
        running <= in_force(rules, *step, *step).0
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let later = proptest::collection::vec((0..STEPS, 1..9_u64, 0..4_u64), 0..5);
    ((1..9_u64, 0..4_u64), later).prop_map(|((max, rate), mut later)| {
        later.push((0, max, rate));
        later.sort_unstable();
        later
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn buckets_are_judged_as_by_the_definition(
        rules in rules(),
        permits in proptest::collection::vec((0..STEPS, 1..4_u64), 1..40),
    ) {
        let told = rules.iter().map(|(step, max, rate)| rule(*step, *max, &bucket(*rate)));
        let taken = permits.iter().map(|(step, cost)| permit(*step, *cost, None));
        prop_assert_eq!(holds(told.chain(taken)), bucket_holds(&rules, &permits));
    }

    #[test]
    fn a_bucket_that_is_used_up_holds_and_one_permit_more_is_found(
        mut rules in rules(), times in proptest::collection::btree_set(0..STEPS, 1..20), planted in any::<prop::sample::Index>(),
    ) {
        // Whatever is there is taken at each of these times.
        rules.dedup_by_key(|rule| rule.0);
        let mut permits: Vec<(u64, u64)> = Vec::new();
        for step in times {
            permits.push((step, 0));
            while bucket_holds(&rules, &permits) {
                permits.last_mut().expect("just pushed").1 += 1;
            }
            permits.last_mut().expect("just pushed").1 -= 1;
        }
        let log = |permits: &[(u64, u64)]| {
            let told = rules.iter().map(|(step, max, rate)| rule(*step, *max, &bucket(*rate)));
            holds(told.chain(permits.iter().map(|(step, cost)| permit(*step, *cost, None))).collect::<Vec<_>>())
        };
        prop_assert!(log(&permits));
        let at = planted.index(permits.len());
        permits[at].1 += 1;
        prop_assert!(!log(&permits), "one more at {:?}", permits[at]);
    }

    #[test]
    fn windows_of_the_calendar_are_judged_as_by_the_definition(
        rules in rules(),
        permits in proptest::collection::vec((0..STEPS, 1..4_u64, 100..104_u64), 1..12),
    ) {
        let calendar = Kind::Calendar { period: Period::Minute, zone: "UTC".into() };
        let told = rules.iter().map(|(step, max, _)| rule(*step, *max, &calendar));
        let taken = permits.iter().map(|(step, cost, window)| permit(*step, *cost, Some(*window)));
        let rules = rules.iter().map(|(step, max, _)| (*step, *max, 0)).collect();
        prop_assert_eq!(holds(told.chain(taken)), dated_holds(&rules, &permits));
    }

    #[test]
    fn places_are_judged_as_by_the_definition(
        rules in rules(),
        calls in proptest::collection::vec((0..STEPS, 1..9_u64), 1..20),
    ) {
        let told = rules.iter().map(|(step, max, _)| rule(*step, *max, &Kind::Concurrency));
        let runs = calls.iter().flat_map(|(step, lasts)| [begin(*step), end(step + lasts)]);
        let rules = rules.iter().map(|(step, max, _)| (*step, *max, 0)).collect();
        prop_assert_eq!(holds(told.chain(runs)), places_hold(&rules, &calls));
    }

    #[test]
    fn a_keys_own_maximum_counts_in_place_of_its_limits_for_every_kind(
        mine in 1..9_u64, from in 1..STEPS, till in 0..STEPS,
        permits in proptest::collection::vec((0..STEPS, 1..4_u64), 1..20),
    ) {
        let orders = [own(from, mine), own(from + till, 0)];
        let mut rules = vec![(0, 4, 1), (from, mine, 1), (from + till, 4, 1)];
        // Of two at the same moment the smaller number is heard first: it is none any more.
        if till == 0 {
            rules = vec![(0, 4, 1), (from, 4, 1), (from, mine, 1)];
        }
        let (calendar, plain) = (budget(0), rules.iter().map(|(step, max, _)| (*step, *max, 0)).collect());
        let tagged: Vec<_> = permits.iter().map(|(step, cost)| (*step, *cost, 60)).collect();
        let of_bucket = permits.iter().map(|(step, cost)| permit(*step, *cost, None));
        let of_budget = permits.iter().map(|(step, cost)| permit(*step, *cost, Some(60)));
        let runs = permits.iter().flat_map(|(step, lasts)| [begin(*step), end(step + lasts)]);
        prop_assert_eq!(holds([rule(0, 4, &bucket(1))].into_iter().chain(orders).chain(of_bucket)), bucket_holds(&rules, &permits));
        prop_assert_eq!(holds([rule(0, 4, &calendar)].into_iter().chain(orders).chain(of_budget)), dated_holds(&plain, &tagged));
        prop_assert_eq!(holds([rule(0, 4, &Kind::Concurrency)].into_iter().chain(orders).chain(runs)), places_hold(&plain, &permits));
    }
}

#[test]
fn a_keys_own_rate_fills_its_bucket_while_it_has_one() {
    let rated =
        |step, permits| Record::Rated { at: at(step), key: KEY, rate: Rate { permits, per: Nanos(at(1).0 * 2) } };
    let log = |orders: &[Record], steps: std::ops::Range<u64>| {
        let taken = steps.map(|step| permit(step, 3, None));
        holds([rule(0, 3, &bucket(1))].into_iter().chain(orders.iter().copied()).chain(taken))
    };
    assert!(!log(&[], 10..12));
    assert!(log(&[rated(9, 6), rated(20, 0)], 10..25), "three in each step");
    assert!(!log(&[rated(9, 5), rated(20, 0)], 10..25));
    assert!(!log(&[rated(9, 6), rated(20, 0)], 10..26), "and no longer than D");
}

#[test]
fn a_grant_fills_a_bucket_once_and_goes_with_its_order() {
    let log = |extras: &[Record], last: u64| {
        let taken = [
            permit(10, 5, None),
            permit(12, 2, None),
            permit(12, 3, None),
            permit(20, 5, None),
            permit(30, last, None),
        ];
        let told = [rule(0, 5, &bucket(1))];
        holds(told.into_iter().chain(extras.iter().copied()).chain(taken))
    };
    assert!(!log(&[], 5));
    assert!(log(&[extra(11, 3)], 5));
    assert!(!log(&[extra(11, 3)], 6), "it is used up");
    assert!(!log(&[extra(11, 2)], 5));
    assert!(!log(&[extra(13, 3)], 5), "it came later");
    assert!(log(&[extra(11, 4)], 6), "what is left of it is there");
    assert!(!log(&[extra(11, 4), extra(25, 0)], 6), "the order is gone for longer than D");
    assert!(log(&[extra(11, 4), extra(26, 0)], 6));
}

#[test]
fn a_grant_adds_to_other_kinds_while_it_stands() {
    let smooth = Kind::Smooth { rate: Rate { permits: 1, per: at(1) } };
    let two = |step| [permit(step, 5, None), permit(step, 3, None)];
    for (log, truth) in [(two(20), true), (two(24), true), (two(25), false), (two(9), false)] {
        assert_eq!(holds([rule(0, 5, &smooth), extra(10, 3), extra(20, 0)].into_iter().chain(log)), truth, "{log:?}");
    }
    for (step, cost, truth) in [(20, 8, true), (20, 9, false), (25, 8, false), (25, 5, true)] {
        let calls = (0..cost).map(|_| begin(step));
        let told = [rule(0, 5, &Kind::Concurrency), extra(10, 3), extra(20, 0)];
        assert_eq!(holds(told.into_iter().chain(calls)), truth, "{step}: {cost} at a time");
    }
}

#[test]
fn a_grant_is_used_up_once_by_the_windows_of_a_calendar() {
    let log = |extras: &[Record], taken: &[(u64, u64, u64)]| {
        let taken = taken.iter().map(|(step, cost, window)| permit(*step, *cost, Some(*window)));
        holds([rule(0, 5, &budget(2))].into_iter().chain(extras.iter().copied()).chain(taken))
    };
    // Of the first window in the log nobody knows what was before: seven.
    assert!(log(&[extra(10, 3)], &[(12, 10, 60), (20, 5, 120)]));
    assert!(!log(&[extra(10, 3)], &[(12, 10, 60), (20, 6, 120)]), "it is used up");
    assert!(log(&[extra(10, 3)], &[(12, 9, 60), (20, 6, 120)]), "what is left of it is there");
    assert!(!log(&[extra(13, 3)], &[(12, 8, 60)]), "it came later");
    assert!(log(&[extra(10, 3)], &[(12, 5, 60), (20, 10, 120)]));
    assert!(!log(&[extra(10, 3)], &[(12, 5, 60), (20, 10, 120), (30, 6, 180)]), "nothing of it is carried over");
    let told = [extra(10, 3), reset(14, false), reset(16, true)];
    assert!(log(&told, &[(12, 10, 60), (18, 7, 60)]));
    assert!(!log(&told, &[(12, 10, 60), (18, 8, 60)]));
}

#[test]
fn a_reset_divides_a_bucket_and_a_window_in_two_and_no_more() {
    let told = [reset(14, false), reset(16, true)];
    for (kind, window) in [(bucket(0), None), (budget(0), Some(60))] {
        let log = |taken: &[(u64, u64)], resets: &[Record]| {
            let taken = taken.iter().map(|(step, cost)| permit(*step, *cost, window));
            holds([rule(0, 5, &kind)].into_iter().chain(resets.iter().copied()).chain(taken))
        };
        assert!(!log(&[(10, 5), (18, 1)], &[]));
        assert!(log(&[(10, 5), (18, 5)], &told));
        assert!(log(&[(10, 5), (15, 5)], &told), "in between nobody can tell");
        assert!(!log(&[(10, 5), (15, 5), (18, 1)], &told));
        assert!(!log(&[(10, 6), (18, 5)], &told));
        assert!(!log(&[(10, 5), (18, 5), (19, 1)], &told));
        assert!(!log(&[(10, 5), (13, 1)], &told));
    }
    let held = [begin(10), begin(18)];
    assert!(!holds([rule(0, 1, &Kind::Concurrency)].into_iter().chain(told).chain(held)), "who runs, runs on");
}

#[test]
fn a_budget_has_what_the_one_before_left_up_to_its_bound_and_no_more() {
    let log = |taken: &[(u64, u64, u64)]| {
        let taken = taken.iter().map(|(step, cost, window)| permit(*step, *cost, Some(*window)));
        holds([rule(0, 10, &budget(3))].into_iter().chain(taken))
    };
    // Of the first window in the log nobody knows what was before.
    assert!(log(&[(1, 13, 60)]));
    assert!(!log(&[(1, 14, 60)]));
    assert!(log(&[(1, 13, 60), (2, 10, 120)]));
    assert!(!log(&[(1, 13, 60), (2, 11, 120)]), "nothing was left");
    assert!(log(&[(1, 11, 60), (2, 12, 120), (3, 10, 180)]));
    assert!(!log(&[(1, 11, 60), (2, 12, 120), (3, 11, 180)]));
    assert!(log(&[(1, 13, 60), (2, 13, 180)]), "in the hour between nobody used any");
    assert!(!log(&[(1, 13, 60), (2, 14, 180)]));
    // Spent late, it counts to its own window, and to what that left.
    assert!(!log(&[(1, 12, 60), (2, 11, 120), (3, 1, 60)]));
}

#[test]
fn what_is_owed_is_told_apart_and_counts_for_nobody() {
    let settled = Record::Settled { at: at(1), key: KEY, used: Permits(9), reserved: Permits(5) };
    for (kind, window) in [(bucket(0), None), (budget(0), Some(60)), (Kind::Sliding { window: at(9) }, None)] {
        let finding = judged([rule(0, 5, &kind), permit(1, 5, window), settled]);
        assert_eq!((finding.worst, finding.debt), (Permits(5), Permits(4)));
        assert!(finding.worst_ratio <= 1.0);
    }
}
