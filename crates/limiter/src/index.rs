//! From a key's hash to the numbers of slots that may be its own: one array, open addressing, eight entries to a cache line.
//!
//! ```text
//!   63          32 31                    0
//!  +--------------+-----------------------+
//!  |  hash        |  number of slot + 1   |      0: empty
//!  +--------------+-----------------------+
//! ```
//! Readers take no lock and may see a state that is gone: what they find is a hint, the slot itself says whose it is, and
//! not to find a key means to look again under the writer's lock (`table.rs`). So entries may move while they are read.

use std::sync::OnceLock;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Level n has 1024 << n entries; outgrown levels stay for readers that still use them: together no more than the last.
const LEVELS: usize = 22;
const FIRST: usize = if cfg!(loom) { 4 } else { 1024 };

#[derive(Debug)]
pub(crate) struct Index {
    levels: [OnceLock<Box<[AtomicU64]>>; LEVELS],
    level: AtomicUsize,
}

impl Default for Index {
    fn default() -> Self {
        Self { levels: [const { OnceLock::new() }; LEVELS], level: AtomicUsize::new(0) }
    }
}

impl Index {
    /// The first candidate that `accept` takes.
    #[inline]
    pub(crate) fn find<T>(&self, hash: u32, accept: impl Fn(u32) -> Option<T>) -> Option<T> {
        let entries = self.entries(self.level.load(Ordering::Acquire));
        let (mut at, mask) = (home(hash, entries.len()), entries.len() - 1);
        for _ in 0..entries.len() {
            let entry = entries[at & mask].load(Ordering::Acquire);
            if entry == 0 {
                return None;
            }
            if hash_of(entry) == hash
                && let Some(found) = accept(number_of(entry))
            {
                return Some(found);
            }
            at += 1;
        }
        None
    }

    /// The number that a search begins with: most often the right one. Nothing is decided by it, so many of these overlap.
    #[inline]
    pub(crate) fn guess(&self, hash: u32) -> u32 {
        let entries = self.entries(self.level.load(Ordering::Acquire));
        number_of(entries[home(hash, entries.len()) & (entries.len() - 1)].load(Ordering::Relaxed))
    }

    /// One writer at a time. `used`: how many are in already. `false`: the largest level is full.
    pub(crate) fn insert(&self, hash: u32, number: u32, used: usize) -> bool {
        let level = self.level.load(Ordering::Relaxed);
        let entries = self.entries(level);
        if used < entries.len() / 2 {
            put(entries, entry(hash, number));
            return true;
        }
        if level + 1 == LEVELS {
            return false;
        }
        let larger = self.entries(level + 1);
        for entry in entries {
            put(larger, entry.load(Ordering::Relaxed));
        }
        put(larger, entry(hash, number));
        self.level.store(level + 1, Ordering::Release);
        true
    }

    /// One writer at a time. What lay behind moves up, so that no search ends too early.
    pub(crate) fn remove(&self, hash: u32, number: u32) {
        let entries = self.entries(self.level.load(Ordering::Relaxed));
        let (mask, gone) = (entries.len() - 1, entry(hash, number));
        let mut search = places(hash, entries.len()).take_while(|at| entries[*at].load(Ordering::Relaxed) != 0);
        let Some(mut hole) = search.find(|at| entries[*at].load(Ordering::Relaxed) == gone) else { return };
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = entries[at].load(Ordering::Relaxed);
            if entry == 0 {
                break;
            }
            let from_home = at.wrapping_sub(home(hash_of(entry), entries.len())) & mask;
            if from_home >= at.wrapping_sub(hole) & mask {
                entries[hole].store(entry, Ordering::Release);
                hole = at;
            }
        }
        entries[hole].store(0, Ordering::Release);
    }

    #[inline]
    fn entries(&self, level: usize) -> &[AtomicU64] {
        self.levels[level].get_or_init(|| (0..FIRST << level).map(|_| AtomicU64::new(0)).collect())
    }
}

fn put(entries: &[AtomicU64], entry: u64) {
    if entry == 0 {
        return;
    }
    let mut free = places(hash_of(entry), entries.len()).filter(|at| entries[*at].load(Ordering::Relaxed) == 0);
    let at = free.next().expect("half of the entries are empty");
    entries[at].store(entry, Ordering::Release);
}

/// Where to look, in order: each place once.
#[inline]
fn places(hash: u32, len: usize) -> impl Iterator<Item = usize> {
    let home = home(hash, len);
    (0..len).map(move |nth| (home + nth) & (len - 1))
}

/// The upper bits of the hash: `len` is a power of two.
#[inline]
fn home(hash: u32, len: usize) -> usize {
    (hash as usize * len) >> 32
}

#[inline]
const fn entry(hash: u32, number: u32) -> u64 {
    (hash as u64) << 32 | (number as u64 + 1)
}

#[inline]
const fn hash_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn number_of(entry: u64) -> u32 {
    (entry as u32).wrapping_sub(1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn finds(index: &Index, hash: u32, number: u32) -> bool {
        index.find(hash, |found| (found == number).then_some(())).is_some()
    }

    /// Hashes that crowd the end of the array, so that searches wrap around.
    fn crowded(nth: u32) -> u32 {
        u32::MAX - nth.wrapping_mul(7) % 50
    }

    #[test]
    fn what_was_put_in_is_found_until_it_is_taken_out_however_crowded() {
        let index = Index::default();
        let mut inside = HashMap::new();
        let mut state = 1_u32;
        for nth in 0..20_000_u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let number = state >> 16 & 0xFFF;
            let hash = if number.is_multiple_of(2) { crowded(number) } else { number.wrapping_mul(0x9E37_79B9) };
            if inside.remove(&number).is_some() {
                index.remove(hash, number);
            } else if inside.len() < 600 || nth % 3 == 0 {
                assert!(index.insert(hash, number, inside.len()));
                inside.insert(number, hash);
            }
            assert_eq!(finds(&index, hash, number), inside.contains_key(&number));
        }
        assert!(inside.len() > FIRST / 2, "it grew: {}", inside.len());
        assert!(inside.iter().all(|(number, hash)| finds(&index, *hash, *number)));
    }
}
