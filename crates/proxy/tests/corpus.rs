//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_proxy::fuzz;

#[test]
fn the_corpus_of_request_heads_is_refused_or_has_one_reading() {
    replay("request_head", fuzz::request_head);
}

#[test]
fn the_corpus_of_frames_is_judged_the_same_however_cut() {
    replay("h2_frames", fuzz::h2_frames);
}

#[test]
fn the_corpus_of_announcements_is_read_as_it_is_written() {
    replay("announcement", fuzz::announcement);
}

#[test]
fn the_corpus_of_grpc_web_is_read_the_same_however_cut() {
    replay("grpc_web", fuzz::grpc_web);
}
