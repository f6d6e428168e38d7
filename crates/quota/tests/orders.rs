//! Orders of operators about limits: maxima, extra permits, counts begun anew.

use std::collections::BTreeMap;

use tidegate_model::{Incarnation, LimitId, Millis, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::Ledger;
use tidegate_quota::protocol::{
    Batch, Budget, Command, Entry, Extra, Item, Key, Kind, Maximum, Opening, Orders, Period, Policy, Rate, Rated,
    Reset, Span, Unit, Verdict,
};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const OTHER: Key = Key { subject: Subject(8), ..KEY };
const W: u64 = 10_000;
const D: Nanos = Nanos::from_millis(1_000);

/// A ledger, and nodes that spend whatever they are granted at once.
struct Bench {
    ledger: Ledger,
    seq: u64,
    /// By node and key, in its epoch.
    spent: BTreeMap<(u64, Key), u64>,
    epoch: u64,
}

impl Bench {
    fn new(max: u64, kind: Kind) -> Self {
        let policy = Policy { limit: KEY.limit, max: Permits(max), ttl: D, kind };
        let mut bench = Self { ledger: Ledger::default(), seq: 0, spent: BTreeMap::new(), epoch: 1 };
        bench.apply(0, Command::SetPolicies { revision: Revision(1), policies: vec![policy] });
        bench
    }

    fn window(max: u64) -> Self {
        Self::new(max, Kind::Sliding { window: Nanos::from_millis(W) })
    }

    fn apply(&mut self, after: u64, command: Command) -> Vec<Verdict> {
        let outcome = self.ledger.apply(&Entry { dt: Nanos::from_millis(after), command });
        outcome.replies.iter().flat_map(|reply| reply.items.iter().map(|answer| answer.verdict)).collect()
    }

    fn order(&mut self, epoch: u64, maxima: &[(Option<u128>, u64)], extras: &[(u64, u64)], resets: &[Reset]) {
        let maximum = |(subject, max): &(Option<u128>, u64)| Maximum {
            limit: KEY.limit,
            subject: subject.map(Subject),
            max: Permits(*max),
        };
        let extra = |(id, permits): &(u64, u64)| Extra { id: *id, key: KEY, permits: Permits(*permits) };
        let orders = Orders {
            epoch,
            maxima: maxima.iter().map(maximum).collect(),
            extras: extras.iter().map(extra).collect(),
            resets: resets.to_vec(),
        };
        self.apply(0, Command::SetOrders(orders));
    }

    fn item(&mut self, node: u64, key: Key, want: u64, have: u64, after: u64) -> u64 {
        self.seq += 1;
        let spent = *self.spent.entry((node, key)).or_default();
        let (want, waiting) = (Permits(want), Permits(want.min(1)));
        let item = Item {
            key,
            epoch: self.epoch,
            spent: Permits(spent),
            have: Permits(have),
            want,
            waiting,
            reserve: false,
            reserved: Permits::ZERO,
        };
        let batch =
            Batch { node: NodeId(node), incarnation: Incarnation(node.into()), seq: self.seq, items: vec![item] };
        match self.apply(after, Command::Batches(vec![batch])).as_slice() {
            [Verdict::Lease { granted, .. } | Verdict::Dated { granted, .. }] => granted.0,
            // Its lease has lapsed: it begins anew.
            [Verdict::Reset] => {
                self.epoch += 1;
                self.spent.clear();
                self.item(node, key, want.0, 0, 0)
            }
            other => panic!("{other:?}"),
        }
    }

    /// An hour of the calendar begins.
    fn open(&mut self, hour: u64) {
        let span = Span { start: Millis(hour * 3_600_000), end: Millis((hour + 1) * 3_600_000) };
        self.apply(0, Command::OpenWindows(vec![Opening { limit: KEY.limit, number: span.number(), span }]));
    }

    /// All that two nodes can take now, one by one.
    fn take_all(&mut self, key: Key) -> u64 {
        let mut all = 0;
        for node in [1, 2].repeat(200) {
            let granted = self.item(node, key, 3, 0, 1);
            *self.spent.entry((node, key)).or_default() += granted;
            self.item(node, key, 0, 0, 0);
            all += granted;
        }
        all
    }
}

#[test]
fn an_ordered_maximum_holds_for_a_limit_or_one_subject_until_it_is_gone() {
    let mut bench = Bench::window(10);
    bench.order(1, &[(None, 4), (Some(8), 6)], &[], &[]);
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (4, 6));
    bench.order(2, &[(Some(7), 15)], &[], &[]);
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (11, 4));
    bench.order(1, &[(None, 100)], &[], &[]); // a slower leader
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (0, 0));
    // Lowered below what is charged: what a node holds is not renewed.
    bench.order(3, &[(None, 2)], &[], &[]);
    assert_eq!(bench.ledger.detail(KEY).map(|it| (it.view.max, it.view.spent)), Some((Permits(2), Permits(15))));
}

