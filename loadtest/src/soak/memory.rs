//! What a process holds, as the kernel tells it: memory (`Rss` and `Anonymous` of `/proc/PID/smaps_rollup`), descriptors
//! and threads; and how fast one of them grows.

use std::fs;
use std::time::Duration;

/// One look at one process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// All that is resident, the program itself included.
    pub(super) rss: u64,
    /// What it allocated: no file lies behind it.
    pub(super) anonymous: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
}

impl Held {
    /// `None`: there is no such process any more.
    pub(super) fn by(pid: u32) -> Option<Self> {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let kib = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).ok().map(|all| all.count() as u64);
        Some(Self {
            rss: kib("Rss")? * 1024,
            anonymous: kib("Anonymous")? * 1024,
            descriptors: count("fd")?,
            threads: count("task")?,
        })
    }
}

/// A look, and when it was since the load began.
pub(super) type Look = (Duration, Held);

/// By least squares, per minute; 0 of fewer than two looks.
#[expect(clippy::cast_precision_loss, reason = "what a machine holds is far below 2^52")]
pub(super) fn slope_per_minute(looks: &[Look], what: impl Fn(&Held) -> u64) -> f64 {
    let points: Vec<(f64, f64)> = looks.iter().map(|(at, held)| (at.as_secs_f64() / 60.0, what(held) as f64)).collect();
    let count = points.len().max(1) as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if spread == 0.0 {
        return 0.0;
    }
    points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(of: impl Fn(u64) -> u64) -> Vec<Look> {
        (0..60).map(|nth| (Duration::from_secs(nth * 5), Held { rss: of(nth), ..Held::default() })).collect()
    }

    #[test]
    fn what_grows_by_a_megabyte_each_minute_has_that_slope_and_what_sways_has_none() {
        let grows = slope_per_minute(&looks(|nth| 50_000_000 + nth * 5 * 1_000_000 / 60), |held| held.rss);
        assert!((grows - 1e6).abs() < 1e3, "{grows}");
        let sways = slope_per_minute(&looks(|nth| 50_000_000 + nth % 2 * 1_000_000), |held| held.rss);
        assert!(sways.abs() < 20_000.0, "{sways}");
        assert_eq!(
            (slope_per_minute(&[], |held| held.rss), slope_per_minute(&looks(|_| 7), |held| held.rss)),
            (0.0, 0.0)
        );
    }

    #[test]
    fn this_process_holds_something_and_one_that_is_gone_nothing() {
        let held = Held::by(std::process::id()).expect("linux");
        assert!(held.rss > 1 << 20 && held.anonymous > 0 && held.descriptors >= 3 && held.threads >= 1, "{held:?}");
        assert!(Held::by(u32::MAX).is_none());
    }
}
