//! The escrow protocol under everything that can go wrong: a slice of seeds, and the way back to any one of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tidegate_testkit::sim::{Scenario, Verdict, run};

const SEEDS: u64 = 300;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run_seeds(seeds: std::ops::Range<u64>) -> Vec<Verdict> {
    let (next, broken) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let verdict = run(Scenario::draw(seed));
                    if !verdict.broken.is_empty() {
                        broken.lock().expect("no thread panics with it").push(verdict);
                    }
                }
            });
        }
    });
    broken.into_inner().expect("no thread panics with it")
}

fn complaint(broken: &[Verdict]) -> String {
    broken.iter().map(|verdict| format!("{}\n  {}\n", verdict.broken.join("\n"), verdict.replay())).collect()
}

#[test]
fn no_window_admits_more_than_its_limit_whatever_goes_wrong() {
    let from = setting("TIDEGATE_SIM_FROM").unwrap_or(0);
    let broken = run_seeds(from..from + setting("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS));
    assert!(broken.is_empty(), "{}", complaint(&broken));
}

/// Runs the seed of a complaint once more: `TIDEGATE_SIM_SEED`.
#[test]
fn sim_replay() {
    let verdict = run(Scenario::draw(setting("TIDEGATE_SIM_SEED").unwrap_or(1)));
    assert!(verdict.broken.is_empty(), "{}", complaint(&[verdict]));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let told = |seed| format!("{:?}", run(Scenario::draw(seed)));
    assert_eq!(told(7), told(7));
}

#[test]
fn most_of_the_limit_is_used_when_demand_is_twice_as_high() {
    for (window, least) in [(1, 0.80), (10, 0.85)] {
        let verdict = run(Scenario::quiet(1, window, 2.0));
        assert!(verdict.broken.is_empty(), "{}", complaint(&[verdict]));
        assert!(verdict.utilisation >= least, "{} of the limit at {window} s", verdict.utilisation);
    }
}

#[test]
fn below_seven_tenths_of_the_limit_hardly_anybody_is_refused() {
    for window in [1, 10] {
        let verdict = run(Scenario::quiet(1, window, 0.7));
        assert!(verdict.refused * 50 <= verdict.asked, "{} of {} at {window} s", verdict.refused, verdict.asked);
    }
}
