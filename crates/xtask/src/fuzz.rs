//! `cargo xtask fuzz`: every target of `fuzz/` for a while. The corpora are replayed by ordinary tests; this searches.

use std::fs;
use std::process::Command;

use crate::run::{Result, Stopped, find_program, root, run};

pub(crate) fn search(target: Option<&str>, seconds: u64) -> Result {
    let all = targets();
    let chosen: Vec<String> = match target {
        Some(one) if all.iter().any(|name| name == one) => vec![one.to_owned()],
        Some(one) => return Err(Stopped(format!("there is no fuzz target {one}; there are: {}", all.join(", ")))),
        None => all,
    };
    if chosen.is_empty() {
        return Err(Stopped("fuzz/fuzz_targets/ holds no targets".to_owned()));
    }
    if find_program("cargo-fuzz").is_none() {
        return Err(Stopped(
            "install it first: rustup toolchain install nightly && cargo install --locked cargo-fuzz".to_owned(),
        ));
    }
    for name in chosen {
        let mut fuzz = Command::new("cargo");
        // The cargo that called us sets RUSTUP_TOOLCHAIN, which would win over +nightly.
        fuzz.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").current_dir(root());
        fuzz.args(["+nightly", "fuzz", "run", &name, "--", &format!("-max_total_time={seconds}"), "-timeout=10"]);
        run(&mut fuzz)?;
    }
    Ok(())
}

fn targets() -> Vec<String> {
    let Ok(files) = fs::read_dir(root().join("fuzz/fuzz_targets")) else { return Vec::new() };
    let mut names: Vec<String> =
        files.flatten().filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".rs")?.to_owned())).collect();
    names.sort();
    names
}
