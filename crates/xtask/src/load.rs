//! `cargo xtask load`: sees to it that the others are there to compare with, builds, and hands over to the harness.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::prerequisites::{C_COMPILER, CADDY, Consent, H2LOAD, HAPROXY, NGINX, REDIS, VALGRIND, VARNISH, WRK, ensure};
use crate::run::{Result, become_program, say};
use crate::{build, pgo, places};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Matrix,
    Speed,
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
    /// What [`crate::pgo`] built instead.
    pub(crate) trained: bool,
}

pub(crate) fn run(consent: Consent, order: &Order) -> Result {
    let Order { what, quick, only, profile, trained } = order;
    match what {
        What::Matrix => ensure(&[C_COMPILER, NGINX, WRK, HAPROXY], consent)?,
        // Of the contenders only nginx must be there: what is missing is left out, and named.
        What::Speed => ensure(&[C_COMPILER, NGINX, WRK, H2LOAD, HAPROXY, CADDY], consent)?,
        What::Shared => ensure(&[C_COMPILER, NGINX, WRK, REDIS, VARNISH], consent)?,
        What::Limits => ensure(&[C_COMPILER, REDIS], consent)?,
        What::Llm => ensure(&[C_COMPILER, NGINX, WRK], consent)?,
    }
    // Figures that are published come from the slow build.
    let usual = if *quick && !trained { "release" } else { "bench-fat" };
    let harness =
        if *trained { build::harness_alone(usual) } else { build::harness(profile.as_deref().unwrap_or(usual)) }?;
    let mut arguments = vec![match what {
        What::Matrix => "matrix",
        What::Speed => "speed",
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
    let mut call = build::call(harness, &arguments);
    if *trained {
        call.arg("--tidegate").arg(pgo::trained()?);
    }
    if *what == What::Speed {
        with_envoy(&mut call);
    }
    become_program(&mut call)
}

/// Where PyPI is out of reach it is left out like any other contender.
fn with_envoy(call: &mut Command) {
    let python = match places::python("speed") {
        Ok(python) => python,
        Err(why) => return say(&format!("without Envoy: {why}")),
    };
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = python.parent().map(Path::to_owned).into_iter().chain(env::split_paths(&path));
    if let Ok(path) = env::join_paths(folders) {
        call.env("PATH", path);
    }
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
