//! `cargo xtask sim --seeds N [--from SEED]`: runs seeds on all cores, prints each broken promise with the command that
//! replays it, and one last line with figures.

use std::process::ExitCode;
use std::time::Instant;

use tidegate_testkit::seeds::{Tally, run_all};
use tidegate_testkit::sim::{Figures, Verdict};

fn main() -> ExitCode {
    let (mut seeds, mut from) = (2_000, 0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|number| number.parse().ok());
        match (word.as_str(), number) {
            ("--seeds", Some(number)) => seeds = number,
            ("--from", Some(number)) => from = number,
            ("--seed", Some(number)) => (from, seeds) = (number, 1),
            _ => {
                eprintln!("usage: sim [--seeds COUNT] [--from SEED] [--seed SEED]");
                return ExitCode::from(2);
            }
        }
    }
    let began = Instant::now();
    let tell = |tally: &Tally, broken: Option<&Verdict>| {
        if let Some(verdict) = broken {
            println!("seed {}: {}\n  {}", verdict.seed, verdict.broken.join("\n  "), verdict.replay());
        }
        let seconds = began.elapsed().as_secs();
        eprintln!("{} of {seeds} seeds, {} broken, {seconds} s", tally.runs, tally.broken.len());
    };
    let Tally { runs, admissions, broken } = run_all(from, seeds, tell);
    eprintln!("{runs} seeds, {admissions} admissions in {:.1} s; now the figures", began.elapsed().as_secs_f64());
    let figures = Figures::measure(from);
    eprintln!("{figures}");
    println!(
        "sim seeds={runs} violations={} utilisation_1s={:.4} utilisation_10s={:.4} refused_70={:.4}",
        broken.len(),
        figures.utilisation_1s,
        figures.utilisation_10s,
        figures.refused_70,
    );
    ExitCode::from(u8::from(!broken.is_empty()))
}
