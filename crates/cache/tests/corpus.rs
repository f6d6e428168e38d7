//! What the fuzzer found worth keeping (docs/fuzzing.md), through the same functions.

#[path = "../../../tests/fuzz/replay.rs"]
mod replay;

use replay::replay;
use tidegate_cache::fuzz;

#[test]
fn the_corpus_of_cached_exchanges_keeps_the_promises() {
    replay("cache_rules", fuzz::rules);
}

#[test]
fn the_corpus_of_values_in_redis_is_a_miss_or_read_as_it_was_written() {
    replay("cache_value", fuzz::value);
}
