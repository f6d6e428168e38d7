//! `cargo xtask admin`, and a step of the tests: the admin API fuzzed against its own OpenAPI document. The run itself is
//! `tests/admin/run.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::places;
use crate::prerequisites::{Consent, PYTHON, ensure};
use crate::run::{Result, cargo, root, run, target};

/// How much is tried, and from which seed. A step of the tests has its own: the same each time.
#[derive(Default)]
pub(crate) struct Order {
    pub(crate) seed: Option<u64>,
    pub(crate) examples: Option<u32>,
}

pub(crate) fn all(consent: Consent, order: &Order) -> Result {
    let python = place(consent)?;
    run(cargo().args(["build", "--locked", "--package", "tidegate"]))?;
    ask(&python, order)
}

/// The program is built.
pub(crate) fn as_a_test(consent: Consent) -> Result {
    let what = "the admin API against its OpenAPI document (tests/admin)";
    places::as_a_test(place(consent), |python| ask(python, &Order::default()), what, "admin")
}

fn place(consent: Consent) -> Result<PathBuf> {
    ensure(&[PYTHON], consent)?;
    places::python("admin")
}

fn ask(python: &Path, order: &Order) -> Result {
    let mut asks = Command::new(python);
    asks.current_dir(root()).env("PYTHONDONTWRITEBYTECODE", "1").arg("tests/admin/run.py");
    asks.arg(target().join("debug").join("tidegate"));
    if let Some(seed) = order.seed {
        asks.args(["--seed", &seed.to_string()]);
    }
    if let Some(examples) = order.examples {
        asks.args(["--examples", &examples.to_string()]);
    }
    run(&mut asks)
}
