//! The controller against upstreams of which everything is known: so many workers, so long an answer takes, and what too
//! many requests at once do to it. Time is simulated; every run is the same.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use tidegate_overload::{Learner, Seen};

struct Upstream {
    workers: usize,
    /// Microseconds an answer takes.
    takes: fn(&mut Dice) -> u64,
    /// Beyond the workers, each that waits makes all slower by so many thousandths.
    thrash: u64,
}

struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64) / ((1_u64 << 53) as f64)
    }

    fn exponential(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean) as u64
    }
}

struct Run {
    /// Answers per second.
    goodput: f64,
    limits: Vec<u32>,
    /// Mean of answers' times, in microseconds, from being let in.
    took: f64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Comes,
    Answered { began: u64, epoch: u64 },
}

/// `rate` requests a second, for so many seconds; the first `warm` are not judged. Who finds no room is turned away.
fn run(upstream: &mut Upstream, rate: f64, seconds: u64, warm: u64, seed: u64) -> Run {
    let (mut dice, mut learner) = (Dice(seed), Learner::new(1, 10_000));
    let mut events = BinaryHeap::from([Reverse((0_u64, Event::Comes))]);
    let (mut running, mut waiting) = (0_usize, VecDeque::new());
    let (mut seen, mut epoch, mut opened, mut peak_full) = (Seen::default(), 0_u64, 0_u64, false);
    let (mut answers, mut took, mut limits) = (0_u64, 0.0, Vec::new());
    while let Some(Reverse((now, event))) = events.pop() {
        if now > seconds * 1_000_000 {
            break;
        }
        match event {
            Event::Comes => {
                events.push(Reverse((now + dice.exponential(1e6 / rate), Event::Comes)));
                if running >= learner.limit() as usize {
                    peak_full = true;
                    continue;
                }
                running += 1;
                seen.peak = seen.peak.max(running as u32);
                if running > upstream.workers {
                    waiting.push_back((now, epoch));
                } else {
                    let takes = (upstream.takes)(&mut dice);
                    events.push(Reverse((now + takes, Event::Answered { began: now, epoch })));
                }
            }
            Event::Answered { began, epoch: of } => {
                running -= 1;
                if let Some((began, epoch)) = waiting.pop_front() {
                    let slower = 1_000 + upstream.thrash * waiting.len() as u64;
                    let takes = (upstream.takes)(&mut dice) * slower / 1_000;
                    events.push(Reverse((now + takes, Event::Answered { began, epoch })));
                }
                let time = (now - began).max(1) as f64 / 1e6;
                if now > warm * 1_000_000 {
                    answers += 1;
                    took += time * 1e6;
                }
                if of == epoch {
                    seen.answers += 1;
                    seen.sum += time.ln();
                    seen.squares += time.ln() * time.ln();
                }
                seen.span = Duration::from_micros(now - opened);
                seen.full = peak_full;
                if seen.is_enough(learner.limit()) {
                    learner.learn(&seen, Duration::from_micros(now));
                    (seen, peak_full, opened) = (Seen::default(), false, now);
                    seen.peak = running as u32;
                    epoch += 1;
                    limits.push(learner.limit());
                }
            }
        }
    }
    Run { goodput: answers as f64 / (seconds - warm) as f64, limits, took: took / answers.max(1) as f64 }
}

fn fixed(_: &mut Dice) -> u64 {
    50_000
}

fn scattered(dice: &mut Dice) -> u64 {
    10_000 + dice.exponential(40_000.0)
}

#[test]
fn at_three_times_its_capacity_an_upstream_stays_busy_and_is_not_buried() {
    for (workers, seed) in [(2, 1), (8, 2), (16, 3), (64, 4), (300, 5)] {
        let mut upstream = Upstream { workers, takes: fixed, thrash: 0 };
        let peak = workers as f64 * 20.0;
        let run = run(&mut upstream, 3.0 * peak, 40, 10, seed);
        assert!(run.goodput >= 0.93 * peak, "{workers} workers: {} of {peak}, {:?}", run.goodput, run.limits);
        let most = if workers <= 2 { 2.6 } else { 1.7 };
        assert!(run.took <= most * 50_000.0, "{workers} workers: {} µs, {:?}", run.took, run.limits);
    }
}

#[test]
fn an_upstream_that_thrashes_is_kept_from_it() {
    let mut upstream = Upstream { workers: 16, takes: fixed, thrash: 30 };
    let run = run(&mut upstream, 960.0, 40, 10, 7);
    assert!(run.goodput >= 0.85 * 320.0, "{} {:?}", run.goodput, run.limits);
}

#[test]
fn times_that_scatter_do_not_look_like_load() {
    for seed in 11..21 {
        let mut upstream = Upstream { workers: 10_000, takes: scattered, thrash: 0 };
        // Some two hundred at once, and nothing that would be too much.
        let run = run(&mut upstream, 4_000.0, 40, 20, seed);
        assert!(run.goodput >= 0.97 * 4_000.0, "{} {:?}", run.goodput, run.limits);
    }
}

#[test]
fn an_upstream_that_becomes_slower_is_believed() {
    // Five times as slow at five times the concurrency: it works on as many as are asked.
    let mut learner = Learner::new(1, 10_000);
    let mut now = Duration::ZERO;
    let mut limit_of = |learner: &mut Learner, seconds: f64, windows: u32| {
        for _ in 0..windows {
            now += Duration::from_millis(200);
            let (n, time) = (100_u32, seconds.ln());
            let span = Duration::from_millis(200);
            let (sum, squares) = (f64::from(n) * time, f64::from(n) * time * time);
            let peak = learner.limit();
            learner.learn(&Seen { answers: n, sum, squares, failures: 0, peak, full: true, span }, now);
        }
        learner.limit()
    };
    let before = limit_of(&mut learner, 0.05, 20);
    let after = limit_of(&mut learner, 0.25, 60);
    assert!(after > before / 2, "{before} then {after}");
}

#[test]
fn failures_alone_lower_the_limit_and_it_comes_back() {
    let mut learner = Learner::new(2, 500);
    let good = Seen { answers: 50, peak: 400, full: true, span: Duration::from_millis(200), ..Seen::default() };
    (0..200).for_each(|i| {
        learner.learn(&good, Duration::from_millis(i * 200));
    });
    let before = learner.limit();
    assert!(before >= 400, "{before}");
    let bad = Seen { answers: 0, failures: 50, ..good };
    (0..40).for_each(|i| {
        learner.learn(&bad, Duration::from_millis(40_000 + i * 200));
    });
    let low = learner.limit();
    assert!((2..=6).contains(&low), "{low}");
    (0..400).for_each(|i| {
        learner.learn(&good, Duration::from_millis(50_000 + i * 200));
    });
    assert!(learner.limit() > 100, "{}", learner.limit());
}

proptest::proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds(
        min in 1_u32..50, more in 0_u32..1_000,
        windows in proptest::collection::vec((0_u32..300, 0.0001_f64..60.0, 0_u32..300, 0_u32..2_000, proptest::bool::ANY), 1..80),
    ) {
        let max = min + more;
        let mut learner = Learner::new(min, max);
        for (i, (answers, time, failures, peak, full)) in windows.into_iter().enumerate() {
            let (n, ln) = (f64::from(answers), time.ln());
            let seen = Seen {
                answers, sum: n * ln, squares: n * ln * ln, failures, peak, full, span: Duration::from_secs(1),
            };
            let limit = learner.learn(&seen, Duration::from_secs(i as u64));
            proptest::prop_assert!((min..=max).contains(&limit));
        }
    }
}
