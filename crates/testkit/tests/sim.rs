//! The escrow protocol under everything that can go wrong: a slice of seeds, and the way back to any one of them.

use tidegate_testkit::checks;
use tidegate_testkit::seeds::run_all;
use tidegate_testkit::sim::{Scenario, Verdict, run};

const SEEDS: u64 = 200;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn complaint(broken: &[Verdict]) -> String {
    broken.iter().map(|verdict| format!("{}\n  {}\n", verdict.broken.join("\n"), verdict.replay())).collect()
}

#[test]
fn no_window_admits_more_than_its_limit_whatever_goes_wrong() {
    let from = setting("TIDEGATE_SIM_FROM").unwrap_or(0);
    let broken = run_all(from, setting("TIDEGATE_SIM_SEEDS").unwrap_or(SEEDS), |_, _| ()).broken;
    assert!(broken.is_empty(), "{}", complaint(&broken));
}

#[test]
fn every_directed_scenario_ends_well() {
    for (name, check) in checks::ALL {
        assert_eq!(check(), Ok(()), "{name}");
    }
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
    for (window, least) in [(1, 0.95), (10, 0.97), (60, 0.98)] {
        let verdict = run(Scenario::quiet(1, window, 2.0));
        assert!(verdict.broken.is_empty(), "{}", complaint(&[verdict]));
        assert!(verdict.utilisation >= least, "{} of the limit at {window} s", verdict.utilisation);
    }
}

#[test]
fn below_seven_tenths_of_the_limit_hardly_anybody_is_refused() {
    for window in [1, 10] {
        let verdict = run(Scenario::quiet(1, window, 0.7));
        assert!(verdict.refused * 1_000 <= verdict.asked, "{} of {} at {window} s", verdict.refused, verdict.asked);
    }
}
