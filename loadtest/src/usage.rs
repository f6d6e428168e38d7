//! What process groups used: CPU time, user and system apart, and memory, read from `/proc`.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

/// Of all processes in some process groups together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) resident_bytes: u64,
}

impl Usage {
    /// `groups`: the pids of the groups' leaders, as [`crate::process::Process`] starts them.
    pub(crate) fn of(groups: &[u32]) -> Self {
        let Ok(processes) = fs::read_dir("/proc") else { return Self::default() };
        processes
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
            .filter_map(|entry| {
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                let (group, usage) = parse_stat(&stat)?;
                groups.contains(&group).then_some(usage)
            })
            .fold(Self::default(), |sum, one| Self {
                user: sum.user + one.user,
                system: sum.system + one.system,
                resident_bytes: sum.resident_bytes + one.resident_bytes,
            })
    }
}

impl Sub for Usage {
    type Output = Self;

    /// CPU time since `earlier`; memory as it is now.
    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            resident_bytes: self.resident_bytes,
        }
    }
}

/// See proc(5): after the name in parentheses come state, ppid, pgrp, …, utime (14th), stime (15th), …, rss (24th).
fn parse_stat(stat: &str) -> Option<(u32, Usage)> {
    const TICK: Duration = Duration::from_millis(10); // USER_HZ is 100 on every Linux that Rust supports
    const PAGE: u64 = 4096;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let field = |nth: usize| fields.get(nth - 3)?.parse::<u64>().ok();
    let ticks = |nth| field(nth).map(|ticks| TICK * u32::try_from(ticks).unwrap_or(u32::MAX));
    let usage = Usage { user: ticks(14)?, system: ticks(15)?, resident_bytes: field(24)? * PAGE };
    Some((u32::try_from(field(5)?).ok()?, usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "77 (a) b) S 1 42 42 0 -1 4194304 1 0 0 0 150 25 0 0 20 0 1 0 100 999 10 0";
        let usage =
            Usage { user: Duration::from_millis(1500), system: Duration::from_millis(250), resident_bytes: 10 * 4096 };
        assert_eq!(parse_stat(stat), Some((42, usage)));
    }

    #[test]
    fn our_own_group_uses_memory() {
        let stat = fs::read_to_string("/proc/self/stat").expect("linux");
        let (group, _) = parse_stat(&stat).expect("parses");
        assert!(Usage::of(&[group]).resident_bytes > 0);
        assert_eq!(Usage::of(&[u32::MAX]), Usage::default());
    }
}
