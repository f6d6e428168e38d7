//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same function.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_quota::evidence::fuzz;

#[test]
fn the_corpus_of_decision_logs_is_judged_without_a_panic() {
    replay("decision_log", fuzz::decision_log);
}
