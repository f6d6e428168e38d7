//! How much memory this process may use and does: by its cgroup (version 2 or 1), by the machine, by what it was told.

use std::fs;
use std::path::{Path, PathBuf};

/// Above this a limit of version 1 means none.
const NO_LIMIT: u64 = 1 << 60;

#[derive(Debug)]
pub(super) struct Meter {
    /// What it was told, or what the machine has.
    own: Option<u64>,
    group: Option<Group>,
}

/// A cgroup that bounds this process.
#[derive(Debug)]
struct Group {
    limit: PathBuf,
    used: PathBuf,
    stat: PathBuf,
    /// The line of `stat` that says how much is cache that can be dropped.
    cache: &'static str,
}

impl Meter {
    /// `told`: what the node may use at most. `None`: there is no /proc.
    pub(super) fn find(told: Option<u64>) -> Option<Self> {
        let meter = Self { own: least(told, machine()), group: group() };
        meter.read().is_some().then_some(meter)
    }

    /// Used, and how much may be: of that of the two bounds which is nearer.
    pub(super) fn read(&self) -> Option<(u64, u64)> {
        let of_group = self.group.as_ref().and_then(Group::read);
        let own = self.own.and_then(|bound| Some((resident()?, bound)));
        match (own, of_group) {
            (Some(own), Some(group)) => Some(if share(own) > share(group) { own } else { group }),
            (own, group) => own.or(group),
        }
    }
}

fn share((used, bound): (u64, u64)) -> u64 {
    used.saturating_mul(10_000) / bound.max(1)
}

fn least(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

impl Group {
    fn read(&self) -> Option<(u64, u64)> {
        let limit = number(&self.limit)?;
        let cache = fs::read_to_string(&self.stat).ok().and_then(|stat| of_stat(&stat, self.cache)).unwrap_or(0);
        Some((number(&self.used)?.saturating_sub(cache), limit))
    }
}

fn of_stat(stat: &str, name: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// `max` is no number.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// The nearest group with a limit: its own, or one above it.
fn group() -> Option<Group> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (kind, path) = own_group(&text)?;
    let (root, limit, used, cache) = match kind {
        Kind::Two => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "),
        Kind::One => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
        }
    };
    let root = Path::new(root);
    let mut at = root.join(path.trim_start_matches('/'));
    // Within a container the path may be the host's: the root is the container's own group then.
    loop {
        if number(&at.join(limit)).is_some() && at.join(used).exists() {
            return Some(Group { limit: at.join(limit), used: at.join(used), stat: at.join("memory.stat"), cache });
        }
        if at == root || !at.pop() || !at.starts_with(root) {
            return None;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Two,
    One,
}

fn own_group(text: &str) -> Option<(Kind, &str)> {
    let of = |line: &'_ str| -> Option<(Kind, usize)> {
        let mut parts = line.splitn(3, ':');
        let (_number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let at = line.len() - path.len();
        match controllers {
            "" => Some((Kind::Two, at)),
            list if list.split(',').any(|one| one == "memory") => Some((Kind::One, at)),
            _ => None,
        }
    };
    let all = || text.lines().filter_map(|line| of(line).map(|(kind, at)| (kind, &line[at..])));
    // On mixed systems memory is the controller of version 1, if that names it.
    all().find(|(kind, _)| *kind == Kind::One).or_else(|| all().next())
}

fn machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * crate::process::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_in_both_versions() {
        assert_eq!(
            own_group("0::/system.slice/tidegate.service\n"),
            Some((Kind::Two, "/system.slice/tidegate.service"))
        );
        let mixed = "12:cpu,cpuacct:/a\n3:memory:/docker/x\n0::/b\n";
        assert_eq!(own_group(mixed), Some((Kind::One, "/docker/x")));
        assert_eq!(own_group("5:cpu:/a\n"), None);
    }

    #[test]
    fn what_is_measured_is_sane() {
        let (used, bound) = Meter::find(Some(1 << 50)).and_then(|meter| meter.read()).expect("there is a /proc");
        assert!(used > 100_000 && bound > used, "{used} of {bound}");
        let told = Meter { own: Some(1), group: None };
        assert!(told.read().is_some_and(|(used, bound)| used > bound));
        assert_eq!(of_stat("anon 5\ninactive_file 70\n", "inactive_file "), Some(70));
    }
}
