//! The cell under every interleaving of its threads.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p tidegate-quota --profile sim --test loom`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_quota::cell::{Take, Ticket};
use tidegate_quota::holding::{News, Surroundings};
use tidegate_quota::protocol::{Answer, Item, Key, Nature, Verdict};
use tidegate_quota::{Cell, Holding};

const KEY: Key = Key { limit: LimitId(1), subject: Subject(1) };
const LONG: Nanos = Nanos::from_secs(3_600);

/// A node's half of a lease: the cell everybody takes from, the holding that one thread reports and refills with.
struct Lease {
    cell: Arc<Cell>,
    holding: Holding,
    seq: u64,
}

impl Lease {
    fn of(permits: u64, ttl: Nanos) -> Self {
        let mut lease = Self { cell: Arc::new(Cell::default()), holding: Holding::new(KEY, 1), seq: 0 };
        lease.report(Nanos::ZERO, 0);
        lease.answer(permits, ttl, Nanos::ZERO);
        lease
    }

    /// Of places, which are in use until they are put back.
    fn places(permits: u64, ttl: Nanos) -> Self {
        let holding = Holding::of(KEY, 1, Nature::InUse);
        let mut lease = Self { cell: Arc::new(Cell::default()), holding, seq: 0 };
        lease.report(Nanos::ZERO, 0);
        lease.answer(permits, ttl, Nanos::ZERO);
        lease
    }

    /// One for which so much is asked that a report keeps all of it.
    fn in_demand(permits: u64) -> Self {
        let mut lease = Self::of(permits, LONG);
        let told = lease.report(Nanos(1), 1_000);
        assert_eq!(told.have, Permits::ZERO, "handed back: demand was not known yet");
        lease.answer(permits, LONG, Nanos(1));
        lease
    }

    fn report(&mut self, now: Nanos, missed: u64) -> Item {
        self.seq += 1;
        let around = Surroundings {
            now,
            window: Nanos::SECOND,
            max: Permits(100),
            missed: Permits(missed),
            waiting: Permits::ZERO,
            queued: Permits::ZERO,
            recalled: false,
            reserve: false,
            leaving: false,
        };
        self.holding.report(&self.cell, self.seq, around)
    }

    fn answer(&mut self, granted: u64, ttl: Nanos, now: Nanos) {
        let verdict = Verdict::Lease {
            granted: Permits(granted),
            free: Permits::ZERO,
            ttl,
            retry: Nanos::ZERO,
            reserve: Permits::ZERO,
        };
        let answer = Answer { key: KEY, epoch: 1, verdict };
        let news = self.holding.answer(&self.cell, self.seq, &answer, Nanos::SECOND, now, || 2);
        assert!(matches!(news, News::Lease { .. }));
    }
}

/// Every interleaving with up to three preemptions.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// What a thread got: a ticket, or how much it burnt.
#[derive(Default)]
struct Got {
    ticket: Option<Ticket>,
    burnt: u64,
}

fn take(cell: &Cell, now: impl FnOnce() -> Nanos) -> Got {
    match cell.take(Permits(1), now) {
        Take::Taken(ticket) => Got { ticket: Some(ticket), burnt: 0 },
        Take::Burnt(_) => Got { ticket: None, burnt: 1 },
        Take::Short => Got::default(),
    }
}

fn used(got: &[Got]) -> u64 {
    got.iter().map(|got| got.burnt + u64::from(got.ticket.is_some())).sum()
}

#[test]
fn every_permit_is_taken_burnt_or_left() {
    explore(|| {
        let mut lease = Lease::in_demand(2);
        let takers = [(); 2].map(|()| {
            let cell = Arc::clone(&lease.cell);
            thread::spawn(move || take(&cell, || Nanos(2)))
        });
        let first = lease.report(Nanos(2), 1_000);
        lease.answer(1, LONG, Nanos(2));
        let got = takers.map(|taker| taker.join().expect("no panic"));
        let last = lease.report(Nanos(3), 1_000);
        assert_eq!((first.spent.0 + first.have.0, last.spent.0 + last.have.0), (2, 3));
        assert_eq!(last.spent.0, used(&got));
    });
}

#[test]
fn what_is_handed_back_was_taken_by_nobody() {
    explore(|| {
        let mut lease = Lease::of(2, LONG);
        let takers = [(); 2].map(|()| {
            let cell = Arc::clone(&lease.cell);
            thread::spawn(move || take(&cell, || Nanos(1)))
        });
        let first = lease.report(Nanos(1), 0); // No demand: hands back what is left.
        let handed_back = 2 - first.spent.0 - first.have.0;
        lease.answer(1, LONG, Nanos(1));
        let got = takers.map(|taker| taker.join().expect("no panic"));
        let last = lease.report(Nanos(2), 0);
        assert_eq!(last.spent.0, used(&got));
        assert!(last.spent.0 + last.have.0 + handed_back <= 3);
    });
}

#[test]
fn a_permit_that_is_put_back_is_neither_lost_nor_doubled() {
    explore(|| {
        let mut lease = Lease::in_demand(1);
        let cell = Arc::clone(&lease.cell);
        let refunder = thread::spawn(move || {
            let got = take(&cell, || Nanos(2));
            match got.ticket {
                Some(ticket) if cell.put_back(ticket) => Got::default(),
                _ => got,
            }
        });
        let cell = Arc::clone(&lease.cell);
        let taker = thread::spawn(move || take(&cell, || Nanos(2)));
        let told = lease.report(Nanos(2), 1_000);
        let got = [refunder, taker].map(|thread| thread.join().expect("no panic"));
        let last = lease.report(Nanos(3), 1_000);
        assert_eq!((last.spent.0, last.spent.0 + last.have.0), (used(&got), 1));
        assert!(told.spent <= last.spent, "what was reported spent stays spent");
    });
}

