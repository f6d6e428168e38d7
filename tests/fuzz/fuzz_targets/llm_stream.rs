//! A provider's stream in each dialect.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_llm::fuzz::stream(bytes));
