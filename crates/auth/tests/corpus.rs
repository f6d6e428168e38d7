//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

use std::fs;
use std::path::Path;

use tidegate_auth::fuzz;

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
fn the_corpus_of_tokens_and_key_sets_is_refused_or_read() {
    replay("token", fuzz::token);
}
