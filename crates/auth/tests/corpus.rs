//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_auth::fuzz;

#[test]
fn the_corpus_of_tokens_and_key_sets_is_refused_or_read() {
    replay("token", fuzz::token);
}
