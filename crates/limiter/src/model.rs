//! The bell, the slots and the table under every interleaving of their threads, up to a bound of preemptions: the code that
//! is shipped, with the model checker's atomics and locks (`sync.rs`) and a table of a few slots.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test -p tidegate-limiter --lib`
//!
//! Not in the model: `Notify` (tokio's own), the one-time making of chunks, and more threads than three.

use loom::sync::Arc;
use loom::thread;
use tidegate_model::{LimitId, Nanos, Permits, Subject};
use tidegate_quota::cell::{Grab, Take, Ticket};
use tidegate_quota::protocol::Key;

use crate::bell::Bell;
use crate::fixtures::{find, grant};
use crate::slot::{Found, Slot};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::table::Table;

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(model);
}

const fn key(subject: u128) -> Key {
    Key { limit: LimitId(1), subject: Subject(subject) }
}

/// With its group of marks made: the model checker does not see what `OnceLock` orders.
fn bell() -> Arc<Bell> {
    let bell = Bell::new(2);
    bell.ring(0);
    assert_eq!(bell.take_presses(), [0]);
    bell.list_again(&Slot::vacant(), 0);
    assert_eq!(bell.take_news(), [0]);
    Arc::new(bell)
}

/// As `admit` takes: the slot's own permit, or `Err` with what was another key's.
fn take(found: &Found<'_>) -> Result<Option<Ticket>, Option<Grab>> {
    let grab = found.slot.cell.grab(Permits(1));
    if !found.is_still() {
        return Err(grab);
    }
    Ok(grab.and_then(|grab| stamp(found, grab)))
}

fn stamp(found: &Found<'_>, grab: Grab) -> Option<Ticket> {
    match found.slot.cell.stamp(grab, Nanos(10)) {
        Take::Taken(ticket) => Some(ticket),
        Take::Burnt(_) | Take::Short => None,
    }
}

#[test]
fn every_change_is_seen_by_the_tick_that_takes_its_mark_or_by_a_later_one() {
    explore(|| {
        let (table, bell) = (Arc::new(Table::new(2)), bell());
        let number = find(&table, 1).number;
        let news = Arc::new(AtomicU64::new(0));
        let callers = [(); 2].map(|()| {
            let (table, bell, news) = (Arc::clone(&table), Arc::clone(&bell), Arc::clone(&news));
            thread::spawn(move || {
                news.fetch_add(1, Ordering::Relaxed);
                bell.list(find(&table, 1).slot, number);
            })
        });
        let slot = table.handle(number).expect("it is there");
        let mut seen = 0;
        let mut look = || {
            let marked = bell.take_news();
            assert!(marked.iter().all(|marked| *marked == number) && marked.len() <= 1);
            if !marked.is_empty() {
                slot.unlist();
                fence(Ordering::SeqCst);
                seen = news.load(Ordering::Relaxed);
            }
        };
        look();
        for caller in callers {
            caller.join().expect("no panic");
        }
        look();
        assert_eq!(seen, 2, "a change was never looked at");
        // And it can be marked again: its flag is down.
        bell.list(&slot, number);
        assert_eq!(bell.take_news(), [number]);
    });
}

#[test]
fn a_mark_that_the_tick_puts_back_is_not_lost() {
    explore(|| {
        let (table, bell) = (Arc::new(Table::new(2)), bell());
        let number = find(&table, 1).number;
        let caller = {
            let (table, bell) = (Arc::clone(&table), Arc::clone(&bell));
            thread::spawn(move || {
                bell.list(find(&table, 1).slot, number);
                bell.ring(number);
            })
        };
        let slot = table.handle(number).expect("it is there");
        let mut pressed = false;
        // Its question is open: as `Tick::look` does.
        for number in bell.take_presses() {
            slot.unlist();
            fence(Ordering::SeqCst);
            bell.press_again(number);
            pressed = true;
        }
        for number in bell.take_news() {
            slot.unlist();
            fence(Ordering::SeqCst);
            bell.list_again(&slot, number);
        }
        caller.join().expect("no panic");
        assert_eq!((bell.take_news(), bell.take_presses()), (vec![number], vec![number]), "pressed before: {pressed}");
    });
}

#[test]
fn a_pinned_slot_stays_its_keys_and_one_that_was_forgotten_cannot_be_pinned() {
    explore(|| {
        let table = Arc::new(Table::new(2));
        let number = find(&table, 1).number;
        let waiter = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let Some(pinned) = find(&table, 1).pin() else { return };
                pinned.slot.queue(Permits(1));
                assert_eq!(pinned.slot.key(), key(1));
                pinned.slot.unqueue(Permits(1));
            })
        };
        let slot = table.handle(number).expect("it is there");
        if table.forget(&slot) {
            // The next key moves in at once.
            find(&table, 2);
        }
        waiter.join().expect("no panic");
    });
}

#[test]
fn nobody_keeps_a_permit_of_the_key_that_came_after_his() {
    explore(|| {
        let table = Arc::new(Table::new(2));
        let number = find(&table, 1).number;
        let late = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let found = find(&table, 1);
                match take(&found) {
                    Ok(ticket) => assert!(ticket.is_none(), "its key was never granted anything"),
                    // As `undo` gives back. What was taken with the former lease's expiry is burnt.
                    Err(Some(grab)) => match stamp(&found, grab) {
                        Some(ticket) => assert!(found.slot.cell.put_back(ticket), "no report was cut since"),
                        None => return true,
                    },
                    Err(None) => {}
                }
                false
            })
        };
        let slot = table.handle(number).expect("it is there");
        assert!(table.forget(&slot));
        let next = find(&table, 2);
        grant(next.slot, 1, 1);
        let burnt = late.join().expect("no panic");
        let two = find(&table, 2);
        assert_eq!(take(&two).is_ok_and(|ticket| ticket.is_some()), !burnt, "the next key's permit is there, or burnt");
    });
}

#[test]
fn a_permit_that_outlives_its_key_adds_nothing_to_the_next_one() {
    explore(|| {
        let table = Arc::new(Table::new(2));
        let first = find(&table, 1);
        let number = first.number;
        grant(first.slot, 1, 1);
        let ticket = take(&first).expect("its own").expect("one was granted");
        let holder = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                let slot = table.handle(number).expect("it is there");
                slot.cell.put_back(ticket)
            })
        };
        grant(first.slot, 0, 2);
        let slot = table.handle(number).expect("it is there");
        let forgotten = table.forget(&slot);
        if forgotten {
            grant(find(&table, 2).slot, 1, 3);
        }
        let given_back = holder.join().expect("no panic");
        // Given back before the report, it was handed back by it or kept; after it, it is burnt.
        assert!(slot.cell.left() <= Permits(1) && !(forgotten && slot.cell.left() == Permits::ZERO));
        assert!(forgotten || given_back, "only a permit that came back keeps the key");
    });
}

#[test]
fn a_key_has_one_slot_while_entries_move_and_the_index_grows() {
    explore(|| {
        let table = Arc::new(Table::new(6));
        let number = find(&table, 1).number;
        let gone = find(&table, 2).number;
        let reader = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                assert_eq!(find(&table, 1).number, number);
                find(&table, 3).number
            })
        };
        assert!(table.forget(&table.handle(gone).expect("it is there")));
        let three = find(&table, 3).number;
        find(&table, 4);
        assert_eq!(reader.join().expect("no panic"), three);
        assert_eq!((table.len(), table.all().len()), (3, 3));
    });
}
