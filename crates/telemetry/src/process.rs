//! What the kernel says about this process, read at each scrape.

use std::fs;

/// `USER_HZ`, in which /proc counts CPU time: 100 on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) struct Usage {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) open_fds: u64,
    pub(crate) threads: u64,
}

/// `None` where there is no /proc.
pub(crate) fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the command in parentheses, may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Usage {
        user_seconds: ticks(11)? / TICKS_PER_SECOND,
        system_seconds: ticks(12)? / TICKS_PER_SECOND,
        resident_bytes: kilobytes.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024,
        // The folder's own descriptor is one of them.
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as u64,
        threads: fields.get(17)?.parse().ok()?,
    })
}
