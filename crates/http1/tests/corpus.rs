//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_requests_is_read_the_same_however_cut() {
    replay("request", tidegate_http1::fuzz_request);
}
