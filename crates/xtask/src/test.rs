//! `cargo xtask test`: builds and runs every test; the runner's summary is the last thing it prints.

use std::env;

use crate::evidence;
use crate::prerequisites::{C_COMPILER, Consent, HAPROXY, PEBBLE, ensure};
use crate::run::{Result, cargo, find_program, root, run, say};
use crate::{admin, chaos, deploy, hostile, sdks};

/// What is not built by default is tested as well, and all from one build.
const WITH: [&str; 2] = ["--features", "tidegate/h3"];

pub(crate) fn all(consent: Consent, runner: &[String]) -> Result {
    ensure(&[C_COMPILER, HAPROXY, PEBBLE], consent)?;
    // The specs over real processes start this program.
    run(cargo().args(["build", "--locked", "--workspace", "--all-targets"]).args(WITH))?;
    run(with_fixtures(cargo().args(["test", "--locked", "--workspace", "--doc", "--quiet"]).args(WITH)))?;
    evidence::models()?;
    evidence::no_guard_is_idle()?;
    hostile::as_a_test(consent)?;
    deploy::as_a_test(consent)?;
    admin::as_a_test(consent)?;
    chaos::as_a_test()?;
    sdks::as_a_test(consent)?;
    // Nextest runs each test in a process of its own and ends with one summary line. cargo's own runner does as well,
    // with a summary for each test program.
    if find_program("cargo-nextest").is_some() {
        run(with_fixtures(cargo().args(["nextest", "run", "--locked", "--workspace"]).args(WITH).args(runner)))
    } else {
        say("cargo-nextest is not installed; cargo's own runner is slower and does as well");
        run(with_fixtures(cargo().args(["test", "--locked", "--workspace", "--all-targets"]).args(WITH).args(runner)))
    }
}

/// Recorded answers of other people's servers, where someone has them: TIDEGATE_FIXTURES, or a folder beside ours.
fn with_fixtures(command: &mut std::process::Command) -> &mut std::process::Command {
    if env::var_os("TIDEGATE_FIXTURES").is_none() {
        let beside = root().join("../shared/fixtures");
        if beside.is_dir() {
            command.env("TIDEGATE_FIXTURES", beside);
        }
    }
    command
}
