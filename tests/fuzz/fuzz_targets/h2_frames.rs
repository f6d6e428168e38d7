//! Frames of HTTP/2.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_proxy::fuzz::h2_frames(bytes));
