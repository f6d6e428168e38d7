//! Directed scenarios, for promises that random faults break too rarely, or that no window tells of.

use crate::sim::{Scenario, run};

type Check = (&'static str, fn() -> Result<(), String>);

pub const ALL: &[Check] = &[("an idle cluster forgets what nobody uses", idle_cluster_forgets)];

fn idle_cluster_forgets() -> Result<(), String> {
    nothing_broken(Scenario::deserted(1))
}

fn nothing_broken(scenario: Scenario) -> Result<(), String> {
    run(scenario).broken.into_iter().next().map_or(Ok(()), Err)
}
