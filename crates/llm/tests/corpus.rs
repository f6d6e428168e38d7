//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

use std::fs;
use std::path::Path;

use tidegate_llm::fuzz;

fn replay(target: &str, function: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.expect("a readable folder").path();
        println!("{}", path.display());
        function(&fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

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
