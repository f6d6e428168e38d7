//! `cargo xtask sdks`, and a step of the tests: official SDKs from PyPI and npm ask a real node, in front of fake providers and
//! of a real llama.cpp server. The run itself is `tests/sdks/run.py`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::places;
use crate::prerequisites::{Consent, NODE, NPM, PYTHON, ensure};
use crate::run::{Result, cargo, root, run, target};

pub(crate) fn all(consent: Consent, only: Option<&str>) -> Result {
    let python = place(consent)?;
    run(cargo().args(["build", "--locked", "--package", "tidegate"]))?;
    ask(&python, only)
}

/// The program is built.
pub(crate) fn as_a_test(consent: Consent) -> Result {
    let what = "official SDKs against a node (tests/sdks)";
    places::as_a_test(place(consent), |python| ask(python, None), what, "sdks")
}

fn ask(python: &Path, only: Option<&str>) -> Result {
    let mut asks = Command::new(python);
    asks.current_dir(root()).env("PYTHONDONTWRITEBYTECODE", "1").arg("tests/sdks/run.py");
    asks.arg(target().join("debug").join("tidegate")).arg(node());
    if let Some(only) = only {
        asks.args(["--only", only]);
    }
    run(&mut asks)
}

fn place(consent: Consent) -> Result<PathBuf> {
    ensure(&[PYTHON, NODE, NPM], consent)?;
    let python = places::python("sdks")?;
    places::node("sdks")?;
    Ok(python)
}

fn node() -> PathBuf {
    target().join("sdks/node")
}
