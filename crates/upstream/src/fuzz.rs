//! What the fuzzer calls (docs/fuzzing.md), and tests with what it kept. Any bytes: nothing panics, cuts make no difference.

pub use crate::h1::fuzz as response;
