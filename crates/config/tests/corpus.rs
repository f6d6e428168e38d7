//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same function.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn the_corpus_of_documents_is_read_without_a_panic() {
    replay("document", |bytes| {
        tidegate_config::fuzz_document(bytes);
    });
}
