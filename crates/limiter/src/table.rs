//! The keys of this node. Bounded: at the bound new subjects share a few overflow keys, which is stricter for them and
//! costs nobody else anything. A key that holds or owes anything is never forgotten.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_model::Subject;
use tidegate_policy::Limit;
use tidegate_quota::SubjectHasher;
use tidegate_quota::protocol::Key;

use crate::slot::Slot;

/// How many keys the subjects beyond the bound share, per limit.
const OVERFLOW_PARTS: u128 = 64;

#[derive(Debug)]
pub(crate) struct Table {
    slots: papaya::HashMap<Key, Arc<Slot>, BuildHasherDefault<KeyHasher>>,
    most: usize,
    next_epoch: AtomicU64,
}

impl Table {
    pub(crate) fn new(most: usize) -> Self {
        Self { slots: papaya::HashMap::default(), most, next_epoch: AtomicU64::new(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Epochs grow over all keys: one that is forgotten and comes back never meets its old records.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.next_epoch.fetch_add(1, Ordering::Relaxed)
    }

    /// The slot of a key, made if there is room.
    #[inline]
    pub(crate) fn find(&self, limit: &Limit, subject: Subject, hasher: &SubjectHasher) -> Arc<Slot> {
        let key = Key { limit: limit.id, subject };
        let slots = self.slots.pin();
        match slots.get(&key) {
            Some(slot) => Arc::clone(slot),
            None if slots.len() < self.most => self.make(key, limit),
            None => {
                let part = u8::try_from(subject.0 % OVERFLOW_PARTS).expect("less than 64");
                self.make(Key { limit: limit.id, subject: hasher.overflow(limit.id, part) }, limit)
            }
        }
    }

    #[cold]
    fn make(&self, key: Key, limit: &Limit) -> Arc<Slot> {
        let slots = self.slots.pin();
        Arc::clone(slots.get_or_insert_with(key, || Arc::new(Slot::new(key, self.next_epoch(), limit))))
    }

    pub(crate) fn get(&self, key: Key) -> Option<Arc<Slot>> {
        self.slots.pin().get(&key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.pin().values().cloned().collect()
    }

    /// Forgets a slot that is settled and not waited for.
    pub(crate) fn forget(&self, slot: &Arc<Slot>) {
        let holding = slot.holding();
        if !holding.is_settled(&slot.cell) || slot.is_waited_for() {
            return;
        }
        // A request that found the slot before this sees `gone` before it waits, and looks the key up anew.
        slot.gone.store(true, Ordering::SeqCst);
        self.slots.pin().remove(&slot.key);
    }
}

/// Keys are hashes already; this only folds them.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(29) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u128(&mut self, value: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let (low, high) = (value as u64, (value >> 64) as u64);
        self.write_u64(low ^ high);
    }
}
