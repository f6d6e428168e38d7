//! A holding and its ledger, word by word: what lapses, what is forgotten, what begins anew.

use tidegate_model::{Incarnation, LimitId, Nanos, NodeId, Permits, Revision, Subject};
use tidegate_quota::cell::Take;
use tidegate_quota::holding::{News, Surroundings};
use tidegate_quota::protocol::{
    Answer, Batch, Command, Entry, Item, Key, LEASE_TTL, Policy, Verdict, holder_time, next_batch,
};
use tidegate_quota::{Cell, Holding, Ledger};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(7) };
const W: Nanos = Nanos::from_secs(1);
const MAX: Permits = Permits(100);

/// One node with one key. `now` is its clock; the ledger's is told apart, by each entry.
struct Node {
    cell: Cell,
    holding: Holding,
    seq: u64,
    now: Nanos,
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    let policies = vec![Policy::sliding(KEY.limit, MAX, W, LEASE_TTL)];
    ledger.apply(&Entry { dt: Nanos::ZERO, command: Command::SetPolicies { revision: Revision(1), policies } });
    ledger
}

/// Time passes for the ledger alone.
fn pass(ledger: &mut Ledger, time: Nanos) {
    ledger.apply(&Entry { dt: time, command: Command::Tick });
}

fn decide(ledger: &mut Ledger, seq: u64, item: Item) -> Answer {
    let batch = Batch { node: NodeId(1), incarnation: Incarnation(9), seq, items: vec![item] };
    let entry = Entry { dt: Nanos::ZERO, command: Command::Batches(vec![batch]) };
    ledger.apply(&entry).replies[0].items[0]
}

impl Node {
    fn new() -> Self {
        Self { cell: Cell::default(), holding: Holding::new(KEY, 1), seq: 0, now: Nanos::from_secs(1) }
    }

    fn report(&mut self, waiting: u64) -> Item {
        self.seq += 1;
        let waiting = Permits(waiting);
        let around = Surroundings {
            now: self.now,
            window: W,
            max: MAX,
            missed: waiting, // So that what comes is held on to.
            waiting,
            queued: waiting,
            recalled: false,
            reserve: false,
            leaving: false,
        };
        self.holding.report(&self.cell, self.seq, around)
    }

    fn hear(&mut self, answer: &Answer) -> News {
        self.holding.answer(&self.cell, self.seq, answer, W, self.now, || 2)
    }

    /// Asks for `cost` and is granted exactly that.
    fn holds(&mut self, ledger: &mut Ledger, cost: u64) {
        let item = Item { want: Permits(cost), ..self.report(cost) };
        let answer = decide(ledger, self.seq, item);
        assert!(matches!(self.hear(&answer), News::Lease { .. }));
        assert_eq!(self.cell.left(), Permits(cost));
    }

    fn takes(&self, cost: u64) -> bool {
        matches!(self.cell.take(Permits(cost), || self.now), Take::Taken(_))
    }
}

#[test]
fn what_lapsed_while_the_node_asked_is_not_revived_by_the_answer() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    node.now = Nanos(node.cell.expiry().0 - 1);
    let item = node.report(0);
    assert_eq!(item.have, Permits(10), "asked a moment before the lease's end");
    let answer = decide(&mut ledger, node.seq, item);
    node.now = Nanos(node.cell.expiry().0 + 1);
    node.hear(&answer);
    assert!(node.cell.expiry() > node.now, "the lease itself goes on");
    assert_eq!(node.cell.left(), Permits::ZERO, "but nothing of what had lapsed");
    assert!(!node.takes(1));
    let item = node.report(0);
    assert_eq!((item.spent, item.have), (Permits::ZERO, Permits::ZERO), "it is handed back, and not called spent");
    decide(&mut ledger, node.seq, item);
    assert_eq!(ledger.charged(KEY), Permits::ZERO);
}

#[test]
fn a_report_never_claims_what_has_lapsed() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    assert!(node.takes(3));
    node.now = node.cell.expiry();
    let item = Item { want: Permits::ZERO, ..node.report(0) };
    assert_eq!((item.spent, item.have), (Permits(3), Permits::ZERO));
    // The ledger, whose lease lasts longer, has the seven back at once instead of renewing them.
    assert!(matches!(decide(&mut ledger, node.seq, item).verdict, Verdict::Lease { .. }));
    assert_eq!(ledger.charged(KEY), Permits(3));
}

