//! What a peer, a joiner or the node that answers it sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_cluster::fuzz::peer_frame(bytes));
