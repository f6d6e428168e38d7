//! `cargo xtask soak`: builds, and hands over to the harness.

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, ensure};
use crate::run::{Result, Stopped, become_program, find_program};

/// How long and how hard.
pub(crate) struct Order {
    pub(crate) seconds: u64,
    /// Short requests per second.
    pub(crate) rate: Option<u32>,
    /// Of the build.
    pub(crate) profile: String,
}

pub(crate) fn run(consent: Consent, order: &Order) -> Result {
    if !(60..=86_400).contains(&order.seconds) {
        return Err(Stopped("--seconds takes 60 to 86400: in less time nothing can pile up".to_owned()));
    }
    ensure(&[C_COMPILER], consent)?;
    if find_program("redis-server").is_none() {
        eprintln!("redis-server is not installed: the soak goes without it, and says so");
    }
    let harness = build::harness(&order.profile)?;
    let mut arguments = vec!["soak".to_owned(), "--seconds".to_owned(), order.seconds.to_string()];
    if let Some(rate) = order.rate {
        arguments.extend(["--rate".to_owned(), rate.to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    become_program(&mut build::call(harness, &arguments))
}
