//! What somebody compressed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_llm::fuzz::coding(bytes));