#[test]
fn a_document_that_is_published_again_leaves_an_ordered_maximum() {
    let mut bench = Bench::window(10);
    bench.order(1, &[(None, 4)], &[], &[]);
    let policy = Policy::sliding(KEY.limit, Permits(20), Nanos::from_millis(W), D);
    bench.apply(0, Command::SetPolicies { revision: Revision(2), policies: vec![policy] });
    assert_eq!(bench.take_all(KEY), 4);
    bench.order(2, &[], &[], &[]);
    assert_eq!(bench.take_all(KEY), 16);
}

#[test]
fn what_is_granted_comes_once_however_often_it_is_told_and_however_long_it_stands() {
    let mut bench = Bench::window(10);
    assert_eq!(bench.take_all(KEY), 10);
    bench.order(1, &[], &[(1, 5)], &[]);
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (5, 10));
    bench.order(2, &[(Some(9), 1)], &[(1, 5)], &[]);
    assert_eq!(bench.take_all(KEY), 0);
    let mut total = 0;
    for _ in 0..20 {
        bench.apply(W / 4, Command::Tick);
        total += bench.take_all(KEY);
    }
    assert!((30..=60).contains(&total), "{total} in five to six windows of 10, after the extra was used up");
    for _ in 0..8 {
        bench.apply(W / 8 * 9, Command::Tick);
        assert_eq!(bench.take_all(KEY), 10, "a window is a window again");
    }
    assert_eq!(bench.ledger.detail(KEY).map(|it| it.extra), Some(Permits::ZERO));
}

#[test]
fn what_is_granted_of_a_calendar_window_or_a_budget_comes_once_and_nothing_of_it_is_carried_over() {
    let (period, zone, carry) = (Period::Hour, || "UTC".to_owned(), Permits(10));
    let budget = Budget { period, zone: zone(), unit: Unit::Count, carry, alerts: Vec::new() };
    for (kind, carried) in [(Kind::Calendar { period, zone: zone() }, 0), (Kind::Budget(budget), 9)] {
        let mut bench = Bench::new(10, kind);
        let detail = |bench: &Bench| bench.ledger.detail(KEY).map(|it| (it.view.max.0, it.extra.0, it.free.0));
        bench.open(1);
        bench.order(1, &[], &[(1, 5)], &[]);
        assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (15, 10));
        bench.open(2);
        assert_eq!(detail(&bench), Some((10, 0, 10)), "it was used up in the hour before");
        assert_eq!(bench.take_all(KEY), 10);
        // Told again beside another one.
        bench.order(2, &[], &[(1, 5), (2, 5)], &[]);
        assert_eq!((bench.take_all(KEY), bench.take_all(KEY)), (5, 0));
        // Granted, and not needed in the hour that begins now: it is there in the next one, and is not left of this one as well.
        bench.open(3);
        bench.order(3, &[], &[(3, 5)], &[]);
        let granted = bench.item(1, KEY, 1, 0, 1);
        *bench.spent.entry((1, KEY)).or_default() += granted;
        bench.item(1, KEY, 0, 0, 0);
        bench.open(4);
        assert_eq!(detail(&bench), Some((15, 5, 15 + carried)));
        assert_eq!(bench.take_all(KEY), 15 + carried);
        bench.open(5);
        assert_eq!(bench.take_all(KEY), 10);
        // What is not used goes with its order.
        bench.open(6);
        bench.order(4, &[], &[(4, 5)], &[]);
        bench.order(5, &[], &[], &[]);
        assert_eq!(bench.take_all(KEY), 10);
    }
}

