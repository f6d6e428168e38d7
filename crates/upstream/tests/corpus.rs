//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_upstream::fuzz;

#[test]
fn the_corpus_of_answers_is_read_the_same_however_cut() {
    replay("response", fuzz::response);
}
