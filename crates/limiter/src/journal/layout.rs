//! The journal's bytes: words of eight, little-endian, sixteen to an entry. The first entry is the header.
//!
//! ```text
//!   header   check │ magic │ node │ incarnation ×2 │ boot ×2 │ segments │ partial
//!   entry    check │ limit │ subject ×2 │ epoch │ mark, check │ mark, check │ taken │ !taken
//! ```
//! Marks are written in turn, so that one is whole while the other is being written. `taken` stands there twice: a bit that
//! has turned is noticed.

use std::hash::Hasher as _;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;
use tidegate_model::{Incarnation, LimitId, NodeId, Permits, Subject};
use tidegate_quota::protocol::Key;

pub(super) const EXTENSION: &str = "journal";
pub(super) const ENTRY_WORDS: usize = 16;
pub(super) const SEGMENT_ENTRIES: usize = 1_024;
pub(super) const SEGMENT_BYTES: usize = SEGMENT_ENTRIES * ENTRY_WORDS * 8;
/// A key at the bound of keys has one, and some to spare.
pub(super) const MOST_SEGMENTS: usize = 512;
/// "TGJRNL01"
const MAGIC: u64 = 0x3130_4c4e_524a_4754;

/// Where in an entry.
pub(super) mod word {
    pub(in super::super) const CHECK: usize = 0;
    pub(in super::super) const SEGMENTS: usize = 7;
    pub(in super::super) const PARTIAL: usize = 8;
    pub(in super::super) const MARKS: [usize; 2] = [5, 7];
    pub(in super::super) const TAKEN: usize = 9;
    pub(in super::super) const UNTAKEN: usize = 10;
}

type Words = [AtomicU64; ENTRY_WORDS];

/// Whose journal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    /// What the kernel calls this run of the machine; 0: unknown.
    pub(super) boot: u128,
}

impl Header {
    pub(super) fn write(&self, words: &Words) {
        let [low, high] = halves(self.incarnation.0);
        let [boot_low, boot_high] = halves(self.boot);
        let body = [MAGIC, self.node.0, low, high, boot_low, boot_high];
        for (at, value) in body.iter().enumerate() {
            words[1 + at].store(*value, Ordering::Relaxed);
        }
        words[word::CHECK].store(check(0, &body), Ordering::Release);
    }

    /// `None`: it is damaged, or none.
    pub(super) fn read(words: &[u64; ENTRY_WORDS]) -> Option<Self> {
        let body = &words[1..7];
        let whole = words[word::CHECK] == check(0, body) && body[0] == MAGIC;
        whole.then(|| Self {
            node: NodeId(body[1]),
            incarnation: Incarnation(join(body[2], body[3])),
            boot: join(body[4], body[5]),
        })
    }
}

/// The first seven words of a header.
pub(super) fn written(header: &Header) -> Vec<u8> {
    let words: Words = Default::default();
    header.write(&words);
    words[..7].iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect()
}

/// A lease as it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) epoch: u64,
    /// `None`: damaged.
    pub(super) mark: Option<Permits>,
    /// `None`: damaged.
    pub(super) taken: Option<Permits>,
}

impl Entry {
    /// `Ok(None)`: nobody's. `Err`: damaged beyond knowing whose.
    pub(super) fn read(words: &[u64; ENTRY_WORDS], place: u32) -> Result<Option<Self>, ()> {
        if words[word::CHECK] == 0 {
            return Ok(None);
        }
        if words[word::CHECK] != check(place, &words[1..5]) {
            return Err(());
        }
        let key = Key { limit: LimitId(words[1]), subject: Subject(join(words[2], words[3])) };
        let marks = word::MARKS.map(|at| mark_of(words, place, at));
        let mark = match marks {
            [Some(one), Some(other)] => Some(one.max(other)),
            _ => None,
        };
        let taken = (words[word::TAKEN] == !words[word::UNTAKEN]).then_some(Permits(words[word::TAKEN]));
        Ok(Some(Self { key, epoch: words[4], mark, taken }))
    }
}

/// Nothing of it was written yet, or it is whole; `None`: neither.
fn mark_of(words: &[u64; ENTRY_WORDS], place: u32, at: usize) -> Option<Permits> {
    match (words[at], words[at + 1]) {
        (0, 0) => Some(Permits::ZERO),
        (mark, written) => (written == check_mark(place, &words[1..5], mark)).then_some(Permits(mark)),
    }
}

pub(super) fn begin(words: &Words, place: u32, key: Key, epoch: u64) {
    let [low, high] = halves(key.subject.0);
    let body = [key.limit.0, low, high, epoch];
    words[word::CHECK].store(0, Ordering::Release); // Nobody's until it is whole.
    for (at, value) in body.iter().enumerate() {
        words[1 + at].store(*value, Ordering::Relaxed);
    }
    for at in word::MARKS {
        words[at].store(0, Ordering::Relaxed);
        words[at + 1].store(0, Ordering::Relaxed);
    }
    words[word::TAKEN].store(0, Ordering::Relaxed);
    words[word::UNTAKEN].store(u64::MAX, Ordering::Relaxed);
    words[word::CHECK].store(check(place, &body), Ordering::Release);
}

/// Over the older of the two.
pub(super) fn mark(words: &Words, place: u32, mark: Permits) {
    let body: [u64; 4] = std::array::from_fn(|at| words[1 + at].load(Ordering::Relaxed));
    let [first, second] = word::MARKS;
    let at = if words[first].load(Ordering::Relaxed) <= words[second].load(Ordering::Relaxed) { first } else { second };
    words[at].store(mark.0, Ordering::Relaxed);
    words[at + 1].store(check_mark(place, &body, mark.0), Ordering::Release);
}

/// A count that says itself whether it is one.
pub(super) fn count_of_segments(count: usize) -> u64 {
    let count = count as u64;
    count << 48 | check(1, &[count]) >> 16
}

/// `None`: damaged.
pub(super) fn segments_of(word: u64) -> Option<usize> {
    let count = usize::try_from(word >> 48).ok()?;
    (word == count_of_segments(count)).then_some(count)
}

/// What the kernel calls this run of the machine.
pub(super) fn boot() -> u128 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or(0)
}

fn check(place: u32, body: &[u64]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write_u32(place);
    body.iter().for_each(|word| hasher.write_u64(*word));
    hasher.finish() | 1 // never the zero of what was not written
}

fn check_mark(place: u32, body: &[u64], mark: u64) -> u64 {
    check(place, &[body[0], body[1], body[2], body[3], mark])
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are kept")]
fn halves(wide: u128) -> [u64; 2] {
    [wide as u64, (wide >> 64) as u64]
}

fn join(low: u64, high: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}