#[test]
fn what_a_report_tells_of_was_stamped_before_it() {
    explore(|| {
        let mut lease = Lease::of(2, LONG);
        let clock = Arc::new(AtomicU64::new(1));
        let takers = [(); 2].map(|()| {
            let (cell, clock) = (Arc::clone(&lease.cell), Arc::clone(&clock));
            thread::spawn(move || take(&cell, || Nanos(clock.fetch_add(1, Ordering::SeqCst))))
        });
        let told = lease.report(Nanos(1), 0);
        let cut = clock.fetch_add(1, Ordering::SeqCst);
        let got = takers.map(|taker| taker.join().expect("no panic"));
        let later = got.iter().filter(|got| got.ticket.is_some_and(|ticket| ticket.at.0 > cut)).count() as u64;
        assert!(told.spent.0 + later <= used(&got), "{told:?} tells of a permit stamped after it");
    });
}

#[test]
fn a_lapsed_permit_does_not_live_on_in_a_renewed_lease() {
    explore(|| {
        let mut lease = Lease::of(1, Nanos(12)); // Expires at 10 on the holder's clock.
        lease.report(Nanos(5), 0);
        let clock = Arc::new(AtomicU64::new(9));
        let takers = [(); 2].map(|()| {
            let (cell, clock) = (Arc::clone(&lease.cell), Arc::clone(&clock));
            thread::spawn(move || take(&cell, || Nanos(clock.load(Ordering::SeqCst))))
        });
        clock.store(11, Ordering::SeqCst);
        lease.answer(1, LONG, Nanos(11));
        let got = takers.map(|taker| taker.join().expect("no panic"));
        let late = got.iter().filter(|got| got.ticket.is_some_and(|ticket| ticket.at.0 >= 10)).count();
        assert!(late <= 1, "the old lease's permit was admitted after its end");
        let last = lease.report(Nanos(12), 0);
        assert_eq!(last.spent.0, used(&got));
    });
}

/// Takes a place and gives it up again; `inside` counts who has one.
fn use_place(cell: &Cell, inside: &AtomicU64, most: u64, now: Nanos) {
    let Some(grab) = cell.grab(Permits(1)) else { return };
    match cell.stamp(grab, now) {
        Take::Taken(ticket) => {
            let before = inside.fetch_add(1, Ordering::SeqCst);
            assert!(before < most, "{} calls in {most} places", before + 1);
            inside.fetch_sub(1, Ordering::SeqCst);
            cell.put_back(ticket);
        }
        _ => _ = cell.ungrab(grab),
    }
}

#[test]
fn a_place_is_held_by_one_call_and_handed_back_by_none_that_uses_it() {
    explore(|| {
        let mut lease = Lease::places(1, LONG);
        let inside = Arc::new(AtomicU64::new(0));
        let callers = [(); 2].map(|()| {
            let (cell, inside) = (Arc::clone(&lease.cell), Arc::clone(&inside));
            thread::spawn(move || use_place(&cell, &inside, 1, Nanos(1)))
        });
        // Nobody wants places here: what is idle is handed back, and another node has it from then on.
        let told = lease.report(Nanos(1), 0);
        if told.have == Permits::ZERO {
            let before = inside.fetch_add(1, Ordering::SeqCst);
            assert_eq!(before, 0, "handed back while it is in use");
            inside.fetch_sub(1, Ordering::SeqCst);
        }
        callers.into_iter().for_each(|caller| caller.join().expect("no panic"));
        let last = lease.report(Nanos(2), 1);
        assert_eq!((last.spent, last.have, lease.cell.left()), (Permits::ZERO, told.have, told.have));
    });
}

#[test]
fn places_of_a_lease_that_began_anew_do_not_come_back() {
    explore(|| {
        let mut lease = Lease::places(1, LONG);
        let Take::Taken(ticket) = lease.cell.take(Permits(1), || Nanos(1)) else { panic!("one is there") };
        let cell = Arc::clone(&lease.cell);
        let ender = thread::spawn(move || cell.put_back(ticket));
        lease.report(Nanos(2), 0);
        let answer = Answer { key: KEY, epoch: 1, verdict: Verdict::Reset };
        lease.holding.answer(&lease.cell, lease.seq, &answer, Nanos::SECOND, Nanos(2), || 2);
        ender.join().expect("no panic");
        assert_eq!(lease.cell.left(), Permits::ZERO, "the ledger charges nothing for it");
        assert!(lease.holding.is_settled(&lease.cell));
    });
}

#[test]
fn what_is_owed_is_paid_once_beside_those_who_take() {
    explore(|| {
        let mut lease = Lease::in_demand(3);
        let reservation = lease.holding.reserve(&lease.cell, Permits(1), || Nanos(2)).expect("three are there");
        let cell = Arc::clone(&lease.cell);
        let taker = thread::spawn(move || take(&cell, || Nanos(2)));
        let settled = lease.holding.settle(&lease.cell, reservation, Permits(3), || Nanos(2));
        let got = [taker.join().expect("no panic")];
        let last = lease.report(Nanos(3), 1_000);
        assert_eq!(last.spent.0 + last.have.0, 3);
        assert_eq!(last.spent.0, used(&got) + 3 - settled.owed.0);
        assert_eq!(lease.holding.debt(), settled.owed);
    });
}
