//! Draws for balancing and jitter: fast, per thread, of no use for secrets.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Uniform below `bound`; 0 when `bound` is 0.
pub(crate) fn below(bound: u64) -> u64 {
    // Multiply-shift: the bias of at most bound / 2^64 does not matter here.
    u64::try_from((u128::from(next()) * u128::from(bound)) >> 64).expect("a product below bound · 2^64")
}

fn next() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8) | 1));
    // xorshift64* (Vigna 2016)
    let mut x = STATE.get();
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    STATE.set(x);
    x.wrapping_mul(0x2545_F491_4F6C_DD1D)
}
