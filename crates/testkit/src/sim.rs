//! Deterministic simulation of the *shipped* ledger, protocol, holding, cell and reserve: whole clusters in one thread, in
//! no real time, with everything going wrong that the promise survives, and a judge who knows all.
//!
//! ```text
//!  clients ─▶ node (cell, holding, reserve) ◀─ lossy network ─▶ voters (little Raft around Ledger::apply)
//!               own drifting clock                                own drifting clock
//!                    └──────────── every admission, in true time ──▶ oracle
//! ```
//! A run is its seed: same seed, same run. Nothing here knows tokio, a socket or a real clock.
//! Called by `tests/sim.rs` (a slice of seeds in CI), `bin/sim.rs` (as many as there is time for) and the mutation gate.

mod calendar;
mod clock;
mod faults;
mod figures;
mod group;
mod known;
mod liveness;
mod node;
mod oracle;
mod orders;
mod publish;
mod random;
mod scenario;
mod world;

pub use figures::Figures;
use scenario::SECOND;
pub use scenario::{Family, Scenario};
use world::World;

/// What became of one run.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub seed: u64,
    /// Every broken promise; empty: none.
    pub broken: Vec<String>,
    /// Not only too slow to serve again: more was admitted than promised, or replicas differ.
    pub is_unsafe: bool,
    pub admissions: u64,
    pub entries: usize,
    /// Batches that nodes sent to the leader.
    pub batches: u64,
    pub asked: u64,
    pub refused: u64,
    /// How long 99 of 100 requests waited for their decision, in nanoseconds.
    pub waited_p99: f64,
    /// Admitted of what the first limit allows: the mean of its windows, after the start and after all faults.
    pub utilisation: f64,
}

impl Verdict {
    #[must_use]
    pub fn refused_share(&self) -> f64 {
        self.refused as f64 / self.asked.max(1) as f64
    }

    /// How to see it again.
    #[must_use]
    pub fn replay(&self) -> String {
        format!("cargo xtask sim --seeds 1 --from {} (TIDEGATE_SIM_TRACE=1 tells all that happens)", self.seed)
    }
}

/// Runs one scenario to its end and judges it.
#[must_use]
pub fn run(scenario: Scenario) -> Verdict {
    let (end, begins) = (scenario.duration, scenario.serves_again_at());
    let mut world = World::new(scenario);
    world.run_until(end);
    world.oracle.judge();
    world.judge_calendar();
    let is_unsafe = !world.oracle.broken.is_empty();
    world.judge_waiting();
    world.judge_alerts();
    let utilisation = world.utilisation(begins, end);
    for limit in 0..world.scenario.limits.len() {
        let (admitted, allowed) = world.used(limit, begins, end);
        let share = admitted as f64 / allowed;
        let demanded = world.desk.in_force(limit).window.0 == world.scenario.limits[limit].window;
        if demanded && world.scenario.must_serve(limit) && share < 0.4 {
            let seconds = (end - begins) / SECOND;
            world.oracle.broken(format!("limit {limit}: only {share:.3} of it admitted in the last {seconds} s"));
        }
    }
    if world.scenario.demand_ends < end && world.is_charged() {
        world.oracle.broken("nobody uses it, and something is charged for ever".into());
    }
    let (asked, refused) = world.oracle.refusals();
    let waited_p99 = world.oracle.waited(0.99);
    Verdict {
        seed: world.scenario.seed,
        admissions: world.oracle.admissions(),
        entries: world.history.len(),
        batches: world.batches,
        is_unsafe,
        asked,
        refused,
        waited_p99,
        utilisation,
        broken: std::mem::take(&mut world.oracle.broken),
    }
}
