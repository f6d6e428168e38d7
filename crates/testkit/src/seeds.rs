//! Many simulations on all cores, with what becomes of them told while they run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sim::{Scenario, Verdict, run};

/// How often progress is told.
const TOLD: Duration = Duration::from_secs(5);

/// What became of a range of seeds.
#[derive(Debug, Default)]
pub struct Tally {
    pub runs: u64,
    pub admissions: u64,
    /// Of the runs that broke a promise.
    pub broken: Vec<Verdict>,
}

/// Runs `from..from + count`, as many at a time as there are cores. `tell` hears of the tally now and then, and of each
/// broken run at once.
#[must_use]
pub fn run_all(from: u64, count: u64, tell: impl Fn(&Tally, Option<&Verdict>) + Sync) -> Tally {
    let next = AtomicU64::new(0);
    let shared = Mutex::new((Tally::default(), Instant::now()));
    on_all_cores(|| {
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= count {
                return;
            }
            let verdict = run(Scenario::draw(from + nth));
            let (tally, told) = &mut *shared.lock().expect("no panic while it is held");
            tally.runs += 1;
            tally.admissions += verdict.admissions;
            if !verdict.broken.is_empty() {
                tell(tally, Some(&verdict));
                tally.broken.push(verdict);
            } else if told.elapsed() >= TOLD {
                *told = Instant::now();
                tell(tally, None);
            }
        }
    });
    shared.into_inner().expect("no panic while it was held").0
}

/// Runs the same on every core at once.
pub fn on_all_cores(work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(&work);
        }
    });
}