#[test]
fn a_lease_that_is_ended_is_handed_back_and_no_answer_on_its_way_prolongs_it() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    assert!(node.takes(3));
    let item = node.report(0);
    let answer = decide(&mut ledger, node.seq, item);
    node.holding.end_lease(&node.cell);
    assert_eq!(node.hear(&answer), News::Stale);
    assert!(!node.takes(1), "taken and burnt");
    let item = Item { want: Permits::ZERO, ..node.report(0) };
    assert_eq!((item.spent, item.have), (Permits(4), Permits::ZERO));
    decide(&mut ledger, node.seq, item);
    assert_eq!(ledger.charged(KEY), Permits(4));
    node.holds(&mut ledger, 5);
    assert!(node.takes(5), "and the next lease is one");
}

#[test]
fn a_lease_ends_for_its_holder_before_the_ledger_forgets_it() {
    // Why the two guards above are second lines: whatever a holder still counts on, the ledger still charges.
    const { assert!(holder_time_of(LEASE_TTL) < LEASE_TTL.0) }
    let (mut ledger, mut node) = (ledger(), Node::new());
    let asked_at = node.now;
    node.holds(&mut ledger, 10);
    assert_eq!(node.cell.expiry(), Nanos(asked_at.0 + holder_time(LEASE_TTL).0));
    pass(&mut ledger, LEASE_TTL.saturating_add(W).saturating_sub(Nanos(1)));
    assert_eq!(ledger.charged(KEY), Permits(10), "to the last moment of D + W");
}

/// [`holder_time`] with a clock 8 % slow, in true time.
const fn holder_time_of(ttl: Nanos) -> u64 {
    ttl.0 / 12 * 10 / 92 * 100
}

#[test]
fn a_reset_begins_a_new_epoch_so_that_what_was_taken_since_the_report_stays_charged() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    let item = node.report(0);
    assert!(node.takes(4), "after the cut: no report tells of these before the reset");
    // Whatever makes the ledger say so: here, a claim of more than it charges.
    let answer = decide(&mut ledger, node.seq, Item { have: Permits(11), ..item });
    assert_eq!(answer.verdict, Verdict::Reset);
    assert_eq!(node.hear(&answer), News::Reset);
    assert_eq!(node.cell.left(), Permits::ZERO);

    let item = node.report(0);
    assert_eq!((item.spent, item.have), (Permits::ZERO, Permits::ZERO));
    let answer = decide(&mut ledger, node.seq, item);
    assert!(matches!(answer.verdict, Verdict::Lease { .. }));
    assert_eq!(ledger.charged(KEY), Permits(10), "the four are among them: they were admitted in this window");
}

#[test]
fn a_report_of_a_lease_the_ledger_does_not_know_charges_nothing() {
    let mut ledger = ledger();
    let (mut other, mut node) = (Node::new(), Node::new());
    // It holds its permits from a ledger long gone; this one never heard of them, or forgot them D + W ago.
    node.holds(&mut self::ledger(), 100);
    assert!(node.takes(60));
    let item = node.report(0);
    let answer = decide(&mut ledger, node.seq, item);
    assert_eq!(answer.verdict, Verdict::Reset);
    assert_eq!(ledger.charged(KEY), Permits::ZERO, "its permits are out of every window: nobody else pays for them");
    other.holding = Holding::new(KEY, 5);
    other.seq = 7;
    other.holds(&mut ledger, 100);
}

#[test]
fn what_is_far_more_than_demand_is_handed_back() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 80);
    assert!(node.takes(1));
    let mut have = Permits(80);
    for _ in 0..50 {
        node.now = node.now.saturating_add(Nanos::from_millis(20));
        let item = Item { want: Permits::ZERO, ..node.report(0) };
        have = item.have;
        let answer = decide(&mut ledger, node.seq, item);
        node.hear(&answer);
    }
    assert!(have <= Permits(8), "one call in a second keeps {have} of 80");
}

