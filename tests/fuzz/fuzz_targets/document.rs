//! A document as people write it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_config::fuzz_document(bytes));
