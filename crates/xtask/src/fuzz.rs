//! `cargo xtask fuzz`: every target of `tests/fuzz/` for a while. The corpora are replayed by ordinary tests; this
//! searches, from the corpus onwards. What it finds on the way goes to the ignored `tests/fuzz/target/found/`
//! (docs/fuzzing.md says how it gets into the corpus).

use std::fs;
use std::process::Command;

use crate::run::{Result, Stopped, find_program, root, run};

const HOME: &str = "tests/fuzz";

pub(crate) fn search(target: Option<&str>, seconds: u64) -> Result {
    let all = targets();
    let chosen: Vec<String> = match target {
        Some(one) if all.iter().any(|name| name == one) => vec![one.to_owned()],
        Some(one) => return Err(Stopped(format!("there is no fuzz target {one}; there are: {}", all.join(", ")))),
        None => all,
    };
    if chosen.is_empty() {
        return Err(Stopped(format!("{HOME}/fuzz_targets/ holds no targets")));
    }
    if find_program("cargo-fuzz").is_none() {
        return Err(Stopped(
            "install it first: rustup toolchain install nightly && cargo install --locked cargo-fuzz".to_owned(),
        ));
    }
    for name in chosen {
        let found = format!("{HOME}/target/found/{name}");
        fs::create_dir_all(root().join(&found)).map_err(|error| Stopped(format!("{found}: {error}")))?;
        run(&mut command(&name, &found, seconds))?;
    }
    Ok(())
}

fn command(name: &str, found: &str, seconds: u64) -> Command {
    let mut fuzz = Command::new("cargo");
    // The cargo that called us sets RUSTUP_TOOLCHAIN, which would win over +nightly.
    fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root());
    // No sanitizer: the crates hold no unsafe code on these paths, and without one it is several times faster.
    fuzz.args(["+nightly", "fuzz", "run", "--fuzz-dir", HOME, "--sanitizer", "none", name]);
    // New finds go to the first folder.
    fuzz.args([found, &format!("{HOME}/corpus/{name}"), "--"]);
    fuzz.args([&format!("-max_total_time={seconds}"), "-timeout=10", "-max_len=20480"]);
    let words = format!("{HOME}/{name}.dict");
    if root().join(&words).exists() {
        fuzz.arg(format!("-dict={words}"));
    }
    fuzz
}

fn targets() -> Vec<String> {
    let Ok(files) = fs::read_dir(root().join(HOME).join("fuzz_targets")) else { return Vec::new() };
    let mut names: Vec<String> =
        files.flatten().filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".rs")?.to_owned())).collect();
    names.sort();
    names
}
