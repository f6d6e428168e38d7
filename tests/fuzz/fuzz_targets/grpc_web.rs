//! base64 of gRPC-Web.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_proxy::fuzz::grpc_web(bytes));
