//! `cargo xtask load`: sees to it that the others are there to compare with, builds, and hands over to the harness.

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, HAPROXY, NGINX, REDIS, VALGRIND, VARNISH, WRK, ensure};
use crate::run::{Result, become_program};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Matrix,
    Shared,
    Limits,
    Llm,
}

pub(crate) struct Order {
    pub(crate) what: What,
    pub(crate) quick: bool,
    pub(crate) only: Option<String>,
    /// Of the build.
    pub(crate) profile: Option<String>,
}

pub(crate) fn run(consent: Consent, order: &Order) -> Result {
    let Order { what, quick, only, profile } = order;
    match what {
        What::Matrix => ensure(&[C_COMPILER, NGINX, WRK, HAPROXY], consent)?,
        What::Shared => ensure(&[C_COMPILER, NGINX, WRK, REDIS, VARNISH], consent)?,
        What::Limits => ensure(&[C_COMPILER, REDIS], consent)?,
        What::Llm => ensure(&[C_COMPILER, NGINX, WRK], consent)?,
    }
    // Figures that are published come from the slow build.
    let usual = if *quick { "release" } else { "bench-fat" };
    let harness = build::harness(profile.as_deref().unwrap_or(usual))?;
    let mut arguments = vec![match what {
        What::Matrix => "matrix",
        What::Shared => "shared",
        What::Limits => "limits",
        What::Llm => "llm",
    }];
    if *quick {
        arguments.push("--quick");
    }
    if let Some(only) = only {
        arguments.extend(["--only", only]);
    }
    become_program(&mut build::call(harness, &arguments))
}

/// Counts, and compares with what is kept.
pub(crate) fn instructions(consent: Consent, keep: bool, only: Option<&str>) -> Result {
    ensure(&[C_COMPILER, NGINX, VALGRIND], consent)?;
    let harness = build::harness("perf")?;
    let mut arguments = vec!["instructions"];
    if keep {
        arguments.push("--keep");
    }
    if let Some(only) = only {
        arguments.extend(["--only", only]);
    }
    become_program(&mut build::call(harness, &arguments))
}
