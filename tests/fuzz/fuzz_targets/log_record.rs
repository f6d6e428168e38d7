//! What a group's folder holds: entries, vote, hint, snapshots.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidegate_cluster::fuzz::log_record(bytes));
