//! Amazon's event stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_llm::fuzz::event_stream(bytes));
