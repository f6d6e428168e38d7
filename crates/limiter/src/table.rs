//! The keys of this node. Bounded: at the bound a new subject waits until another one's key has left (`tick/room.rs`). A key
//! that holds or owes anything is never forgotten, and no two subjects ever share one.
//!
//! ```text
//!   hash ──▶ index: one line of entries ──▶ slot: one line          a warm decision reads no more, and locks nothing but a
//!                                                                   key's last permits (`admit/taking.rs`)
//! ```
//! Slots lie in chunks that are made when needed and stay; a key that is forgotten leaves its slot to the next one.

use std::sync::{Arc, OnceLock, PoisonError};

use tidegate_model::Subject;
use tidegate_policy::Limit;
use tidegate_quota::guard;
use tidegate_quota::protocol::Key;

use crate::index::Index;
use crate::slot::{Found, Handle, Slot, Who};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};

/// So many slots at most, a 32nd of them otherwise, are made free before somebody waits for one.
const MOST_SPARE: usize = 1024;
/// Slots made at once.
const CHUNK: usize = if cfg!(loom) { 2 } else { 1024 };

#[derive(Debug)]
pub(crate) struct Table {
    index: Index,
    chunks: Box<[OnceLock<Arc<[Slot]>>]>,
    most: usize,
    len: AtomicUsize,
    next_epoch: AtomicU64,
    /// Do leases of budgets wait for a journal?
    journals: bool,
    /// The lock of whoever adds or forgets a key.
    rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
struct Rooms {
    vacated: Vec<u32>,
    /// Numbers from here on were never used.
    fresh: u32,
}

impl Table {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            index: Index::default(),
            chunks: (0..most.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            most,
            len: AtomicUsize::new(0),
            next_epoch: AtomicU64::new(1),
            journals: false,
            rooms: Mutex::default(),
        }
    }

    pub(crate) fn with_journal(self, journals: bool) -> Self {
        Self { journals, ..self }
    }

    /// Slots there can ever be: their numbers are below this.
    pub(crate) fn room(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Epochs grow over all keys: one that is forgotten and comes back never meets its old records.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.next_epoch.fetch_add(u64::from(guard!("recreated-key-has-a-new-epoch")), Ordering::Relaxed)
    }

