//! A token, a set of keys, a query with a key.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_auth::fuzz::token(bytes));
