//! Bodies that whoever reads them can check: slices of one block of noise, named by where they begin and how long they
//! are. And the dice that choose them, which are thrown the same way each run.

use std::sync::LazyLock;

use bytes::Bytes;

/// The longest body there is.
pub(super) const LONGEST: usize = 1 << 20;
/// Where bodies may begin.
pub(super) const SEEDS: usize = 4096;

static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut dice = Dice::new(1);
    let mut noise = Vec::with_capacity(SEEDS + LONGEST);
    while noise.len() < SEEDS + LONGEST {
        noise.extend_from_slice(&dice.throw().to_le_bytes());
    }
    noise.truncate(SEEDS + LONGEST);
    noise.into()
});

/// `length` bytes from `seed` on; both are cut to what there is.
pub(super) fn body(seed: usize, length: usize) -> Bytes {
    let seed = seed.min(SEEDS);
    NOISE.slice(seed..seed + length.min(LONGEST))
}

/// A body as it comes, piece by piece, against what it has to be.
pub(super) struct Expected {
    bytes: Bytes,
    seen: usize,
}

impl Expected {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, seen: 0 }
    }

    /// Is this how it goes on?
    pub(super) fn goes_on(&mut self, piece: &[u8]) -> bool {
        let from = self.seen;
        self.seen += piece.len();
        self.bytes.get(from..self.seen).is_some_and(|expected| expected == piece)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.seen == self.bytes.len()
    }

    pub(super) fn seen(&self) -> usize {
        self.seen
    }
}

/// xorshift: cheap, and the same for the same seed.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn throw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// 0 to `bound` - 1.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The low bits of xorshift are its weak ones.
        usize::try_from((self.throw() >> 24) % bound.max(1) as u64).expect("below a usize")
    }

    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_by_where_it_begins_and_how_long_it_is() {
        assert_eq!(body(3, 10), body(0, 13).slice(3..));
        assert_eq!((body(SEEDS + 9, LONGEST + 9).len(), body(0, 0).len()), (LONGEST, 0));
        assert_ne!(body(0, 32), body(1, 32));
    }

    #[test]
    fn what_is_missing_wrong_or_too_much_is_noticed() {
        let mut expected = Expected::new(body(7, 100));
        assert!(expected.goes_on(&body(7, 40)) && !expected.is_whole());
        assert!(expected.goes_on(&body(47, 60)) && expected.is_whole());
        assert!(!expected.goes_on(b"x"), "too much");
        assert!(!Expected::new(body(7, 100)).goes_on(&body(8, 100)), "another body");
    }

    #[test]
    fn dice_fall_on_every_side_and_the_same_way_twice() {
        let mut dice = Dice::new(5);
        let (mut sides, mut again) = ([0; 6], Dice::new(5));
        for _ in 0..6_000 {
            let side = dice.below(6);
            assert_eq!(side, again.below(6));
            sides[side] += 1;
        }
        assert!(sides.iter().all(|count| (800..1_200).contains(count)), "{sides:?}");
    }
}
