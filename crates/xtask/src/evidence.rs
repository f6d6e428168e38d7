//! `cargo xtask sim` and `cargo xtask mutants`: the evidence that limits are exact, and that each guard is needed for it.

use std::process::Command;

use crate::run::{Result, become_program, cargo, root, run, target};

/// The models of threads: package, and what of it.
const MODELS: [[&str; 2]; 2] = [["tidegate-quota", "--test=loom"], ["tidegate-limiter", "--lib"]];
/// Specs that the gate runs with a guard off.
const SPECS: [[&str; 2]; 2] = [["tidegate-quota", "--tests"], ["tidegate-limiter", "--tests"]];

/// As many simulated clusters, then the figures; the last line is for machines.
/// Lives of clusters. A program of its own folder: it may tell tokio its dice, so that a seed is a run.
pub(crate) fn life(seeds: u64, from: u64, seed: Option<u64>) -> Result {
    let folder = target().join("life");
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "life", "--package", "tidegate-cluster"]);
    build.args(["--features", "life", "--bin", "life", "--config", "build.rustflags=['--cfg', 'tokio_unstable']"]);
    run(build.arg("--target-dir").arg(&folder))?;
    let mut life = Command::new(folder.join("life/life"));
    match seed {
        Some(seed) => life.args(["--seed", &seed.to_string()]),
        None => life.args(["--seeds", &seeds.to_string(), "--from", &from.to_string()]),
    };
    become_program(&mut life)
}

pub(crate) fn sim(seeds: u64, from: u64) -> Result {
    run(cargo().args(["build", "--locked", "--profile", "sim", "--package", "tidegate-testkit", "--bin", "sim"]))?;
    let mut sim = Command::new(target().join("sim/sim"));
    sim.args(["--seeds", &seeds.to_string(), "--from", &from.to_string()]);
    become_program(&mut sim)
}

/// The gate itself; the last line is for machines.
pub(crate) fn mutants(only: Option<&str>) -> Result {
    become_program(&mut gate(only)?)
}

/// The gate as a step of the tests.
pub(crate) fn no_guard_is_idle() -> Result {
    run(&mut gate(None)?)
}

/// The threads of the cell, the limiter's table and its bell under every interleaving: another build, in a folder of its
/// own. With the gate's switches, all of them on, so that the gate need not build it again.
pub(crate) fn models() -> Result {
    MODELS.iter().try_for_each(|[package, what]| run(loom(package).arg(what)))
}

fn gate(only: Option<&str>) -> Result<Command> {
    let mut build = cargo();
    build.args(["build", "--locked", "--package", "tidegate-testkit", "--features", "mutants", "--bin", "mutants"]);
    run(&mut build)?;
    for [package, what] in SPECS {
        run(cargo().args(["test", "--locked", "--no-run", "--package", package, "--features", "mutants", what]))?;
    }
    for [package, what] in MODELS {
        run(loom(package).args(["--no-run", what]))?;
    }
    let mut gate = Command::new(target().join("debug/mutants"));
    gate.current_dir(root());
    if let Some(only) = only {
        gate.args(["--only", only]);
    }
    Ok(gate)
}

fn loom(package: &str) -> Command {
    let mut loom = cargo();
    loom.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root().join("target/loom"));
    loom.args(["test", "--locked", "--features", "mutants", "--package", package]);
    loom
}
