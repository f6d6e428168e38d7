//! `cargo run -p tidegate-testkit --profile sim --bin sim -- --seeds N [--from S] [--seed S]`: runs seeds on all cores, prints each broken
//! promise with its replay command, and one last line with figures.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_testkit::sim::{Scenario, Verdict, run};

fn main() -> ExitCode {
    let (mut seeds, mut from, mut stop_after, mut safety) = (1_000, 0, u64::MAX, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|number| number.parse().ok());
        match (word.as_str(), number) {
            ("--seeds", Some(number)) => seeds = number,
            ("--from", Some(number)) => from = number,
            ("--seed", Some(number)) => (from, seeds) = (number, 1),
            ("--stop-after", Some(number)) => stop_after = number,
            ("--safety", Some(number)) => safety = number == 1,
            _ => {
                eprintln!("usage: sim [--seeds N] [--from SEED] [--seed SEED] [--stop-after VIOLATIONS] [--safety 1]");
                return ExitCode::from(2);
            }
        }
    }
    let began = Instant::now();
    let (next, violations, admissions) = (AtomicU64::new(from), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || violations.load(Ordering::Relaxed) >= stop_after {
                        return;
                    }
                    let verdict = run(Scenario::draw(seed));
                    admissions.fetch_add(verdict.admissions, Ordering::Relaxed);
                    if !verdict.broken.is_empty() && (verdict.is_unsafe || !safety) {
                        violations.fetch_add(1, Ordering::Relaxed);
                        complain(&verdict);
                    }
                }
            });
        }
    });
    let violations = violations.into_inner();
    eprintln!("{} admissions in {:.1} s", admissions.into_inner(), began.elapsed().as_secs_f64());
    if seeds == 1 {
        return ExitCode::from(u8::from(violations > 0)); // Somebody looks at one run: no figures in between.
    }
    let quiet = |window, demand| run(Scenario::quiet(from, window, demand));
    let calm = quiet(1, 0.7);
    println!(
        "sim seeds={seeds} violations={violations} utilisation_1s={:.3} utilisation_10s={:.3} refused_70={:.4}",
        quiet(1, 2.0).utilisation,
        quiet(10, 2.0).utilisation,
        calm.refused as f64 / calm.asked as f64,
    );
    ExitCode::from(u8::from(violations > 0))
}

fn complain(verdict: &Verdict) {
    println!("seed {}: {}\n  {}", verdict.seed, verdict.broken.join("\n  "), verdict.replay());
}
