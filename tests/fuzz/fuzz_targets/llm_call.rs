//! A caller's body, or a provider's answer, in each dialect.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_llm::fuzz::call(bytes));
