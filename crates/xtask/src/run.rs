//! Running other programs: shown before they run, and an error that names them when they fail.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why a verb stopped. One line for the person who called it.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) String);

pub(crate) type Result<T = ()> = std::result::Result<T, Stopped>;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/xtask lies two folders below the root").to_owned()
}

/// The cargo that called us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// A heading for what comes next.
pub(crate) fn say(what: &str) {
    eprintln!("\x1b[1m── {what}\x1b[0m");
}

/// Shows the command and runs it to its end.
pub(crate) fn run(command: &mut Command) -> Result {
    say(&shown(command));
    let status = command.status().map_err(|why| not_started(command, &why))?;
    if status.success() { Ok(()) } else { Err(Stopped(format!("`{}` failed ({status})", shown(command)))) }
}

/// Runs quietly; what it said is shown only if it failed.
pub(crate) fn check(command: &mut Command) -> Result {
    let output = command.stdin(Stdio::null()).output().map_err(|why| not_started(command, &why))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(Stopped(format!("`{}` failed:\n{}", shown(command), String::from_utf8_lossy(&said).trim_end())))
}

/// Becomes the other program: signals and the terminal are its own. Returns only if it cannot be started.
pub(crate) fn become_program(command: &mut Command) -> Result {
    say(&shown(command));
    let why = command.exec();
    Err(not_started(command, &why))
}

fn not_started(command: &Command, why: &io::Error) -> Stopped {
    Stopped(format!("cannot run `{}`: {why}", shown(command)))
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let parts: Vec<_> = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    parts.join(" ")
}

/// Is the program there? Also looks in the folders that only root has on its PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into(), "/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
