//! A client's request over HTTP/1.1.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_http1::fuzz_request(bytes));
