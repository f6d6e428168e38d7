//! `cargo xtask load`: sees to it that the others are there to compare with, builds, and hands over to the harness.

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, HAPROXY, NGINX, REDIS, VARNISH, WRK, ensure};
use crate::run::{Result, become_program};

pub(crate) fn run(consent: Consent, quick: bool, shared: bool, only: Option<&str>) -> Result {
    ensure(&[C_COMPILER, NGINX, WRK], consent)?;
    ensure(if shared { &[REDIS, VARNISH] } else { &[HAPROXY] }, consent)?;
    // Figures that are published come from the slow build.
    let harness = build::harness(if quick { "release" } else { "bench-fat" })?;
    let mut arguments = vec![if shared { "shared" } else { "matrix" }];
    if quick {
        arguments.push("--quick");
    }
    if let Some(only) = only {
        arguments.extend(["--only", only]);
    }
    become_program(&mut build::call(harness, &arguments))
}
