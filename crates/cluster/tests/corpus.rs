//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_cluster::fuzz;

#[test]
fn the_corpus_of_frames_is_read_without_a_panic() {
    replay("peer_frame", fuzz::peer_frame);
}

#[test]
fn the_corpus_of_records_is_read_without_a_panic() {
    replay("log_record", fuzz::log_record);
}
