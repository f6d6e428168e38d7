//! `cargo xtask sdks`, and a step of the tests: official SDKs from PyPI and npm ask a real node, in front of fake providers and
//! of a real llama.cpp server. The run itself is `tests/sdks/run.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::places::{self, copy, is_same};
use crate::prerequisites::{Consent, NODE, NPM, PYTHON, ensure};
use crate::run::{Result, Stopped, cargo, root, run, target};

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
    node_place()?;
    Ok(python)
}

fn node_place() -> Result {
    let (from, to) = (root().join("tests/sdks/node"), node());
    fs::create_dir_all(&to).map_err(|why| Stopped(format!("cannot make {}: {why}", to.display())))?;
    let files = fs::read_dir(&from).map_err(|why| Stopped(format!("cannot read {}: {why}", from.display())))?;
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "mjs")) {
        copy(&file.path(), &to.join(file.file_name()))?;
    }
    let stamp = target().join("sdks/package-lock.json");
    if is_same(&from.join("package-lock.json"), &stamp) && to.join("node_modules").is_dir() {
        return Ok(());
    }
    for file in ["package.json", "package-lock.json"] {
        copy(&from.join(file), &to.join(file))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(&to).args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]);
    run(&mut npm).map_err(|why| Stopped(format!("{why}: are Node.js ≥ 18 and npm's registry there?")))?;
    copy(&from.join("package-lock.json"), &stamp)
}

fn node() -> PathBuf {
    target().join("sdks/node")
}
