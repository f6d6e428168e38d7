//! `cargo xtask life --seeds N [--from SEED]`: lives of clusters on all cores, each broken promise with the command that shows its
//! story, and one last line with figures. `--seed SEED` tells the story of one.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use tidegate_cluster::life::{Verdict, run};

fn main() -> ExitCode {
    let (mut seeds, mut from, mut tells) = (200, 0, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let number = words.next().and_then(|number| number.parse().ok());
        match (word.as_str(), number) {
            ("--seeds", Some(number)) => seeds = number,
            ("--from", Some(number)) => from = number,
            ("--seed", Some(number)) => (from, seeds, tells) = (number, 1, true),
            _ => {
                eprintln!("usage: life [--seeds COUNT] [--from SEED] [--seed SEED]");
                return ExitCode::from(2);
            }
        }
    }
    let verdicts = all(from, seeds, tells);
    let sum = |of: fn(&Verdict) -> u64| verdicts.iter().map(of).sum::<u64>();
    let violations = verdicts.iter().filter(|verdict| !verdict.broken.is_empty()).count();
    println!(
        "life seeds={} violations={violations} faults={} entries={} acknowledged={} reads={} admitted={}",
        verdicts.len(),
        sum(|it| it.faults),
        sum(|it| it.entries),
        sum(|it| it.acknowledged),
        sum(|it| it.reads),
        sum(|it| it.admitted),
    );
    ExitCode::from(u8::from(violations > 0))
}

fn all(from: u64, seeds: u64, tells: bool) -> Vec<Verdict> {
    let (next, done, began) = (AtomicU64::new(from), Mutex::new(Vec::new()), Instant::now());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let verdict = run(seed, tells);
                    if !verdict.broken.is_empty() {
                        println!("seed {seed}: {}\n  cargo xtask life --seed {seed}", verdict.broken.join("\n  "));
                    }
                    let mut done = done.lock().expect("no thread panics with it");
                    done.push(verdict);
                    if done.len() % 20 == 0 {
                        eprintln!("{} of {seeds} lives, {:.0} s", done.len(), began.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    done.into_inner().expect("no thread panics with it")
}
