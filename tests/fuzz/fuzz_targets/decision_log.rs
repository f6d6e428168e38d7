//! A decision log, read and judged.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_quota::evidence::fuzz::decision_log(bytes));