#[test]
fn it_is_not_forgotten_before_the_ledger_has_acknowledged_that_it_holds_nothing() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    assert!(node.takes(10));
    let lost = node.report(0);
    node.holding.failed(node.seq);
    assert_eq!((lost.have, node.cell.left()), (Permits::ZERO, Permits::ZERO));
    assert!(!node.holding.is_settled(&node.cell), "what was spent is nowhere else");
    let item = Item { want: Permits::ZERO, ..node.report(0) };
    let answer = decide(&mut ledger, node.seq, item);
    node.hear(&answer);
    assert!(node.holding.is_settled(&node.cell));
    assert_eq!(ledger.charged(KEY), Permits(10));
}

#[test]
fn a_lease_lasts_from_when_its_report_was_cut_however_late_the_answer_comes() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    let item = Item { want: Permits(10), ..node.report(10) };
    let (asked_at, answer) = (node.now, decide(&mut ledger, node.seq, item));
    node.now = node.now.saturating_add(Nanos::from_secs(3)); // The ledger's D is running since.
    node.hear(&answer);
    assert_eq!(node.cell.expiry(), asked_at.saturating_add(holder_time(LEASE_TTL)));
    assert!(node.takes(10), "a little of it is left");
}

#[test]
fn a_reservation_of_an_epoch_that_is_over_brings_nothing_back() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    let now = node.now;
    let reservation = node.holding.reserve(&node.cell, Permits(6), || now).expect("ten are there");
    let item = node.report(0);
    let reset = Answer { key: KEY, epoch: item.epoch, verdict: Verdict::Reset };
    assert_eq!(node.hear(&reset), News::Reset);
    let settled = node.holding.settle(&node.cell, reservation, Permits::ZERO, || now);
    assert_eq!(
        (settled.refunded, node.cell.left()),
        (Permits::ZERO, Permits::ZERO),
        "it is charged where it was granted"
    );
}

#[test]
fn what_is_reserved_stays_outstanding_until_it_is_settled_and_what_is_owed_is_paid_first() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    node.holds(&mut ledger, 10);
    let now = node.now;
    let reservation = node.holding.reserve(&node.cell, Permits(6), || now).expect("ten are there");
    let item = node.report(0);
    assert_eq!((item.spent, item.have.0 >= 6), (Permits::ZERO, true), "{item:?}");
    let answer = decide(&mut ledger, node.seq, Item { want: Permits::ZERO, ..item });
    node.hear(&answer);
    let (left, used) = (node.cell.left(), Permits(6 + node.cell.left().0 + 5));
    let settled = node.holding.settle(&node.cell, reservation, used, || now);
    assert_eq!((settled.owed, node.cell.left()), (Permits(5), Permits::ZERO), "{left} were there beside the six");
    let item = Item { want: Permits(8), waiting: Permits(8), ..node.report(8) };
    let answer = decide(&mut ledger, node.seq, item);
    node.hear(&answer);
    assert_eq!((node.cell.left(), node.holding.debt()), (Permits(3), Permits::ZERO));
}

#[test]
fn an_answer_that_comes_twice_is_used_once() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    let item = Item { want: Permits(10), ..node.report(10) };
    let answer = decide(&mut ledger, node.seq, item);
    assert!(matches!(node.hear(&answer), News::Lease { granted: Permits(10), .. }));
    assert_eq!(node.hear(&answer), News::Stale, "the network told it twice");
    assert_eq!((node.cell.left(), ledger.charged(KEY)), (Permits(10), Permits(10)));
}

#[test]
fn the_late_answer_to_a_batch_that_was_given_up_prolongs_nothing() {
    let (mut ledger, mut node) = (ledger(), Node::new());
    let first = node.now;
    node.seq = next_batch(node.seq, false) - 1;
    let item = Item { want: Permits(10), ..node.report(10) };
    let (seq, late) = (node.seq, decide(&mut ledger, node.seq, item));
    node.now = node.now.saturating_add(Nanos::from_secs(1));
    node.holding.failed(seq);
    node.seq = next_batch(node.seq, true) - 1;
    let item = node.report(10);
    let news = node.holding.answer(&node.cell, seq, &late, W, node.now, || 2);
    assert!(node.cell.expiry() <= first.saturating_add(holder_time(LEASE_TTL)), "D of the ledger runs since {first:?}");
    assert_eq!(news, News::Stale);
    let answer = decide(&mut ledger, node.seq, Item { want: Permits(10), ..item });
    node.hear(&answer);
    assert_eq!((node.cell.left(), ledger.charged(KEY)), (Permits(10), Permits(10)), "the first grant is handed back");
}