#[test]
fn what_is_granted_and_not_used_goes_with_its_order() {
    let mut bench = Bench::window(10);
    bench.take_all(KEY);
    bench.order(1, &[], &[(1, 5)], &[]);
    assert_eq!(bench.item(1, KEY, 2, 0, 1), 2);
    bench.order(2, &[], &[], &[]);
    assert_eq!(bench.ledger.detail(KEY).map(|it| (it.extra, it.free)), Some((Permits::ZERO, Permits::ZERO)));
}

#[test]
fn a_bucket_gets_its_extra_permits_at_once_and_refills_no_further_than_before() {
    let rate = Rate { permits: 1, per: Nanos::SECOND };
    for half_empty in [false, true] {
        let mut bench = Bench::new(10, Kind::Bucket { rate });
        if half_empty {
            let granted = bench.item(1, KEY, 3, 0, 1);
            *bench.spent.entry((1, KEY)).or_default() += granted;
            bench.item(1, KEY, 0, 0, 0);
        }
        let before = if half_empty { 7..=8 } else { 10..=10 };
        bench.order(1, &[], &[(1, 5)], &[]);
        let taken = bench.take_all(KEY);
        assert!((before.start() + 5..=before.end() + 5).contains(&taken), "{taken} of {before:?} and 5");
        bench.apply(60_000, Command::Tick);
        assert_eq!(bench.take_all(KEY), 10);
    }
}

/// Buckets of these subjects of [`KEY`]'s limit get so many a second.
fn rated(bench: &mut Bench, epoch: u64, rates: &[(Option<u128>, u64)], bursts: &[(Option<u128>, u64)]) {
    let rate = |(subject, permits): &(Option<u128>, u64)| Rated {
        limit: KEY.limit,
        subject: subject.map(Subject),
        rate: Rate { permits: *permits, per: Nanos::SECOND },
    };
    let burst = |(subject, max): &(Option<u128>, u64)| Maximum {
        limit: KEY.limit,
        subject: subject.map(Subject),
        max: Permits(*max),
    };
    let orders = Orders { epoch, maxima: bursts.iter().map(burst).collect(), ..Orders::default() };
    bench.apply(0, Command::SetRatedOrders(orders, rates.iter().map(rate).collect()));
}

#[test]
fn an_ordered_rate_holds_for_a_bucket_or_one_subject_until_it_is_gone() {
    let mut bench = Bench::new(10, Kind::Bucket { rate: Rate { permits: 1, per: Nanos::SECOND } });
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (10, 10));
    // All get 2 a second, one of them 4.
    rated(&mut bench, 1, &[(None, 2), (Some(7), 4)], &[]);
    bench.take_all(KEY);
    bench.take_all(OTHER); // From the first look on.
    bench.apply(2_000, Command::Tick);
    let (own, common) = (bench.take_all(KEY), bench.take_all(OTHER));
    assert!((8..=12).contains(&own) && (4..=6).contains(&common), "{own} and {common}");
    // A burst of its own is filled at the limit's rate, and a slower rate counts at once.
    rated(&mut bench, 2, &[(None, 3)], &[(Some(7), 40)]);
    bench.apply(20_000, Command::Tick);
    let taken = bench.take_all(KEY);
    assert!((39..=42).contains(&taken), "{taken}");
    // What an earlier release orders has no rates.
    bench.order(3, &[], &[], &[]);
    bench.take_all(KEY);
    bench.take_all(OTHER);
    bench.apply(3_000, Command::Tick);
    let (own, common) = (bench.take_all(KEY), bench.take_all(OTHER));
    assert!((3..=4).contains(&own) && (3..=4).contains(&common), "{own} and {common}");
}

