//! `cargo xtask demo`: sees to it that a load balancer is there, builds, and hands over to the harness.

use crate::build;
use crate::prerequisites::{C_COMPILER, Consent, HAPROXY, ensure};
use crate::run::{Result, Stopped, become_program, find_program};

pub(crate) fn run(consent: Consent, seconds: u64, rate: Option<u32>) -> Result {
    if !(10..=3_600).contains(&seconds) {
        return Err(Stopped("--seconds takes 10 to 3600: the script needs that long".to_owned()));
    }
    ensure(&[C_COMPILER], consent)?;
    // nginx does as well, where it is what people have.
    if find_program("nginx").is_none() {
        ensure(&[HAPROXY], consent)?;
    }
    if find_program("redis-server").is_none() {
        eprintln!("redis-server is not installed; it is optional");
    }
    let harness = build::harness("release")?;
    let mut arguments = vec!["demo".to_owned(), "--seconds".to_owned(), seconds.to_string()];
    if let Some(rate) = rate {
        arguments.extend(["--rate".to_owned(), rate.to_string()]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    become_program(&mut build::call(harness, &arguments))
}
