//! What a cache reads of an exchange.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_cache::fuzz::rules(bytes));
