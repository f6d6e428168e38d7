//! What stands in Redis.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_cache::fuzz::value(bytes));
