//! The samples in `deploy/` and the templates in `loadtest/conf/`: each is read by the program it is meant for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::places;
use crate::prerequisites::{Consent, PYTHON, ensure};
use crate::run::{Result, Stopped, cargo, check as quietly, find_program, root, run, say, target};

/// The chart and compose.yaml, by `tests/deploy/run.py`.
pub(crate) fn all(consent: Consent) -> Result {
    let python = place(consent)?;
    run(cargo().args(["build", "--locked", "--package", "tidegate"]))?;
    ask(&python)
}

/// The program is built.
pub(crate) fn as_a_test(consent: Consent) -> Result {
    places::as_a_test(place(consent), ask, "the chart and compose.yaml of deploy/ (tests/deploy)", "deploy")
}

fn place(consent: Consent) -> Result<PathBuf> {
    ensure(&[PYTHON], consent)?;
    places::python("deploy")
}

fn ask(python: &Path) -> Result {
    let mut asks = Command::new(python);
    asks.current_dir(root()).env("PYTHONDONTWRITEBYTECODE", "1").arg("tests/deploy/run.py");
    run(asks.arg(target().join("debug").join("tidegate")))
}

/// Checks what can be checked with the programs that are installed; says what was skipped.
pub(crate) fn check() -> Result {
    let scratch = std::env::temp_dir().join(format!("tidegate-deploy-{}", process::id()));
    fs::create_dir_all(&scratch).map_err(|why| Stopped(why.to_string()))?;
    let checked = samples(&scratch);
    let _ = fs::remove_dir_all(&scratch);
    checked
}

fn samples(scratch: &Path) -> Result {
    let deploy = root().join("deploy");
    for name in ["haproxy.cfg", "compose-haproxy.cfg"] {
        with("haproxy", &format!("deploy/{name}"), |haproxy| {
            let text = locally(&read(&deploy.join(name))?);
            quietly(Command::new(haproxy).arg("-c").arg("-f").arg(write(scratch, name, &text)?))
        })?;
    }
    with("nginx", "deploy/nginx.conf", |nginx| {
        let text = locally(&read(&deploy.join("nginx.conf"))?)
            .replace("/run/nginx.pid", &scratch.join("nginx.pid").display().to_string())
            .replace("/var/log/nginx", &scratch.display().to_string());
        let file = write(scratch, "nginx.conf", &text)?;
        quietly(Command::new(nginx).arg("-t").arg("-p").arg(scratch).arg("-c").arg(file))
    })?;
    with("systemd-analyze", "deploy/tidegate.service", |analyze| {
        // The program it starts is not installed here.
        let text = read(&deploy.join("tidegate.service"))?.replace("/usr/bin/tidegate", "/bin/true");
        quietly(Command::new(analyze).arg("verify").arg(write(scratch, "tidegate.service", &text)?))
    })?;
    with("docker", "deploy/compose.yaml", |docker| {
        if quietly(Command::new(&docker).args(["compose", "version"])).is_err() {
            say("skipped: deploy/compose.yaml (docker has no compose)");
            return Ok(());
        }
        quietly(
            Command::new(docker).args(["compose", "-f"]).arg(deploy.join("compose.yaml")).args(["config", "--quiet"]),
        )
    })
}

/// Runs the check if its program is there.
fn with(program: &str, what: &str, check: impl FnOnce(PathBuf) -> Result) -> Result {
    match find_program(program) {
        None => say(&format!("skipped: {what} ({program} is not installed)")),
        Some(path) => {
            say(&format!("{program} reads {what}"));
            check(path)?;
        }
    }
    Ok(())
}

/// The samples name hosts of a compose network, which nobody resolves here.
fn locally(text: &str) -> String {
    ["tidegate-1", "tidegate-2", "tidegate-3"]
        .iter()
        .fold(text.to_owned(), |text, host| text.replace(&format!(" {host}:"), " 127.0.0.1:"))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|why| Stopped(format!("{}: {why}", file.display())))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = folder.join(name);
    fs::write(&file, text).map_err(|why| Stopped(format!("{}: {why}", file.display())))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_sample_is_accepted_by_the_program_it_is_for() {
        if let Err(why) = super::check() {
            panic!("{why}");
        }
    }
}
