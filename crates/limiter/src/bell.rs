//! Which slots have news for the tick, and which press: two sets of slot numbers, one bit each, that every thread adds to
//! and the tick empties.
//!
//! ```text
//!   full:   one bit per group of 1024 slots        read whole by every look: 32 words for two million slots
//!   groups: one bit per slot of the group          made when the first of them is marked
//! ```
//! A set has no order and holds nothing twice. So whatever is marked again, late, or for a slot that has become another
//! key's in the meantime, costs a look in vain, and a look is never longer than the table.

use std::sync::OnceLock;

use tokio::sync::Notify;

use crate::slot::Slot;
use crate::sync::{AtomicU64, Ordering};

/// Slots per group: one bit of `Marks::full`.
#[cfg(not(loom))]
const GROUP: usize = 1024;
#[cfg(loom)]
const GROUP: usize = 64;
const WORD: usize = u64::BITS as usize;

#[derive(Debug)]
pub(crate) struct Bell {
    news: Marks,
    presses: Marks,
    pub(crate) woken: Notify,
    pub(crate) pressed: Notify,
}

impl Bell {
    /// For slots with numbers below this.
    pub(crate) fn new(slots: usize) -> Self {
        Self { news: Marks::new(slots), presses: Marks::new(slots), woken: Notify::new(), pressed: Notify::new() }
    }

    /// The slot with this number has news for the next tick. Whoever comes here has changed the slot before.
    #[inline]
    pub(crate) fn list(&self, slot: &Slot, number: u32) {
        if !slot.is_listed() {
            self.list_anew(slot, number);
        }
    }

    /// Two may come here at once: the second marks what is marked.
    fn list_anew(&self, slot: &Slot, number: u32) {
        // The flag first: were it set last, it could stay behind after the tick has taken the mark, and nobody would
        // ever mark this slot again.
        slot.set_listed();
        if self.news.add(number) {
            self.woken.notify_one();
        }
    }

    /// Marks it whatever its flag says.
    pub(crate) fn list_again(&self, slot: &Slot, number: u32) {
        self.list_anew(slot, number);
    }

    /// Somebody waits, or wants permits back. Whoever comes here has said so in the slot before.
    pub(crate) fn ring(&self, number: u32) {
        self.presses.add(number);
        self.pressed.notify_one();
    }

    /// As [`Bell::ring`], for the tick itself.
    pub(crate) fn press_again(&self, number: u32) {
        self.presses.add(number);
    }

    /// Takes what is marked. What changes from here on marks its slot anew.
    pub(crate) fn take_news(&self) -> Vec<u32> {
        self.news.take()
    }

    pub(crate) fn take_presses(&self) -> Vec<u32> {
        self.presses.take()
    }
}

#[derive(Debug)]
struct Marks {
    /// Of groups that may have a mark.
    full: Box<[OwnLine]>,
    groups: Box<[OnceLock<Box<[AtomicU64]>>]>,
}

/// Every thread writes it.
#[derive(Debug)]
#[repr(align(64))]
struct OwnLine(AtomicU64);

impl Marks {
    fn new(slots: usize) -> Self {
        let groups = slots.div_ceil(GROUP);
        Self {
            full: (0..groups.div_ceil(WORD)).map(|_| OwnLine(AtomicU64::new(0))).collect(),
            groups: (0..groups).map(|_| OnceLock::new()).collect(),
        }
    }

    /// `true`: the first mark of its group.
    fn add(&self, number: u32) -> bool {
        let (group, at) = (number as usize / GROUP, number as usize % GROUP);
        let Some(words) = self.groups.get(group) else {
            tracing::error!(number, "a slot beyond the table was marked: a defect; nothing was done");
            return false;
        };
        let words = words.get_or_init(|| (0..GROUP / WORD).map(|_| AtomicU64::new(0)).collect());
        words[at / WORD].fetch_or(1 << (at % WORD), Ordering::AcqRel);
        // After the mark: whoever takes this bit finds the mark, and a bit that was taken before is set again.
        let bit = 1 << (group % WORD);
        self.full[group / WORD].0.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    fn take(&self) -> Vec<u32> {
        let mut numbers = Vec::new();
        for (nth, full) in self.full.iter().enumerate() {
            if full.0.load(Ordering::Relaxed) == 0 {
                continue;
            }
            for group in bits(full.0.swap(0, Ordering::AcqRel)).map(|bit| nth * WORD + bit) {
                let words = self.groups.get(group).and_then(OnceLock::get);
                for (nth, word) in words.into_iter().flatten().enumerate() {
                    let first = group * GROUP + nth * WORD;
                    let marks = word.swap(0, Ordering::AcqRel);
                    numbers
                        .extend(bits(marks).map(|bit| u32::try_from(first + bit).expect("slots are numbered by u32")));
                }
            }
        }
        numbers
    }
}

fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit as usize)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_marked_is_taken_once_however_often_it_was_marked() {
        let marks = Marks::new(200_000);
        let numbers = BTreeSet::from([0, 1, 63, 64, 1_023, 1_024, 65_535, 65_536, 199_999]);
        for _ in 0..3 {
            assert!(marks.take().is_empty());
            for number in &numbers {
                marks.add(*number);
                marks.add(*number);
            }
            assert_eq!(marks.take().into_iter().collect::<Vec<_>>(), numbers.iter().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_that_threads_mark_is_lost_and_no_look_is_longer_than_the_table() {
        const SLOTS: u32 = 5_000;
        let (marks, done) = (Marks::new(SLOTS as usize), std::sync::atomic::AtomicUsize::new(0));
        let counts: Vec<_> = (0..SLOTS).map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
        let mut seen = vec![0; SLOTS as usize];
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let (marks, counts, done) = (&marks, &counts, &done);
                scope.spawn(move || {
                    for nth in 0..200_000_u32 {
                        let number = nth.wrapping_mul(2_654_435_761).wrapping_add(thread) % SLOTS;
                        counts[number as usize].fetch_add(1, Ordering::Relaxed);
                        marks.add(number);
                    }
                    done.fetch_add(1, Ordering::Release);
                });
            }
            loop {
                let last = done.load(Ordering::Acquire) == 3;
                let taken = marks.take();
                assert!(taken.len() <= SLOTS as usize);
                for number in taken {
                    seen[number as usize] = counts[number as usize].load(Ordering::Relaxed);
                }
                if last {
                    break;
                }
            }
        });
        assert!(counts.iter().zip(seen).all(|(count, seen)| count.load(Ordering::Relaxed) == seen));
    }
}
