//! `cargo xtask cache-tests`: a real node against the public suite of HTTP caching (`http-cache-tests` from npm, fetched
//! once into target/). The run itself is `tests/cache/run.mjs`.

use std::process::Command;

use crate::run::{Result, Stopped, cargo, find_program, root, run, target};

pub(crate) fn suite(only: Option<&str>) -> Result {
    for program in ["node", "npm", "tar"] {
        if find_program(program).is_none() {
            return Err(Stopped(format!("`{program}` is missing: install Node.js 18 or newer, with npm")));
        }
    }
    run(cargo().args(["build", "--locked", "--package", "tidegate"]))?;
    let mut suite = Command::new("node");
    suite.current_dir(root()).args(["--no-warnings", "tests/cache/run.mjs"]);
    suite.arg(target().join("debug").join("tidegate")).arg(target().join("cache-tests")).args(only);
    run(&mut suite)
}