    /// The slot of a key, made if there is room. `made` is told of a new one: were the tick not to look at it, it would
    /// never be forgotten. `None`: the table is full.
    #[inline]
    pub(crate) fn find<'t>(
        &'t self,
        limit: &Limit,
        subject: Subject,
        made: impl FnOnce(Found<'t>),
    ) -> Option<Found<'t>> {
        let key = Key { limit: limit.id, subject };
        self.look(key).or_else(|| self.make(key, limit, made))
    }

    /// The slot of a key, if there is one; it may be missed while entries move.
    #[inline]
    pub(crate) fn peek(&self, key: Key) -> Option<Found<'_>> {
        self.look(key)
    }

    /// Is the next key one too many?
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// Are there fewer free slots than are kept ahead?
    pub(crate) fn is_nearly_full(&self) -> bool {
        self.lacks(0) > 0
    }

    /// How many slots must come free for so many who wait, and to have some ahead.
    pub(crate) fn lacks(&self, waiting: usize) -> usize {
        let spare = (self.most / 32).min(MOST_SPARE);
        (self.len() + waiting + spare).saturating_sub(self.most)
    }

    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Reads what look-ups of these keys are going to read. None of the reads depends on another's outcome, so the
    /// processor waits for all of them at once.
    #[inline]
    pub(crate) fn touch(&self, keys: impl Iterator<Item = Key> + Clone) {
        let lines = keys.clone().fold(0, |lines, key| lines ^ self.index.guess(Who::of(key).hash()));
        let slots = keys.map(|key| self.slot(self.index.guess(Who::of(key).hash())).map_or(0, Slot::touch));
        std::hint::black_box((lines, slots.fold(0, |lines, life| lines ^ life)));
    }

    #[inline]
    fn look(&self, key: Key) -> Option<Found<'_>> {
        let who = Who::of(key);
        self.index.find(who.hash(), |number| Found::of(self.slot(number)?, number, who))
    }

    #[cold]
    fn make<'t>(&'t self, key: Key, limit: &Limit, made: impl FnOnce(Found<'t>)) -> Option<Found<'t>> {
        let mut rooms = self.rooms();
        if let Some(found) = self.look(key) {
            return Some(found); // Somebody else has made it, or its entry moved while we looked.
        }
        let has_room = !self.is_full() || !guard!("bound-of-keys-holds");
        if !has_room && !guard!("one-key-for-a-subject") {
            let shared = Key { subject: Subject(key.subject.0 % 4), ..key };
            return self.look(shared).or_else(|| self.settle(&mut rooms, shared, limit).inspect(|found| made(*found)));
        }
        has_room.then(|| self.settle(&mut rooms, key, limit).inspect(|found| made(*found)))?
    }

    fn settle(&self, rooms: &mut Rooms, key: Key, limit: &Limit) -> Option<Found<'_>> {
        let number = rooms.vacated.last().copied().unwrap_or(rooms.fresh);
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        let slot = &chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::vacant()).collect())[number as usize % CHUNK];
        if !self.index.insert(Who::of(key).hash(), number, self.len()) {
            return None;
        }
        if rooms.vacated.pop().is_none() {
            rooms.fresh += 1;
        }
        slot.begin(key, self.next_epoch(), limit, self.journals);
        self.len.fetch_add(1, Ordering::Relaxed);
        Found::of(slot, number, Who::of(key))
    }

    pub(crate) fn get(&self, key: Key) -> Option<Handle> {
        let found = self.look(key).or_else(|| {
            let _alone = self.rooms();
            self.look(key)
        });
        self.handle(found?.number)
    }

    /// Of the slot with this number, whoever lives there.
    pub(crate) fn handle(&self, number: u32) -> Option<Handle> {
        let chunk = self.chunks.get(number as usize / CHUNK)?.get()?;
        Some(Handle { chunk: Arc::clone(chunk), at: number as usize % CHUNK, number })
    }

    /// Slots that were ever a key's: their numbers are below this.
    pub(crate) fn used(&self) -> u32 {
        self.rooms().fresh
    }

    pub(crate) fn all(&self) -> Vec<Handle> {
        (0..self.used()).filter_map(|number| self.handle(number)).filter(|slot| !slot.is_vacant()).collect()
    }

    /// Forgets a slot that is settled and that nobody waits for; `false`: it is needed. A request that found it before goes
    /// away empty-handed, or keeps it by its pin.
    pub(crate) fn forget(&self, slot: &Handle) -> bool {
        let mut rooms = self.rooms();
        let key = slot.key();
        if slot.is_vacant() || !slot.retire() {
            return slot.is_vacant();
        }
        self.index.remove(Who::of(key).hash(), slot.number);
        rooms.vacated.push(slot.number);
        self.len.fetch_sub(1, Ordering::Relaxed);
        true
    }

    #[inline]
    fn slot(&self, number: u32) -> Option<&Slot> {
        self.chunks.get(number as usize / CHUNK)?.get()?.get(number as usize % CHUNK)
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use tidegate_model::{LimitId, Nanos, Permits};
    use tidegate_quota::cell::Take;

    use super::*;
    use crate::fixtures::{find, grant};

    fn forget(table: &Table, found: Found<'_>) -> bool {
        table.forget(&table.handle(found.number).expect("it is there"))
    }

    #[test]
    fn a_key_keeps_its_slot_until_it_is_forgotten_and_the_next_key_gets_it() {
        let table = Table::new(10);
        let old = find(&table, 1);
        assert_eq!(find(&table, 1).number, old.number);
        assert!(forget(&table, old));
        assert!(!old.is_still());
        assert!(table.get(Key { limit: LimitId(1), subject: Subject(1) }).is_none());
        let new = find(&table, 2);
        assert_eq!((new.number, table.len()), (old.number, 1));
        assert!(new.is_still() && !old.is_still());
        assert_ne!(find(&table, 1).number, new.number);
    }

    #[test]
    fn a_key_that_comes_back_has_an_epoch_of_its_own() {
        let table = Table::new(10);
        let old = find(&table, 1);
        let before = grant(old.slot, 0, 1);
        assert!(forget(&table, old));
        let after = grant(find(&table, 1).slot, 0, 2);
        assert!(before < after, "{before}, then {after}");
    }

    #[test]
    fn a_refusal_covers_others_for_a_fiftieth_of_the_window_at_most() {
        let table = Table::new(10);
        let slot = find(&table, 1).slot; // W is a second.
        let covered = |retry| {
            slot.cover(Nanos(7), retry);
            slot.covered_until.load(Ordering::Relaxed)
        };
        assert_eq!(covered(Nanos::from_secs(60)), 7 + 20_000_000);
        assert_eq!(covered(Nanos::from_millis(5)), 7 + 5_000_000);
        assert_eq!(covered(Nanos::ZERO), 0);
    }

    #[test]
    fn who_takes_from_a_slot_that_has_become_another_keys_finds_out_and_puts_back() {
        let table = Table::new(10);
        let late = find(&table, 1);
        assert!(forget(&table, late));
        let owner = find(&table, 2);
        grant(owner.slot, 5, 1);
        let grab = late.slot.cell.grab(Permits(1)).expect("the owner's permits");
        assert!(!late.is_still(), "the permit is another key's");
        let Take::Taken(ticket) = late.slot.cell.stamp(grab, Nanos(2)) else { panic!("in time") };
        assert!(late.slot.cell.put_back(ticket));
        assert_eq!(owner.slot.cell.left(), Permits(5));
    }

    #[test]
    fn a_permit_that_outlives_its_key_gives_nothing_to_the_next_one() {
        let table = Table::new(10);
        let old = find(&table, 1);
        grant(old.slot, 1, 1);
        let Take::Taken(ticket) = old.slot.cell.take(Permits(1), || Nanos(2)) else { panic!("one is there") };
        grant(old.slot, 0, 3); // told of, nothing left: settled
        assert!(forget(&table, old));
        let new = find(&table, 2);
        grant(new.slot, 5, 4);
        assert!(!new.slot.cell.put_back(ticket));
        assert_eq!(new.slot.cell.left(), Permits(5));
    }

    #[test]
    fn what_is_held_listed_missed_or_pinned_is_not_forgotten() {
        let table = Table::new(10);
        let found = find(&table, 1);
        let pin = found.pin().expect("it is the key's");
        assert!(!forget(&table, found));
        assert!(found.is_still());
        drop(pin);
        found.slot.set_listed();
        assert!(!forget(&table, found));
        found.slot.unlist();
        found.slot.miss(Permits(1));
        assert!(!forget(&table, found));
        grant(found.slot, 1, 1);
        assert!(!forget(&table, found), "it holds a permit");
        grant(found.slot, 0, 2);
        let told = found.slot.cell.left() == Permits::ZERO;
        assert_eq!(forget(&table, found), told);
        if told {
            assert!(found.pin().is_none());
        }
    }

    #[test]
    fn beyond_the_bound_nobody_has_a_slot_until_another_key_is_forgotten_and_the_others_keep_theirs() {
        let table = Table::new(2_000);
        let limit = crate::fixtures::limit();
        let numbers: Vec<_> = (0..2_000).map(|subject| find(&table, subject).number).collect();
        assert!((2_000..4_000).all(|subject| table.find(&limit, Subject(subject), |_| ()).is_none()));
        assert_eq!((table.len(), table.all().len(), table.lacks(5)), (2_000, 2_000, 67));
        assert!((0..2_000).zip(&numbers).all(|(subject, number)| find(&table, subject).number == *number));
        assert!(forget(&table, find(&table, 7)));
        assert_eq!(find(&table, 3_000).number, numbers[7]);
        assert!(table.find(&limit, Subject(7), |_| ()).is_none() && table.is_full());
    }

    #[test]
    fn no_two_threads_make_a_slot_for_the_same_key_and_none_is_lost_while_keys_come_and_go() {
        let table = Table::new(10_000);
        std::thread::scope(|scope| {
            for thread in 0..4_u128 {
                let table = &table;
                scope.spawn(move || {
                    for nth in 0..20_000_u128 {
                        let own = find(table, 1_000_000 + thread * 1_000 + nth % 500);
                        forget(table, own);
                        let common = find(table, nth % 3_000);
                        assert_eq!(common.number, find(table, nth % 3_000).number);
                    }
                });
            }
        });
        assert_eq!(table.all().len(), table.len());
        for subject in 0..3_000 {
            assert_eq!(find(&table, subject).slot.key().subject, Subject(subject));
        }
    }
}
