//! `cargo xtask load`: sees to it that the others are there to compare with, builds, and hands over to the harness.

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, HAPROXY, NGINX, REDIS, VARNISH, WRK, ensure};
use crate::run::{Result, become_program};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Matrix,
    Shared,
    Limits,
}

pub(crate) fn run(consent: Consent, quick: bool, what: What, only: Option<&str>) -> Result {
    match what {
        What::Matrix => ensure(&[C_COMPILER, NGINX, WRK, HAPROXY], consent)?,
        What::Shared => ensure(&[C_COMPILER, NGINX, WRK, REDIS, VARNISH], consent)?,
        What::Limits => ensure(&[C_COMPILER, REDIS], consent)?,
    }
    // Figures that are published come from the slow build.
    let harness = build::harness(if quick { "release" } else { "bench-fat" })?;
    let mut arguments = vec![match what {
        What::Matrix => "matrix",
        What::Shared => "shared",
        What::Limits => "limits",
    }];
    if quick {
        arguments.push("--quick");
    }
    if let Some(only) = only {
        arguments.extend(["--only", only]);
    }
    become_program(&mut build::call(harness, &arguments))
}