#[test]
fn a_rate_is_no_order_about_a_window() {
    let mut bench = Bench::window(10);
    rated(&mut bench, 1, &[(None, 1_000)], &[]);
    assert_eq!(bench.take_all(KEY), 10);
}

#[test]
fn parts_of_a_smooth_limit_follow_the_rate_that_is_ordered() {
    let mut bench = Bench::new(10, Kind::Smooth { rate: Rate { permits: 1_000, per: Nanos::SECOND } });
    let flow = |bench: &mut Bench, held: u64| {
        bench.seq += 1;
        let item = Item {
            key: KEY,
            epoch: 1,
            spent: Permits::ZERO,
            have: if held == 0 { Permits::ZERO } else { Permits(10) },
            want: Permits(5_000),
            waiting: Permits::ZERO,
            reserve: false,
            reserved: Permits(held),
        };
        let batch = Batch { node: NodeId(1), incarnation: Incarnation(1), seq: bench.seq, items: vec![item] };
        match bench.apply(1, Command::Batches(vec![batch])).as_slice() {
            [Verdict::Shared { flow, .. }] => flow.0,
            other => panic!("{other:?}"),
        }
    };
    let all = flow(&mut bench, 0);
    assert_eq!(all, 1_000_000, "thousandths: one node wants all there is");
    rated(&mut bench, 1, &[(Some(7), 3_000)], &[]);
    assert_eq!(flow(&mut bench, all), 3_000_000);
    rated(&mut bench, 2, &[(Some(7), 200)], &[]);
    assert_eq!(flow(&mut bench, 3_000_000), 200_000);
    bench.order(3, &[], &[], &[]);
    assert_eq!(flow(&mut bench, 200_000), 1_000_000);
}

#[test]
fn a_reset_lets_a_window_begin_anew_and_charges_what_nodes_hold() {
    let mut bench = Bench::window(10);
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (10, 10));
    let one = Reset { id: 1, limit: KEY.limit, subject: Some(KEY.subject) };
    bench.order(1, &[], &[], &[one]);
    assert_eq!((bench.item(3, KEY, 4, 0, 1), bench.take_all(OTHER)), (4, 0));
    let all = Reset { id: 2, limit: KEY.limit, subject: None };
    bench.order(2, &[], &[], &[one, all]);
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (6, 10), "a node holds four");
    bench.order(3, &[], &[], &[one, all]);
    assert_eq!((bench.take_all(KEY), bench.take_all(OTHER)), (0, 0), "a reset happens once");
}

#[test]
fn orders_survive_a_snapshot_and_a_ledger_without_any_is_written_as_before() {
    let config = bincode::config::standard();
    let write = |ledger: &Ledger| {
        #[cfg(feature = "mutants")]
        let ledger = &ledger.maimed();
        bincode::serde::encode_to_vec(ledger, config).expect("plain data")
    };
    let mut bench = Bench::window(10);
    bench.take_all(KEY);
    let before = write(&bench.ledger).len();
    bench.order(1, &[(None, 12)], &[(1, 5)], &[]);
    let bytes = write(&bench.ledger);
    assert!(before < bytes.len());
    let (read, used): (Ledger, _) = bincode::serde::decode_from_slice(&bytes, config).expect("as written");
    assert_eq!((&read, used), (&bench.ledger, bytes.len()));
    bench.ledger = read;
    assert_eq!(bench.take_all(KEY), 7);
    rated(&mut bench, 2, &[(Some(7), 4)], &[(Some(7), 9)]);
    let bytes = write(&bench.ledger);
    let (read, used): (Ledger, _) = bincode::serde::decode_from_slice(&bytes, config).expect("as written");
    assert_eq!((&read, used), (&bench.ledger, bytes.len()));
    // A tick tells the clocks apart, no orders: rates that are gone are not written.
    bench.order(3, &[], &[], &[]);
    assert!(write(&bench.ledger).len() < bytes.len());
}
