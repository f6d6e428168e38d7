//! An upstream's answer over HTTP/1.1.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_upstream::fuzz::response(bytes));
