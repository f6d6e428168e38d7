//! What the fuzzer found worth keeping (docs/fuzzing.md), through the function it was found with: the `tests/corpus.rs` of each crate
//! that has a target includes this file.

use std::fs;
use std::path::Path;

pub(crate) fn replay(target: &str, function: fn(&[u8])) {
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
