//! `cargo xtask mutants [--only TEXT]`: turns each guard off, prints a table of what noticed, and one last line. Fails if
//! one was not noticed.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidegate_quota::guard::GUARDS;
use tidegate_testkit::mutants::challenge;
use tidegate_testkit::seeds::on_all_cores;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let only = match words.as_slice() {
        [] => "",
        [flag, text] if flag == "--only" => text.as_str(),
        _ => {
            eprintln!("usage: mutants [--only PART-OF-A-NAME]");
            return ExitCode::from(2);
        }
    };
    // A guard that is off may well panic: that is a way to be noticed.
    std::panic::set_hook(Box::new(|_| ()));
    let guards: Vec<&str> = GUARDS.iter().copied().filter(|name| name.contains(only)).collect();
    let (next, caught, table) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(()));
    on_all_cores(|| {
        while let Some(guard) = guards.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = challenge(guard);
            let row = match &outcome.caught {
                Ok(by) => {
                    caught.fetch_add(1, Ordering::Relaxed);
                    by.clone()
                }
                Err(why) => format!("NOT CAUGHT: {why}"),
            };
            let _whole_lines = table.lock();
            println!("{guard:<44} {:>6.1} s  {}", outcome.took.as_secs_f64(), shortened(&row));
        }
    });
    let caught = caught.into_inner();
    println!("mutants guards={} caught={caught}", guards.len());
    ExitCode::from(u8::from(caught < guards.len()))
}

fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 150 { line.to_owned() } else { line.chars().take(149).chain(['…']).collect() }
}
