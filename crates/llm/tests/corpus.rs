//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_llm::fuzz;

#[test]
fn the_corpus_of_server_sent_events_is_read_the_same_however_cut() {
    replay("sse", fuzz::sse);
}

#[test]
fn the_corpus_of_amazons_event_streams_is_read_without_a_panic() {
    replay("event_stream", fuzz::event_stream);
}

#[test]
fn the_corpus_of_providers_streams_keeps_the_promises_in_every_dialect() {
    replay("llm_stream", fuzz::stream);
}

#[test]
fn the_corpus_of_bodies_is_read_or_refused_in_every_dialect() {
    replay("llm_call", fuzz::call);
}

#[test]
fn the_corpus_of_compressed_answers_is_read_the_same_however_cut() {
    replay("coding", fuzz::coding);
}
