//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

use std::fs;
use std::path::Path;

use tidegate_proxy::fuzz;

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
