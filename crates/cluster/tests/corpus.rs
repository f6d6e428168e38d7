//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tidegate_cluster::fuzz;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus").join(name);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        target(&fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}

#[test]
fn the_corpus_of_frames_is_read_without_a_panic() {
    replay("peer_frame", fuzz::peer_frame);
}

#[test]
fn the_corpus_of_records_is_read_without_a_panic() {
    replay("log_record", fuzz::log_record);
}
