//! Places for other people's packages under target/, made once for each list of exact versions; and runs that need one: part of
//! the tests where it can be had, and said loudly where not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::prerequisites::in_ci;
use crate::run::{Result, Stopped, root, run, say, target};

/// A Python of its own in target/NAME, with what `tests/NAME/requirements.txt` names. Its program.
pub(crate) fn python(name: &str) -> Result<PathBuf> {
    let folder = target().join(name);
    fs::create_dir_all(&folder).map_err(|why| Stopped(format!("cannot make {}: {why}", folder.display())))?;
    let wanted = root().join("tests").join(name).join("requirements.txt");
    let (stamp, venv) = (folder.join("requirements.txt"), folder.join("python"));
    let program = venv.join("bin/python");
    if is_same(&wanted, &stamp) && program.is_file() {
        return Ok(program);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--no-deps"]);
    run(pip.arg("--requirement").arg(&wanted))
        .map_err(|why| Stopped(format!("{why}: are Python ≥ 3.11 and PyPI there?")))?;
    copy(&wanted, &stamp)?;
    Ok(program)
}

/// The same for Node.js, in target/NAME/node: packages, and the programs of tests/NAME/node, which find them there.
pub(crate) fn node(name: &str) -> Result {
    let (from, to) = (root().join("tests").join(name).join("node"), target().join(name).join("node"));
    fs::create_dir_all(&to).map_err(|why| Stopped(format!("cannot make {}: {why}", to.display())))?;
    let files = fs::read_dir(&from).map_err(|why| Stopped(format!("cannot read {}: {why}", from.display())))?;
    for file in files.flatten().filter(|file| file.path().extension().is_some_and(|kind| kind == "mjs")) {
        copy(&file.path(), &to.join(file.file_name()))?;
    }
    let stamp = target().join(name).join("package-lock.json");
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

/// A step of the tests. Where its place cannot be had, CI fails; elsewhere a person is told.
pub(crate) fn as_a_test(place: Result<PathBuf>, ask: impl FnOnce(&Path) -> Result, what: &str, verb: &str) -> Result {
    match place {
        Ok(python) => ask(&python),
        Err(why) if in_ci() => Err(why),
        Err(why) => {
            say(&format!("SKIPPED: {what}"));
            say(&format!("         {why}"));
            say(&format!("         CI does not skip it; `cargo xtask {verb}` runs it alone"));
            Ok(())
        }
    }
}

pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to)
        .map(drop)
        .map_err(|why| Stopped(format!("cannot copy {} to {}: {why}", from.display(), to.display())))
}
