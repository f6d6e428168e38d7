//! Requests at a fixed rate, whatever is spoken: how long they take, and what the contender uses meanwhile.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::Effort;
use super::client::{self, Session, Trust, Wire};
use super::contender::Doors;
use super::fast::AT_ONCE;
use crate::generator::Load;
use crate::linux;
use crate::matrix::measure::{PerRequest, last_cpu};
use crate::usage::Usage;

#[derive(Debug, Clone, Copy)]
pub(super) struct Paced {
    pub(super) cpu: PerRequest,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
}

/// Who is asked, and whose CPU time counts.
pub(super) struct Target<'a> {
    pub(super) doors: &'a Doors,
    pub(super) headers: &'a [(String, String)],
    pub(super) groups: &'a [u32],
}

pub(super) fn measure(
    target: &Target<'_>,
    wire: Wire,
    path: &str,
    rate: f64,
    trust: &Trust,
    effort: Effort,
) -> Result<Paced> {
    ensure!(!linux::asked_to_stop(), "stopped");
    // The same for the warm-up: who resumes has tickets when it counts.
    let sessions: Vec<_> = (0..AT_ONCE).map(|_| trust.session(wire)).collect();
    let load = || {
        let call = |session: &Session| client::call(wire, target.doors, path, target.headers, session.clone());
        Load::calling(rate, Vec::new(), sessions.iter().map(call).collect())
    };
    // In a thread of its own, so that only the generator is pinned (new threads inherit it).
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            linux::pin_this_thread(&[last_cpu()])?;
            let mut warm = load();
            thread::sleep(effort.warm_up);
            warm.stop();
            let before = Usage::of(target.groups);
            let mut load = load();
            thread::sleep(effort.paced);
            load.stop();
            let used = Usage::of(target.groups) - before;
            let counts = load.counts();
            let missed = counts.total() - counts.admitted;
            let why = load.failures().first().map(|failure| failure.what.clone()).unwrap_or_default();
            ensure!(missed == 0, "{missed} of {} requests were not admitted: {why}", counts.total());
            Ok(Paced { cpu: PerRequest::of(used, counts.total()), p50: load.latency(0.5), p99: load.latency(0.99) })
        });
        run.join().map_err(|_| anyhow!("the generator panicked"))?
    })
}
