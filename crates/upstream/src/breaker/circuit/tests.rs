use std::time::Duration;

use tidegate_policy::{Breaker, Slow};

use super::*;
use Step::{Fail, Ok, Probe, Rule, Slowly, Tick};

const ME: u64 = 1;

/// Opens at half of twenty in ten seconds, for five seconds, then six seconds of ramp.
fn rules() -> Breaker {
    Breaker {
        error_ratio: 0.5,
        window: Duration::from_secs(10),
        min_requests: 20,
        consecutive: None,
        slow: None,
        open_for: Duration::from_secs(5),
        longest_open: Duration::from_secs(60),
        ramp: Duration::from_secs(6),
        max_ejected: 0.5,
        statuses: vec![(502, 504)],
        fallback: None,
        stored: None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Ok(u64),
    Slowly(u64),
    Fail(u64),
    /// With or without a cluster that decides.
    Tick(bool),
    /// The probe ended: well, badly, or its client left.
    Probe(Option<bool>),
    Rule(u64, Stand),
}

/// Each line: the second, what happens, what may pass after it.
fn check(rules: &Breaker, script: &[(u64, Step, Pass)]) {
    let mut totals = Counts::default();
    let mut circuit = Circuit::new(rules, totals);
    for (line, (second, step, expected)) in script.iter().enumerate() {
        let now = 100_000 + second * 1_000;
        match *step {
            Ok(count) | Slowly(count) => {
                totals.ok += count;
                totals.slow += if matches!(step, Slowly(_)) { count } else { 0 };
                circuit.ok();
                circuit.tick(rules, totals, true, now);
            }
            Fail(count) => {
                for _ in 0..count {
                    totals.failed += 1;
                    circuit.failed(rules, totals, now);
                }
            }
            Tick(live) => circuit.tick(rules, totals, live, now),
            Probe(good) => {
                assert!(circuit.take_probe() && !circuit.take_probe(), "line {line}: one probe");
                assert_eq!(circuit.pass(rules, now), Pass::Nothing, "line {line}: nothing beside the probe");
                circuit.probe_ended(rules, good, totals, now);
            }
            Rule(epoch, stand) => {
                circuit.rule(rules, Ruling { epoch, stand, ..Ruling::default() }, ME, totals, now);
            }
        }
        assert_eq!(circuit.pass(rules, now), *expected, "line {line}: {step:?} at {second} s: {circuit:?}");
    }
}

#[test]
fn half_of_twenty_open_it_and_a_good_probe_closes_it_step_by_step() {
    check(
        &rules(),
        &[
            (0, Ok(10), Pass::All),
            (0, Fail(9), Pass::All),
            (0, Fail(1), Pass::Nothing),
            (4, Tick(true), Pass::Nothing),
            (5, Tick(true), Pass::One),
            (5, Probe(Some(true)), Pass::Share(10)),
            (7, Tick(true), Pass::Share(25)),
            (9, Tick(true), Pass::Share(50)),
            (11, Tick(true), Pass::All),
        ],
    );
}

#[test]
fn a_bad_probe_doubles_the_pause_up_to_the_longest() {
    let mut rules = rules();
    rules.longest_open = Duration::from_secs(12);
    check(
        &rules,
        &[
            (0, Fail(20), Pass::Nothing),
            (5, Tick(true), Pass::One),
            (5, Probe(Some(false)), Pass::Nothing),
            (14, Tick(true), Pass::Nothing),
            (15, Tick(true), Pass::One),
            (15, Probe(Some(false)), Pass::Nothing),
            (26, Tick(true), Pass::Nothing),
            (27, Tick(true), Pass::One),
        ],
    );
}

#[test]
fn a_probe_whose_client_left_says_nothing() {
    check(
        &rules(),
        &[
            (0, Fail(20), Pass::Nothing),
            (5, Tick(true), Pass::One),
            (5, Probe(None), Pass::One),
            (5, Probe(Some(true)), Pass::Share(10)),
        ],
    );
}

#[test]
fn few_calls_say_nothing_and_old_ones_are_forgotten() {
    check(&rules(), &[(0, Fail(19), Pass::All), (10, Tick(true), Pass::All), (10, Fail(1), Pass::All)]);
}

#[test]
fn failures_in_a_row_open_it_whatever_the_window_says() {
    let rules = Breaker { consecutive: Some(5), ..rules() };
    check(
        &rules,
        &[
            (0, Ok(1_000), Pass::All),
            (0, Fail(4), Pass::All),
            (0, Ok(1), Pass::All),
            (0, Fail(4), Pass::All),
            (0, Fail(1), Pass::Nothing),
        ],
    );
}

#[test]
fn slow_answers_are_as_bad_as_failed_ones() {
    let rules = Breaker { slow: Some(Slow { over: Duration::from_secs(1), ratio: 0.8 }), ..rules() };
    check(&rules, &[(0, Ok(20), Pass::All), (0, Slowly(79), Pass::All), (0, Slowly(1), Pass::Nothing)]);
}

#[test]
fn a_relapse_on_the_ramp_needs_few_calls() {
    check(
        &rules(),
        &[
            (0, Fail(20), Pass::Nothing),
            (5, Tick(true), Pass::One),
            (5, Probe(Some(true)), Pass::Share(10)),
            (6, Fail(2), Pass::Share(10)),
            (6, Fail(1), Pass::Nothing),
        ],
    );
}

#[test]
fn the_clusters_verdict_holds_until_the_cluster_says_otherwise() {
    check(
        &rules(),
        &[
            (0, Rule(1, Stand::Open { round: 0 }), Pass::Nothing),
            (60, Tick(true), Pass::Nothing),
            (60, Rule(2, Stand::HalfOpen { round: 0, node: 2 }), Pass::Nothing),
            (60, Rule(3, Stand::HalfOpen { round: 0, node: ME }), Pass::One),
            (60, Probe(Some(true)), Pass::Nothing), // The leader has the word.
            (61, Rule(2, Stand::Open { round: 9 }), Pass::Nothing),
            (61, Rule(4, Stand::Closed), Pass::Share(10)),
        ],
    );
}

#[test]
fn without_a_cluster_an_open_breaker_is_probed_by_own_clock() {
    check(
        &rules(),
        &[
            (0, Rule(1, Stand::Open { round: 0 }), Pass::Nothing),
            (6, Tick(false), Pass::Nothing),
            (7, Tick(false), Pass::One),
            (7, Probe(Some(true)), Pass::Share(10)),
        ],
    );
}

#[test]
fn healthy_evidence_of_its_own_vetoes_until_the_next_failure() {
    check(
        &rules(),
        &[
            (0, Ok(10), Pass::All),
            (0, Fail(1), Pass::All), // It knows of trouble,
            (1, Ok(1), Pass::All),   // and it went well after.
            (1, Rule(1, Stand::Open { round: 0 }), Pass::All),
            (2, Ok(50), Pass::All),
            (2, Fail(1), Pass::Nothing),
        ],
    );
}

#[test]
fn what_went_well_before_the_trouble_is_no_veto() {
    check(&rules(), &[(0, Ok(1_000), Pass::All), (0, Rule(1, Stand::Open { round: 0 }), Pass::Nothing)]);
}

#[test]
fn it_knows_how_long_a_streak_opens_it() {
    for (ok, failed, consecutive) in [(0, 0, None), (10, 5, None), (100, 0, None), (100, 99, None), (7, 3, Some(4))] {
        let rules = Breaker { consecutive, ..rules() };
        let mut totals = Counts { ok, failed, slow: 0 };
        let mut circuit = Circuit::new(&rules, Counts::default());
        circuit.tick(&rules, totals, true, 1_000);
        let alone = circuit.evidence(&rules, totals, 1_000).alone;
        let mut streak = 0;
        while circuit.pass(&rules, 1_000) == Pass::All {
            totals.failed += 1;
            streak += 1;
            circuit.failed(&rules, totals, 1_000);
            let told = circuit.evidence(&rules, totals, 1_000);
            assert_eq!((told.streak, told.alone), (streak, alone), "{ok} {failed}");
        }
        assert_eq!(streak, alone, "{ok} went well, {failed} failed");
    }
}
