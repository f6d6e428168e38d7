//! Seeded simulation of cluster life: the shipped replica, state, ledger, Raft settings, choice of voters and openraft itself,
//! on disks and a network that fail by the dice, in no real time.
//!
//! ```text
//!  clients ─▶ node: openraft ─▶ Replica ─▶ State or Ledger ── every applied entry ──▶ judge
//!               │ disk.rs: what was not fsynced may be lost          ▲
//!               └ net.rs: cut, slow, one-way ────────────────────────┘ acknowledged writes, reads, admissions
//! ```
//! One thread and tokio's paused clock: same seed, same run, in a program that may tell tokio its dice (`cargo xtask life`); in
//! others the faults are the same, and who is woken first is chance. What a run may not show: two commands at one index, two leaders for
//! one entry, two states after the same entry, an acknowledged write that is not there, a read that misses one, more admitted
//! than a limit allows, a cluster that does not come back when everything is whole again.

mod control;
mod dice;
mod disk;
mod faults;
mod judge;
mod leases;
mod net;
mod world;

use std::future::Future;
use std::time::Duration;

use judge::Judge;

use crate::runtime;
use crate::wire::GroupId;

/// How long things go wrong, and how long they are whole afterwards before the judge looks.
const TROUBLE: Duration = Duration::from_secs(40);
const PEACE: Duration = Duration::from_secs(30);

/// What became of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub seed: u64,
    /// Every broken promise; empty: none.
    pub broken: Vec<String>,
    pub faults: u64,
    /// Entries that were applied, each counted once.
    pub entries: u64,
    pub acknowledged: u64,
    pub reads: u64,
    pub admitted: u64,
    /// Of everything that was applied, in its order: two runs of one seed have the same.
    pub trace: [u8; 32],
}

/// One life of a cluster. Even seeds are of the control group, odd ones of the quota group. `tells`: the story goes to
/// standard error.
///
/// # Panics
/// When there is no room for a folder of snapshots.
#[must_use]
pub fn run(seed: u64, tells: bool) -> Verdict {
    simulated(seed, async move {
        match seed % 2 {
            0 => control::live(seed, GroupId::Control, Judge::new(tells)).await,
            _ => leases::live(seed, GroupId::Quota(0), Judge::new(tells)).await,
        }
    })
}

/// On a thread and a clock of its own.
fn simulated<T>(seed: u64, life: impl Future<Output = T>) -> T {
    runtime::load(Some(seed));
    let mut tokio = tokio::runtime::Builder::new_current_thread();
    // Who watches the same value is woken in an order that tokio draws.
    #[cfg(tokio_unstable)]
    tokio.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let tokio = tokio.enable_time().start_paused(true).build().expect("a thread and a clock");
    let outcome = tokio.block_on(life);
    drop(tokio);
    runtime::load(None);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(tokio_unstable)]
    #[test]
    fn a_run_is_its_seed() {
        for seed in [4, 5] {
            let (first, again) = (run(seed, false), run(seed, false));
            assert_eq!(first, again);
            assert!(first.entries > 100 && first.faults > 5, "{first:?}");
        }
    }

    #[test]
    fn a_slice_of_seeds_breaks_nothing() {
        for seed in 0..4 {
            let verdict = run(seed, false);
            assert!(verdict.broken.is_empty(), "{verdict:#?}");
        }
    }
}
