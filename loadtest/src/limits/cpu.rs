//! CPU time to the nanosecond: what the scheduler charged to every thread. `utime + stime` count hundredths of a second,
//! too coarse for microseconds per decision over a few seconds.

use std::fs;
use std::time::Duration;

/// Of all threads that run now. Threads that ended are forgotten: for programs whose threads stay.
pub(super) fn of(pids: &[u32]) -> Duration {
    let nanos = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten()).flatten();
    Duration::from_nanos(
        nanos
            .filter_map(|task| {
                let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
                text.split_whitespace().next()?.parse::<u64>().ok()
            })
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_charged() {
        let us = [std::process::id()];
        let before = of(&us);
        let mut sum = 0_u64;
        for n in 0..20_000_000_u64 {
            sum = std::hint::black_box(sum ^ n.rotate_left(7));
        }
        assert!(of(&us) > before, "{sum}");
        assert_eq!(of(&[u32::MAX]), Duration::ZERO);
    }
}
