//! `cargo xtask sdks`, and a step of the tests: official SDKs from PyPI and npm ask a real node, in front of fake providers and
//! of a real llama.cpp server. The run itself is `tests/sdks/run.py`; this makes the place with the SDKs, once for each list
//! of versions, in target/sdks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::prerequisites::{Consent, NODE, NPM, PYTHON, ensure, in_ci};
use crate::run::{Result, Stopped, cargo, root, run, say, target};

pub(crate) fn all(consent: Consent, only: Option<&str>) -> Result {
    place(consent)?;
    run(cargo().args(["build", "--locked", "--package", "tidegate"]))?;
    ask(only)
}

/// The program is built. Where the SDKs cannot be had, CI fails; elsewhere a person is told.
pub(crate) fn as_a_test(consent: Consent) -> Result {
    match place(consent) {
        Ok(()) => ask(None),
        Err(why) if in_ci() => Err(why),
        Err(why) => {
            say("SKIPPED: official SDKs against a node (tests/sdks)");
            say(&format!("         {why}"));
            say("         CI does not skip them; `cargo xtask sdks` runs them alone");
            Ok(())
        }
    }
}

fn ask(only: Option<&str>) -> Result {
    let mut asks = Command::new(python());
    asks.current_dir(root()).env("PYTHONDONTWRITEBYTECODE", "1").arg("tests/sdks/run.py");
    asks.arg(target().join("debug").join("tidegate")).arg(folder().join("node"));
    if let Some(only) = only {
        asks.args(["--only", only]);
    }
    run(&mut asks)
}

fn place(consent: Consent) -> Result {
    ensure(&[PYTHON, NODE, NPM], consent)?;
    let folder = folder();
    fs::create_dir_all(folder.join("node"))
        .map_err(|why| Stopped(format!("cannot make {}: {why}", folder.display())))?;
    python_place()?;
    node_place()
}

fn python_place() -> Result {
    let wanted = root().join("tests/sdks/requirements.txt");
    let stamp = folder().join("requirements.txt");
    if is_same(&wanted, &stamp) && python().is_file() {
        return Ok(());
    }
    let venv = folder().join("python");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"]);
    run(pip.arg("--requirement").arg(&wanted))
        .map_err(|why| Stopped(format!("{why}: are Python ≥ 3.11 and PyPI there?")))?;
    copy(&wanted, &stamp)
}

fn node_place() -> Result {
    let (from, to) = (root().join("tests/sdks/node"), folder().join("node"));
    let files = fs::read_dir(&from).map_err(|why| Stopped(format!("cannot read {}: {why}", from.display())))?;
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "mjs")) {
        copy(&file.path(), &to.join(file.file_name()))?;
    }
    let stamp = folder().join("package-lock.json");
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

fn folder() -> PathBuf {
    target().join("sdks")
}

fn python() -> PathBuf {
    folder().join("python/bin/python")
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to)
        .map(drop)
        .map_err(|why| Stopped(format!("cannot copy {} to {}: {why}", from.display(), to.display())))
}
