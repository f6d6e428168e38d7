//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same function.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tidegate_config::fuzz_document;

#[test]
fn the_corpus_of_documents_is_read_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/document");
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        fuzz_document(&fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}
