//! What the demo and the load test run: the program and the harness, optimised.

use std::path::PathBuf;
use std::process::Command;

use crate::run::{Result, cargo, run, target};

/// Builds both with the profile; returns the harness.
pub(crate) fn harness(profile: &str) -> Result<PathBuf> {
    build(profile, &["tidegate", "tidegate-loadtest"])
}

/// For who brings a program.
pub(crate) fn harness_alone(profile: &str) -> Result<PathBuf> {
    build(profile, &["tidegate-loadtest"])
}

fn build(profile: &str, packages: &[&str]) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", profile]);
    run(build.args(packages.iter().flat_map(|name| ["--package", name])))?;
    // Cargo's own name for the folder of its default profile.
    let folder = if profile == "dev" { "debug" } else { profile };
    Ok(target().join(folder).join("tidegate-loadtest"))
}

/// The harness with its arguments, in the folder of the workspace.
pub(crate) fn call(harness: PathBuf, arguments: &[&str]) -> Command {
    let mut command = Command::new(harness);
    command.current_dir(crate::run::root()).args(arguments);
    command
}
