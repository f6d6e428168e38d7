//! `cargo xtask hostile`, and a step of the tests: hostile clients and backends against a real node, byte by byte. The run itself
//! is `tests/hostile/run.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::places;
use crate::prerequisites::{CURL, Consent, HAPROXY, NODE, NPM, OPENSSL, PYTHON, SLOWHTTPTEST, TESTSSL, ensure};
use crate::run::{Result, cargo, root, run, target};

pub(crate) fn all(consent: Consent, only: Option<&str>) -> Result {
    let python = place(consent)?;
    run(cargo().args(["build", "--locked", "--package", "tidegate", "--features", "h3"]))?;
    ask(&python, only)
}

/// The program is built, with `h3`.
pub(crate) fn as_a_test(consent: Consent) -> Result {
    let what = "hostile clients and backends against a node (tests/hostile)";
    places::as_a_test(place(consent), |python| ask(python, None), what, "hostile")
}

fn place(consent: Consent) -> Result<PathBuf> {
    ensure(&[PYTHON, NODE, NPM, CURL, HAPROXY, OPENSSL, SLOWHTTPTEST, TESTSSL], consent)?;
    places::node("hostile")?;
    places::python("hostile")
}

fn ask(python: &Path, only: Option<&str>) -> Result {
    let mut asks = Command::new(python);
    asks.current_dir(root()).env("PYTHONDONTWRITEBYTECODE", "1").arg("tests/hostile/run.py");
    asks.arg(target().join("debug").join("tidegate"));
    if let Some(only) = only {
        asks.args(["--only", only]);
    }
    run(&mut asks)
}
