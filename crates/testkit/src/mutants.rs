//! The mutation gate: each guard of the protocol is turned off, and something must notice. A guard that nothing notices
//! is either no guard or one that nothing holds in place.
//!
//! One build (feature `mutants`); the guard is chosen by name while it runs. Called by `cargo xtask mutants`.

mod list;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_quota::guard::without;

pub use self::list::plan;
use crate::checks;
use crate::sim::{Family, Scenario, run};

/// Seeds that are tried before a guard counts as not caught.
const MOST_SEEDS: u64 = 640;

/// What is expected to notice that a guard is off.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// The simulation, with seeds of this family.
    Seeds(Family),
    /// A directed scenario of `checks.rs`.
    Check(&'static str),
    /// A spec: package, test target, name of the test.
    Spec(&'static str, &'static str, &'static str),
    /// A model under loom: package, test target, name of the test.
    Loom(&'static str, &'static str, &'static str),
}

/// What became of one guard.
#[derive(Debug)]
pub struct Outcome {
    pub guard: &'static str,
    /// `Err`: nothing noticed.
    pub caught: Result<String, String>,
    pub took: Duration,
}

/// Turns one guard off and looks who notices.
#[must_use]
pub fn challenge(guard: &'static str) -> Outcome {
    let began = Instant::now();
    let mut caught = Err("nothing is planned to notice it".to_owned());
    for by in plan(guard) {
        caught = by.notices(guard);
        if caught.is_ok() {
            break;
        }
    }
    Outcome { guard, caught, took: began.elapsed() }
}

impl By {
    fn notices(self, guard: &'static str) -> Result<String, String> {
        match self {
            Self::Seeds(family) => seeds(guard, family),
            Self::Check(name) => check(guard, name),
            Self::Spec(package, target, name) => spec(guard, package, target, name, false),
            Self::Loom(package, target, name) => spec(guard, package, target, name, true),
        }
    }
}

fn seeds(guard: &'static str, family: Family) -> Result<String, String> {
    // One seed in eight is wild.
    let most = if family == Family::Wild { 8 * MOST_SEEDS } else { MOST_SEEDS };
    for seed in (0..most).filter(|seed| family.has(*seed)) {
        let breaks = || run(Scenario::draw(seed)).broken.into_iter().next();
        let Some(what) = without(guard, || quietly(breaks)) else { continue };
        // Only with the guard off: a run that breaks anyhow proves nothing.
        if let Some(broken) = quietly(breaks) {
            return Err(format!("seed {seed} breaks with every guard on: {broken}"));
        }
        return Ok(format!("seed {seed}: {what}"));
    }
    Err(format!("no seed below {most} of {family:?} notices"))
}

fn check(guard: &'static str, name: &'static str) -> Result<String, String> {
    let Some((_, check)) = checks::ALL.iter().find(|(known, _)| *known == name) else {
        return Err(format!("there is no check {name}"));
    };
    let fails = || check().err();
    if let Some(broken) = quietly(fails) {
        return Err(format!("{name} fails with every guard on: {broken}"));
    }
    match without(guard, || quietly(fails)) {
        Some(what) => Ok(format!("{name}: {what}")),
        None => Err(format!("{name} does not notice")),
    }
}

/// What is wrong, a panic included; its message is not printed.
fn quietly(what: impl Fn() -> Option<String>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(what)).unwrap_or_else(|_| Some("it panics".to_owned()))
}

/// Runs one test of the same build, with the guard off in its process: it must fail, by a test that failed.
fn spec(guard: &'static str, package: &str, target: &str, name: &str, loom: bool) -> Result<String, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--locked", "--quiet", "--package", package, "--features", "mutants"]);
    cargo.args(if target == "lib" { vec!["--lib"] } else { vec!["--test", target] });
    cargo.args(["--", "--exact", name]).env("TIDEGATE_GUARD_OFF", guard).stdin(Stdio::null());
    if loom {
        cargo.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", "target/loom");
    }
    let output = cargo.output().map_err(|why| format!("cannot run cargo: {why}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("test result: FAILED. 0 passed; 1 failed") {
        return Ok(format!("{package} {target}: {}", name.rsplit("::").next().unwrap_or(name)));
    }
    if !said.contains("1 passed") {
        return Err(format!("{package} has no test {name} in {target}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Err(format!("{name} of {package} does not notice"))
}
