//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same function.

use std::fs;
use std::path::Path;

use tidegate_quota::evidence::fuzz;

#[test]
fn the_corpus_of_decision_logs_is_judged_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus/decision_log");
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is part of the repository") {
        let path = entry.expect("a readable folder").path();
        println!("{}", path.display());
        fuzz::decision_log(&fs::read(&path).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "{} is empty", folder.display());
}
