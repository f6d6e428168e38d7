//! `cargo xtask lint`: what can be said about the code without running it.

use crate::deploy;
use crate::run::{Result, cargo, find_program, run, say};

pub(crate) fn all(fix: bool) -> Result {
    let mut format = cargo();
    format.args(["fmt", "--all"]);
    if !fix {
        format.arg("--check");
    }
    run(&mut format)?;
    run(cargo().args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    if find_program("cargo-deny").is_some() {
        run(cargo().args(["deny", "--workspace", "--locked", "check", "bans", "licenses", "sources"]))?;
    } else {
        say("skipped: cargo deny (cargo install --locked cargo-deny@0.20.2)");
    }
    deploy::check()
}
