//! The keys of this node. Bounded: at the bound new subjects share a few overflow keys, which is stricter for them and
//! costs nobody else anything. A key that holds or owes anything is never forgotten.
//!
//! ```text
//!   hash ──▶ index: one line of entries ──▶ slot: one line          a warm decision reads no more, and locks nothing
//! ```
//! Slots lie in chunks that are made when needed and stay; a key that is forgotten leaves its slot to the next one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tidegate_model::Subject;
use tidegate_policy::Limit;
use tidegate_quota::SubjectHasher;
use tidegate_quota::protocol::Key;

use crate::index::Index;
use crate::slot::{Found, Handle, Slot, halves};

/// How many keys the subjects beyond the bound share, per limit.
const OVERFLOW_PARTS: u128 = 64;
/// Room for overflow keys: of 16,384 limits.
const OVERFLOW: usize = 1 << 20;
/// Slots made at once.
const CHUNK: usize = 1024;

#[derive(Debug)]
pub(crate) struct Table {
    index: Index,
    chunks: Box<[OnceLock<Arc<[Slot]>>]>,
    most: usize,
    len: AtomicUsize,
    next_epoch: AtomicU64,
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
            chunks: (0..(most + OVERFLOW).div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            most,
            len: AtomicUsize::new(0),
            next_epoch: AtomicU64::new(1),
            rooms: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Epochs grow over all keys: one that is forgotten and comes back never meets its old records.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.next_epoch.fetch_add(1, Ordering::Relaxed)
    }

    /// The slot of a key, made if there is room. `None`: not even an overflow key found room.
    #[inline]
    pub(crate) fn find(&self, limit: &Limit, subject: Subject, hasher: &SubjectHasher) -> Option<Found<'_>> {
        let key = Key { limit: limit.id, subject };
        self.look(key).or_else(|| self.make(key, limit, hasher))
    }

    #[inline]
    fn look(&self, key: Key) -> Option<Found<'_>> {
        self.index.find(hash(key), |number| Found::of(self.slot(number)?, number, key))
    }

    #[cold]
    fn make(&self, key: Key, limit: &Limit, hasher: &SubjectHasher) -> Option<Found<'_>> {
        let mut rooms = self.rooms();
        if let Some(found) = self.look(key) {
            return Some(found); // Somebody else has made it, or its entry moved while we looked.
        }
        if self.len() < self.most {
            return self.settle(&mut rooms, key, limit);
        }
        let part = u8::try_from(key.subject.0 % OVERFLOW_PARTS).expect("less than 64");
        let shared = Key { limit: limit.id, subject: hasher.overflow(limit.id, part) };
        self.look(shared).or_else(|| self.settle(&mut rooms, shared, limit))
    }

    fn settle(&self, rooms: &mut Rooms, key: Key, limit: &Limit) -> Option<Found<'_>> {
        let number = rooms.vacated.last().copied().unwrap_or(rooms.fresh);
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        let slot = &chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::vacant()).collect())[number as usize % CHUNK];
        if !self.index.insert(hash(key), number, self.len()) {
            return None;
        }
        if rooms.vacated.pop().is_none() {
            rooms.fresh += 1;
        }
        slot.begin(key, self.next_epoch(), limit);
        self.len.fetch_add(1, Ordering::Relaxed);
        Found::of(slot, number, key)
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

    pub(crate) fn all(&self) -> Vec<Handle> {
        let used = self.rooms().fresh;
        (0..used).filter_map(|number| self.handle(number)).filter(|slot| !slot.is_vacant()).collect()
    }

    /// Forgets a slot that is settled and that nobody waits for; `false`: it is needed. A request that found it before goes
    /// away empty-handed, or keeps it by its pin.
    pub(crate) fn forget(&self, slot: &Handle) -> bool {
        let mut rooms = self.rooms();
        let key = slot.key();
        if slot.is_vacant() || !slot.retire() {
            return slot.is_vacant();
        }
        self.index.remove(hash(key), slot.number);
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

/// Subjects are keyed hashes already, which nobody outside can aim; this only folds them.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper half")]
fn hash(key: Key) -> u32 {
    let [low, high] = halves(key.subject);
    let mixed = low ^ high.rotate_left(32) ^ key.limit.0.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}
